#!/usr/bin/env python3
"""Convert published checkpoints, and tuned files back to the authors' PyTorch: `ppadapt convert` from a checkout."""
from _run import run

if __name__ == "__main__":
    run("convert")
