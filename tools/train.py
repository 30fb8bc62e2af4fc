#!/usr/bin/env python3
"""Train a tuning method on a frozen network: `ppadapt train` from a checkout."""
from _run import run

if __name__ == "__main__":
    run("train")
