"""Export a tuned network for serving, and check that it answers as dygraph does."""
from __future__ import annotations

from pathlib import Path

from .common import config_parser

EXAMPLES = """\
  ppadapt export -c cifar10/vit_micro_adaptformer \\
      -o Global.pretrained_model=output/.../best_model.safetensors --output inference/
  ppadapt export -c ... -o Global.pretrained_model=... --output onnx/ --format onnx
  ppadapt infer --exported inference/ -o Infer.infer_imgs=photos/
The folder holds the model, its preprocessing and its class names. Nothing is written where the check fails.
"""


def main(arguments: list[str]) -> None:
    parser = config_parser("export", __doc__, EXAMPLES)
    parser.add_argument("--output", type=Path, default=Path("inference"), metavar="FOLDER", help="(%(default)s)")
    parser.add_argument("--format", help="paddle (.json, the default from Paddle 3 on), paddle-2.6 (.pdmodel), or "
                        "onnx (pip install 'ppadapt[onnx]')")
    parser.add_argument("--tolerance", type=float, default=1e-4, metavar="D",
                        help="largest difference of a log-probability from dygraph's (%(default)s)")
    parser.add_argument("--force", action="store_true", help="replace an exported folder that is there")
    args = parser.parse_args(arguments)
    from .. import config, log
    from ..errors import printable
    from ..serve import service as serving

    loaded = config.load(args.config, args.override)
    log.setup(notes=loaded.notes, facts=loaded.facts)
    difference = serving.export_model(loaded, args.output, args.format, args.tolerance, args.force)
    print(f"largest difference of a log-probability from dygraph's: {difference:.1e} (tolerance {args.tolerance:.0e})")
    for path in sorted(args.output.iterdir()):
        print(f"{printable(path)}  {path.stat().st_size / 1e6:.2f} MB")
