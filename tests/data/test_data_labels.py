"""Labels that cannot be right are said, each with the way out."""
import os

import numpy as np
import pytest
from PIL import Image

from ppadapt.data import DATASETS, DataError
from ppadapt.data.labels import check_training, match_classes


@pytest.fixture
def listed(tmp_path):
    """`listed("0 1 2")` -> a data set of a list with an image per label; options go on to it."""
    def listed(labels, **options):
        lines = []
        for k, label in enumerate(labels.split()):
            Image.new("RGB", (4, 4), (k, 0, 0)).save(tmp_path / f"{k}.png")
            lines.append(f"{k}.png {label}")
        return of_lines(lines, **options)

    def of_lines(lines, names=None, **options):
        path = tmp_path / "list.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        if names:
            (tmp_path / "names.txt").write_text(names, encoding="utf-8")
            options["class_id_map_file"] = tmp_path / "names.txt"
        return DATASETS["ImageNetDataset"](image_root=tmp_path, cls_label_path=path, **options)

    listed.of_lines = of_lines
    return listed


def test_labels_from_1_leave_class_0_without_an_image(listed):
    said, = check_training(listed("1 2 3 1 2 3"), "T")
    assert said == ("T: 1 of 4 classes have no training image ('0'): labels count from 0, and these begin at 1. "
                    "Subtract that, or set relabel: True")
    assert check_training(listed("1 2 3", relabel=True), "T") == []


def test_holes_are_said_and_a_label_far_beyond_is_a_mistake(listed):
    said, = check_training(listed("0 1 2 5 7"), "T")
    assert "3 of 8 classes have no training image ('3', '4', '6')" in said and "relabel" in said
    with pytest.raises(DataError, match=r"label 19999 of .*3.png would make 20,000 classes, and only 4 labels occur"):
        check_training(listed("0 1 2 19999"), "T")
    assert "no training image" in check_training(listed("0 1 999", names="".join(
        f"{n} name{n}\n" for n in range(1000))), "T")[0]  # a map says that there are as many


@pytest.mark.parametrize("label", [20_000, 10 ** 6, 999_999_999])
def test_a_label_never_takes_memory_for_its_size(listed, label):
    with pytest.raises(DataError, match="PPADAPT_MAX_CLASSES"):
        listed(f"0 1 {label}")
    assert len(listed(f"0 1 {label}", relabel=True).classes) == 3


@pytest.mark.parametrize("label", ["1" * 12, "1" * 30, "-1", "1.0", "²", "٣", "0x1", ""])
def test_what_is_no_label_is_named_with_its_line(listed, label):
    with pytest.raises(DataError, match=r"list.txt, line 2: .* is not 'path label' with a label from 0 to 999999999"):
        listed.of_lines(["a.png 0", f"b.png {label}"], on_error="skip")


def test_one_image_has_one_label(listed, caplog):
    listed("0 1")
    with pytest.raises(DataError, match="line 3: 0.png has label 1, and 0 in line 1: remove one"):
        listed.of_lines(["0.png 0", "1.png 1", "0.png 1"])
    assert len(listed.of_lines(["0.png 0", "1.png 1", "0.png 0"])) == 3
    assert "names 1 images twice or more: each line counts" in caplog.text


def test_links_give_no_image_a_second_label(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / f"{name}.png")
    os.symlink(tmp_path / "a" / "a.png", tmp_path / "b" / "also.png")
    with pytest.raises(DataError, match="the same file under two labels, 'b' and 'a'"):
        DATASETS["ImageFolder"](root=tmp_path)
    (tmp_path / "b" / "also.png").unlink()
    os.symlink(tmp_path / "a", tmp_path / "c")  # a whole class under another name
    with pytest.raises(DataError, match="the same file under two labels, 'c' and 'a'"):
        DATASETS["ImageFolder"](root=tmp_path)


def test_maps_name_every_label_and_each_once(listed):
    with pytest.raises(DataError, match="line 3: label 7 is not in class_id_map_file, which names 2 classes from 0 "):
        listed.of_lines(["a.png 0", "b.png 1", "c.png 7"], names="0 cat\n1 dog\n", on_error="skip")
    with pytest.raises(DataError, match="line 2: label 0 is 'cat' already"):
        listed.of_lines(["a.png 0"], names="0 cat\n0 dog\n", on_error="skip")
    with pytest.raises(DataError, match="'² dog' is not 'label name'"):
        listed.of_lines(["a.png 0"], names="0 cat\n² dog\n", on_error="skip")
    with pytest.raises(DataError, match="class name 'cat' stands for several classes"):
        listed.of_lines(["a.png 0"], names="0 cat\n1 cat\n", on_error="skip")


def test_one_class_is_nothing_to_learn(listed, tmp_path):
    with pytest.raises(DataError, match="has one class, '0'"):
        check_training(listed("0 0 0"), "T")
    with pytest.raises(DataError, match="every image is of class '2'"):
        check_training(listed("2 2"), "T")
    with pytest.raises(DataError, match="every image is of class '0': .*limit is 1"):
        check_training(listed("0 1", limit=1), "T")


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_class_names_that_utf8_cannot_say(tmp_path):
    for name in (b"a", b"\xff\xfe"):
        os.mkdir(os.path.join(os.fsencode(tmp_path), name))
        Image.new("RGB", (4, 4)).save(os.fsdecode(os.path.join(os.fsencode(tmp_path), name, b"0.png")))
    with pytest.raises(DataError, match=r"'\\udcff\\udcfe' cannot be written as UTF-8"):
        DATASETS["ImageFolder"](root=tmp_path)


def test_a_limit_takes_of_every_class_in_turn(listed):
    assert listed("0 0 0 0 1 1 2 2 2 2", limit=6).labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert listed("2 2 2 0 0 1", limit=4).labels.tolist() == [2, 2, 0, 1]
    data = listed("0 0 1 1", limit=2)
    assert [path.name for path in data.paths] == ["0.png", "2.png"]


def test_test_labels_come_into_trainings_order(listed):
    train = ["0", "1", "2"]
    data = listed("0 1 0")
    said, = match_classes(data, train, "Eval", "Train")
    assert data.classes == train and data.labels.tolist() == [0, 1, 0]
    assert said == "Eval: 1 of 3 classes have no test image ('2'): nothing is measured of them"
    data = listed("0 2", relabel=True)  # numbered by itself, it would call class 2 the second
    match_classes(data, train, "Eval", "Train")
    assert data.labels.tolist() == [0, 2]
    data = listed("0 1", names="0 dog\n1 cat\n")
    match_classes(data, ["cat", "dog"], "Eval", "Train")
    assert data.labels.tolist() == [1, 0]


def test_test_classes_that_training_lacks_are_named(listed):
    with pytest.raises(DataError, match=r"Eval has 2 images of classes that Train lacks .'2': .*1.png"):
        match_classes(listed("0 2 2"), ["0", "1"], "Eval", "Train")


def test_rows_of_labels_move_with_their_classes(listed):
    data = listed("0 1")
    data.classes, data.labels = ["b", "a"], np.array([[1, 0], [1, 1]], np.float32)
    said = match_classes(data, ["a", "b", "c"], "Eval", "Train")
    assert said == ["Eval: 1 of 3 classes have no test image ('c'): nothing is measured of them"]
    assert data.labels.tolist() == [[0, 1, 0], [1, 1, 0]]
    data.classes, data.labels = ["b", "z"], np.array([[1, 0], [0, 1]], np.float32)
    with pytest.raises(DataError, match="'z': .*1.png"):
        match_classes(data, ["a", "b"], "Eval", "Train")
    assert check_training(data, "T") == []
