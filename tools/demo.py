#!/usr/bin/env python3
"""Adapt the small pretrained ViT to scikit-learn's digits: a linear probe against AdaptFormer, in three minutes."""
import argparse

from _run import run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default="output/demo", metavar="DIR", help="where the results go (%(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="of training (%(default)s)")
    args = parser.parse_args()
    from pathlib import Path

    from ppadapt.runs import compare, comparison, experiment, pictures

    here, folder = Path(__file__).resolve().parent.parent, Path(args.folder)
    config = here / "configs/digits/vit_micro_adaptformer.yaml"
    rows = compare.compare(config, ["linear", "adaptformer"], [0], folder, [f"Global.epochs={args.epochs}"])
    run_folder = folder / rows[1]["runs"][0]["folder"]
    test, served, answers = experiment.predict_test(run_folder, 32)
    picture = folder / "predictions.png"
    pictures.predictions([test.image(i) for i in range(32)], test.labels[:32], answers, served.task, test.classes,
                         picture, "AdaptFormer on test digits, by writers that training has not seen")
    print(f"\n{comparison.table(rows)}\n\n"
          f"The frozen network is 5.4 MB and the same for both; a task is one tuned file.\n"
          f"predictions on test images: {picture}\n"
          f"curves:                     visualdl --logdir {folder}\n"
          f"tuned file:                 {run_folder / 'best_model.safetensors'}")


if __name__ == "__main__":
    run(main)
