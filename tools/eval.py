#!/usr/bin/env python3
"""Evaluate a tuned network on the test data of a config: `ppadapt eval` from a checkout."""
from _run import run

if __name__ == "__main__":
    run("eval")
