#!/usr/bin/env python3
"""Make the images of configs/mosaic: `ppadapt mosaics` from a checkout."""
from _run import run

if __name__ == "__main__":
    run("mosaics")
