"""tools/sample.py: the sample of the results, drawn from an archive by the images' checksums."""
import sys
from pathlib import Path

import numpy as np
import pytest
from test_data_cifar import make_cifar10

from ppadapt.data.cifar import CIFAR10

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sample(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import sample
    return sample


def test_a_sample_is_the_listed_images_in_their_order_with_their_labels(sample, tmp_path, monkeypatch, capsys):
    make_cifar10(tmp_path / "dataset", per_batch=20)
    rows = {"train": [70, 3, 41, 12, 99], "test": [19, 0]}
    whole = {split: CIFAR10(split, root=str(tmp_path / "dataset")) for split in rows}
    names = tmp_path / "list.txt"
    names.write_text("# of a test\n" + "".join(f"{split} {checksum}\n" for split, chosen in rows.items()
                                               for checksum in sample.checksums(whole[split].images[chosen],
                                                                                   whole[split].labels[chosen])))
    monkeypatch.setattr(sys, "argv", ["sample.py", "--cifar10", str(tmp_path / "dataset"), "--list", str(names),
                                      "--output", str(tmp_path / "sample.tar.gz")])
    assert sample.main() == 0 and "5 train images and 2 test images" in capsys.readouterr().out
    for split, chosen in rows.items():
        drawn = CIFAR10(split, root=str(tmp_path / "sample.tar.gz"))
        assert np.array_equal(drawn.images, whole[split].images[chosen])
        assert drawn.labels.tolist() == whole[split].labels[chosen].tolist() and drawn.classes == whole[split].classes


def test_an_archive_without_the_images_is_refused(sample, tmp_path):
    make_cifar10(tmp_path / "dataset", per_batch=20)
    data = CIFAR10("test", root=str(tmp_path / "dataset"))
    with pytest.raises(sample.UserError, match="lacks 1 of the sample's 2 test images: give the official archive"):
        sample.draw(data, [*sample.checksums(data.images[:1], data.labels[:1]), "0" * 16], tmp_path)


@pytest.mark.parametrize("text", [None, "train\n", "valid 0123\n"])
def test_what_is_no_list_is_refused(sample, tmp_path, text):
    path = tmp_path / "list.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(sample.UserError, match="--list .*list.txt cannot be read .*'train CHECKSUM'"):
        sample.listed(path)


def test_the_list_that_ships_is_of_the_size_that_the_documents_name(sample):
    assert {split: len(set(found)) for split, found in sample.listed(sample.LIST).items()} == {
        "train": 10_000, "test": 2_000}
