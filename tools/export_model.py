#!/usr/bin/env python3
"""Export a tuned network for serving, and check that it answers as dygraph does: `ppadapt export` from a checkout."""
from _run import run

if __name__ == "__main__":
    run("export")
