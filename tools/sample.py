#!/usr/bin/env python3
"""Draw the sample of CIFAR-10 that the published results are of from the official archive.

docs/results/cifar10_sample.txt names its images in order, by the SHA-256 of their pixels and label.
"""
from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
from _run import guarded

from ppadapt import files
from ppadapt.data import archives
from ppadapt.data.cifar import CIFAR10
from ppadapt.errors import UserError

LIST = Path(__file__).resolve().parent.parent / "docs" / "results" / "cifar10_sample.txt"
DIGITS = 16  # of a checksum: enough to tell 60,000 images apart


def checksums(images: np.ndarray, labels: np.ndarray) -> list[str]:
    """Of each image and its label: uint8 [N, 32, 32, 3], int [N] below 256."""
    return [hashlib.sha256(image.tobytes() + bytes([label])).hexdigest()[:DIGITS]
            for image, label in zip(images, labels)]


def listed(path: Path) -> dict[str, list[str]]:
    """"train" and "test" -> the checksums of the sample's images.

    Raises:
        UserError: for what is no such list.
    """
    found: dict[str, list[str]] = {"train": [], "test": []}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                split, checksum = line.split()
                found[split].append(checksum)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--list {path} cannot be read ({error}): its lines are 'train CHECKSUM' or 'test CHECKSUM', "
                        f"as in {LIST}") from None
    return found


def draw(data: CIFAR10, wanted: list[str], where: Path) -> archives.Split:
    """The wanted images in their order, and their labels.

    Raises:
        UserError: where some of them are not in the data.
    """
    at = {checksum: i for i, checksum in reversed(list(enumerate(checksums(data.images, data.labels))))}
    missing = sum(checksum not in at for checksum in wanted)
    if missing:
        raise UserError(f"{where} lacks {missing:,} of the sample's {len(wanted):,} {data.split} images: give the "
                        f"official archive, {CIFAR10.archive}, or the folder to download it to")
    rows = np.array([at[checksum] for checksum in wanted], np.int64)
    return data.images[rows], {"labels": data.labels[rows]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, default=Path("dataset"), metavar="PATH",
                        help="the official archive, its folder, or where to download it (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("cifar10_sample.tar.gz"), metavar="FILE",
                        help="the archive to write (%(default)s)")
    parser.add_argument("--list", type=Path, default=LIST, metavar="FILE", help="which images (%(default)s)")
    args = parser.parse_args()
    files.check_writable(args.output.parent, "--output")
    wanted = listed(args.list)
    data = {split: CIFAR10(split, root=str(args.cifar10)) for split in ("train", "test")}
    splits = {split: draw(data[split], wanted[split], args.cifar10) for split in data}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    archives.write(args.output, CIFAR10, splits, {"label_names": data["train"].classes})
    print(f"written: {args.output}, " + " and ".join(f"{len(wanted[split]):,} {split} images" for split in data))
    return 0


if __name__ == "__main__":
    guarded(main)
