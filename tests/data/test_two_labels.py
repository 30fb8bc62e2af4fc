"""One image under two labels: by another way to its file, as a copy, in memory; and names that look alike."""
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from ppadapt.data import DATASETS, DataError
from ppadapt.data.labels import check_names, match_classes
from ppadapt.data.overlap import warn_of_two_labels


@pytest.fixture
def folder(tmp_path):
    for k in range(6):
        place = tmp_path / f"c{k % 3}"
        place.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(place / f"{k}.png")
    return tmp_path


def test_a_copy_in_another_class_is_warned_of_and_one_in_its_own_is_none(folder, caplog):
    shutil.copy(folder / "c0/0.png", folder / "c0/copy.png")
    assert warn_of_two_labels(DATASETS["ImageFolder"](root=folder), "T") == 0 and not caplog.text
    shutil.copy(folder / "c0/0.png", folder / "c2/moved.png")
    os.link(folder / "c1/1.png", folder / "c2/linked.png")
    assert warn_of_two_labels(DATASETS["ImageFolder"](root=folder), "T") == 2
    assert "T: 2 images stand under two labels" in caplog.text and "as 'c1'" in caplog.text


def test_a_list_that_names_an_image_by_two_ways(folder):
    (folder / "list.txt").write_text("c0/0.png 0\nc1/1.png 1\n./c0//0.png 1\n")
    with pytest.raises(DataError, match="line 3: ./c0//0.png has label 1, and 0 in line 1"):
        DATASETS["ImageNetDataset"](image_root=folder, cls_label_path=folder / "list.txt")
    (folder / "list.txt").write_text("c0/0.png\t0,1\nc1/1.png\t1,0\nc1/../c0/0.png\t1,1\n")
    with pytest.raises(DataError, match="line 3: c1/../c0/0.png has other labels than in line 1"):
        DATASETS["MultiLabelDataset"](image_root=folder, cls_label_path=folder / "list.txt")
    (folder / "list.txt").write_text("c0/0.png\t0,1\nc1/1.png\t1,0\nc0/0.png\t0,1\n")
    assert len(DATASETS["MultiLabelDataset"](image_root=folder, cls_label_path=folder / "list.txt")) == 3


def test_several_labels_of_copies(folder, caplog):
    shutil.copy(folder / "c0/0.png", folder / "copy.png")
    (folder / "list.txt").write_text("c0/0.png\t0,1\ncopy.png\t1,0\n")
    data = DATASETS["MultiLabelDataset"](image_root=folder, cls_label_path=folder / "list.txt")
    assert warn_of_two_labels(data, "T") == 1 and "['1']" in caplog.text and "['0']" in caplog.text


def test_images_in_memory(caplog):
    data = DATASETS["Digits"]("train", limit=40)
    assert warn_of_two_labels(data, "T") == 0
    data.images[7] = data.images[3]
    assert warn_of_two_labels(data, "T") == 1
    assert "Digits train image 3 as '3' and Digits train image 7 as '7'" in caplog.text


@pytest.mark.parametrize("ours, theirs", [("caf\u00e9", "cafe\u0301"), ("Cat", "cat"), ("cat", "cat ")])
def test_a_test_class_that_is_written_otherwise_is_named_beside_the_one_that_is_meant(tmp_path, ours, theirs):
    for place in (f"train/{ours}", "train/b", f"test/{theirs}", "test/b"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / place / "1.png")
    with pytest.raises(DataError) as error:
        DATASETS["ImageFolder"]("test", root=tmp_path)
    assert f"(there is {ascii(ours)}, which is not {ascii(theirs)}): rename" in str(error.value)
    data = DATASETS["ImageFolder"]("train", root=tmp_path / "test")
    with pytest.raises(DataError) as error:
        match_classes(data, [ours, "b"], "Eval", "the tuned file")
    assert f"there is {ascii(ours)}" in str(error.value)


@pytest.mark.parametrize("names", [["Cat", "cat"], ["caf\u00e9", "cafe\u0301"], ["dog", "dog "], ["\uff21", "a"]])
def test_classes_that_are_written_alike(names, caplog):
    check_names(["bird", "cat fish"], "here")
    assert not caplog.text
    check_names(["bird", *names], "here")
    assert "are written alike" in caplog.text
