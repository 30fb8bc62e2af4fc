#!/usr/bin/env python3
"""Answers for an image, a folder of images or a glob: `ppadapt infer` from a checkout."""
from _run import run

if __name__ == "__main__":
    run("infer")
