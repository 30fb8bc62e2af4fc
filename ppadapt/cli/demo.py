"""Adapt the small pretrained ViT to scikit-learn's digits: a linear probe against AdaptFormer, in three minutes."""
from __future__ import annotations

from pathlib import Path

from .common import parser as command_parser


def main(arguments: list[str]) -> None:
    parser = command_parser("demo", __doc__, "  ppadapt demo\n  ppadapt demo --epochs 1 --folder /tmp/demo")
    parser.add_argument("--folder", type=Path, default=Path("output/demo"), metavar="DIR",
                        help="where the results go (%(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="of training (%(default)s)")
    args = parser.parse_args(arguments)
    from .. import config
    from ..runs import compare, comparison, experiment, pictures

    folder = args.folder
    rows = compare.compare(config.find("digits/vit_micro_adaptformer"), ["linear", "adaptformer"], [0], folder,
                           [f"Global.epochs={args.epochs}"])
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
