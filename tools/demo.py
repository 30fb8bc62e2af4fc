#!/usr/bin/env python3
"""Adapt the small network that ships to handwritten digits: `ppadapt demo` from a checkout."""
from _run import run

if __name__ == "__main__":
    run("demo")
