#!/usr/bin/env python3
"""Train several methods on the same data and draw one table: `ppadapt compare` from a checkout."""
from _run import run

if __name__ == "__main__":
    run("compare")
