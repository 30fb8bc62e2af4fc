"""Digits in the form of CIFAR's archives."""
import numpy as np

from ppadapt.data import DATASETS
from ppadapt.data.stand_in import stand_in


def test_the_archives_are_read_as_cifar_s(tmp_path):
    paths = stand_in(tmp_path / "data")
    assert sorted(paths) == ["cifar-10-python.tar.gz", "cifar-100-python.tar.gz"]
    digits = DATASETS["Digits"]("test")
    ten = DATASETS["CIFAR10"]("test", root=paths["cifar-10-python.tar.gz"], download=False)
    hundred = DATASETS["CIFAR100"]("test", root=tmp_path / "data", download=False)
    assert ten.images.shape == (500, 32, 32, 3) and len(DATASETS["CIFAR10"]("train", root=tmp_path / "data")) == 1297
    np.testing.assert_array_equal(ten.labels, digits.labels)
    np.testing.assert_array_equal(ten.images, hundred.images)
    assert len(hundred.classes) == len(set(hundred.classes)) == 100 and hundred.classes[30] == "red 3"
    np.testing.assert_array_equal(hundred.labels // 10, digits.labels)
    # Ink where the digit has ink: the darkest colour channel follows the grey digit.
    ink = 255 - ten.images.min(axis=-1).astype(float)
    small = ink.reshape(500, 8, 4, 8, 4).mean((2, 4))
    grey = digits.images[..., 0].astype(float)
    assert np.corrcoef(small.ravel(), grey.ravel())[0, 1] > 0.9


def test_the_same_seed_draws_the_same(tmp_path):
    first, again = (stand_in(tmp_path / name) for name in "ab")
    read = [DATASETS["CIFAR10"]("train", root=paths["cifar-10-python.tar.gz"]).images for paths in (first, again)]
    np.testing.assert_array_equal(*read)
