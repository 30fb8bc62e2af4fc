"""What the tools share: importing from a checkout, and a user's mistake in one line instead of a traceback."""
from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
# Paddle looks for ccache at every import, though only building extensions would need it.
warnings.filterwarnings("ignore", message="No ccache found")


def config_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """A parser with -c and -o, as PaddleClas's tools have them."""
    parser = argparse.ArgumentParser(description=description, epilog="examples:\n" + examples,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="YAML config, such as those in configs/")
    parser.add_argument("-o", "--override", action="append", default=[], metavar="A.b=c",
                        help="change one value of the config; may be given many times")
    return parser


def run(main: Callable[[], None]) -> None:
    """Call a tool. A user's mistake ends in one line and exit code 1; Ctrl-C in exit code 130."""
    from ppadapt.errors import UserError

    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
