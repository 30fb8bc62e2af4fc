"""List the configs that ship, with the first line of each, or show one with all that it is based on.

Any of these names goes after -c, and after `_base_:` in a config of yours.
"""
from __future__ import annotations

from .common import parser as command_parser

EXAMPLES = """\
  ppadapt configs
  ppadapt configs cifar10 adaptformer
  ppadapt configs --show digits/vit_micro_adaptformer > my.yaml
"""


def main(arguments: list[str]) -> None:
    parser = command_parser("configs", __doc__, EXAMPLES)
    parser.add_argument("words", nargs="*", metavar="WORD", help="list those whose name has all of these")
    parser.add_argument("--show", metavar="NAME", help="print one, resolved: a file of its own that can be changed")
    args = parser.parse_args(arguments)
    from ..config import shipped
    from ..errors import UserError

    if args.show:
        from .. import config
        from ..config.reading import yaml_text

        print(yaml_text(config.load(args.show).to_dict()), end="")
        return
    listed = [name for name in shipped.names() if all(word.lower() in name.lower() for word in args.words)]
    if not listed:
        raise UserError(f"no config that ships has {' and '.join(map(repr, args.words))} in its name: `ppadapt "
                        "configs` lists them all")
    width = max(map(len, listed))
    for name in listed:
        print(f"{name:<{width}}  {shipped.headline(name)}")
