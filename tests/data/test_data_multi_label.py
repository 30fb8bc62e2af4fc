"""Data sets of several labels per image: lists, NUS-WIDE's files, mosaics."""
import logging

import numpy as np
import pytest
from PIL import Image

from ppadapt.data import DATASETS, DataError
from ppadapt.data.cifar import CIFAR10
from ppadapt.data.labels import check_training, match_classes
from ppadapt.data.mosaic import make_mosaics


@pytest.fixture
def listed(tmp_path):
    """Four images, a list and names of its three classes."""
    (tmp_path / "im ages").mkdir()
    for k in range(4):
        Image.new("RGB", (6, 6), (40 * k, 0, 0)).save(tmp_path / "im ages" / f"{k}.png")
    rows = ["1,0,0", "1,0,0", "0,1,1", "0,0,0"]
    (tmp_path / "list.txt").write_text("".join(f"im ages/{k}.png\t{row}\n" for k, row in enumerate(rows)))
    (tmp_path / "names.txt").write_text("0 cat\n2 blue sky\n", encoding="utf-8")
    return tmp_path


def read(folder, **options):
    return DATASETS["MultiLabelDataset"](image_root=folder, cls_label_path=folder / "list.txt", **options)


def test_a_list_of_paddleclas(listed):
    data = read(listed, class_id_map_file=listed / "names.txt", label_ratio=True)
    assert data.classes == ["cat", "1", "blue sky"]
    assert data.labels.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]] and data.labels.dtype == np.float32
    image, label = data[2]
    assert image.shape == (3, 6, 6) and image[0, 0, 0] == 80 and label.tolist() == [0, 1, 1]
    assert read(listed, limit=2).labels.tolist() == [[1, 0, 0], [0, 1, 1]]  # of every class, not the first two
    assert read(listed).digest() == read(listed).digest() != read(listed, limit=3).digest()


@pytest.mark.parametrize("line, message", [
    ("im ages/0.png 1,0,0", "line 2: .* is not 'path<tab>0,1,1,0'"), ("im ages/0.png\t1,0,2", "line 2"),
    ("im ages/0.png\t3", "one label per image is for ImageNetDataset"), ("\t1,0,0", "line 2"),
    ("im ages/0.png\t1,0", "line 2 has 2 labels and the lines before have 3"),
    ("im ages/9.png\t1,0,0", "1 of 2 images are not there, the first is .*9.png")])
def test_a_bad_line_is_named(listed, line, message):
    (listed / "list.txt").write_text(f"im ages/1.png\t1,0,0\n{line}\n")
    with pytest.raises(DataError, match=message):
        read(listed)


def test_missing_images_are_left_out_and_counted_when_that_is_asked_for(listed, caplog):
    (listed / "im ages" / "1.png").unlink()
    with caplog.at_level(logging.WARNING, "ppadapt"):
        data = read(listed, on_error="skip")
    assert len(data) == 3 and data.labels.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert "1 of 4 images are not there" in caplog.text


@pytest.fixture
def nus_wide(tmp_path):
    for folder in ("ImageList", "Groundtruth/TrainTestLabels", "ConceptsList", "Flickr/actor", "Flickr/sky"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("actor/0001_1.jpg", "actor/0002_2.jpg", "sky/0001_3.jpg"):
        Image.new("RGB", (8, 6)).save(tmp_path / "Flickr" / name)
    (tmp_path / "ImageList/TrainImagelist.txt").write_text(
        "actor\\0001_1.jpg\r\nactor\\0002_2.jpg \r\nsky\\0001_3.jpg\n")
    labels = tmp_path / "Groundtruth/TrainTestLabels"
    (labels / "Labels_sky_Train.txt").write_text("1\n0\n1\n")
    (labels / "Labels_person_Train.txt").write_text("1 \n0\n0\n")
    (tmp_path / "ConceptsList/Concepts81.txt").write_text("sky\nperson\n")
    return tmp_path


def test_nus_wides_own_files(nus_wide):
    data = DATASETS["NUSWIDE"](root=nus_wide)
    assert data.classes == ["sky", "person"] and data.labels.tolist() == [[1, 1], [0, 0], [1, 0]]
    assert data[2][0].shape == (3, 6, 8) and data.paths[0] == nus_wide / "Flickr/actor/0001_1.jpg"
    assert DATASETS["NUSWIDE"](root=nus_wide, labelled_only=True).labels.tolist() == [[1, 1], [1, 0]]
    (nus_wide / "ConceptsList/Concepts81.txt").unlink()
    assert DATASETS["NUSWIDE"](root=nus_wide).classes == ["person", "sky"]


def test_nus_wides_files_that_do_not_fit_are_named(nus_wide):
    labels = nus_wide / "Groundtruth/TrainTestLabels"
    with pytest.raises(DataError, match=r"TestImagelist.txt cannot be read"):
        DATASETS["NUSWIDE"]("test", root=nus_wide)
    (labels / "Labels_sky_Train.txt").write_text("1\n0\n")
    with pytest.raises(DataError, match="Labels_sky_Train.txt has 2 lines, and .* names 3 images"):
        DATASETS["NUSWIDE"](root=nus_wide)
    (labels / "Labels_sky_Train.txt").unlink()
    with pytest.raises(DataError, match="lacks Labels_sky_Train.txt"):
        DATASETS["NUSWIDE"](root=nus_wide)


def test_mosaics_are_four_images_of_their_own_split_with_their_classes(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)

    def fake(self, split, root=None, download=True):
        self.images = rng.integers(0, 255, (24, 32, 32, 3), np.uint8)
        self.labels, self.classes = np.arange(24) % 10, [f"class {k}" for k in range(10)]
        sources[split] = self

    sources = {}
    monkeypatch.setattr(CIFAR10, "__init__", fake)
    made = make_mosaics(None, tmp_path / "m", {"train": 6, "test": 9})
    data = DATASETS["MultiLabelDataset"](image_root=tmp_path / "m", class_id_map_file=tmp_path / "m/classes.txt",
                                         cls_label_path=tmp_path / "m/multilabel_train_list.txt")
    assert data.classes[3] == "class 3" and np.array_equal(data.labels, made["train"]) and len(made["test"]) == 9
    source, seen = sources["train"], []
    for k in range(6):
        mosaic = data.image(k)
        assert mosaic.shape == (64, 64, 3)
        parts = [mosaic[y:y + 32, x:x + 32] for y in (0, 32) for x in (0, 32)]
        found = [int(np.flatnonzero((source.images == part).all((1, 2, 3)))[0]) for part in parts]
        assert set(source.labels[found]) == set(np.flatnonzero(data.labels[k]))
        seen += found
    assert sorted(seen) == list(range(24))  # each once before any comes again
    with pytest.raises(DataError, match="is not empty"):
        make_mosaics(None, tmp_path / "m", {"train": 6, "test": 9})


@pytest.mark.parametrize("rows, says", [
    (["1,0,0", "1,0,1", "0,0,1", "0,0,0"], ["1 of 3 classes have no training image ('1')"]),
    (["1,1,0", "1,1,1", "0,1,1", "1,1,0"], ["1 of 3 classes are in every training image ('1'): what they"]),
    (["1,1,0", "1,1,0", "0,1,0", "0,1,0"], ["1 of 3 classes have no training image ('2')", "are in every"]),
    (["1,0,0", "0,1,1"], [])])
def test_classes_that_cannot_be_learned_are_said(listed, rows, says):
    (listed / "list.txt").write_text("".join(f"im ages/{k}.png\t{row}\n" for k, row in enumerate(rows)))
    found = check_training(read(listed), "DataLoader.Train")
    assert len(found) == len(says) and all(part in line for part, line in zip(says, found))


@pytest.mark.parametrize("row, says", [("0,0,0", "none of the 3 classes"), ("1,1,1", "all of the 3 classes"),
                                       ("1,0,1", "the same of the 3 classes")])
def test_labels_that_tell_nothing_apart_are_refused(listed, row, says):
    (listed / "list.txt").write_text("".join(f"im ages/{k}.png\t{row}\n" for k in range(4)))
    with pytest.raises(DataError, match=f"every image has {says}: there is nothing to tell apart"):
        check_training(read(listed), "DataLoader.Train")


def test_classes_without_a_test_image_are_said(listed):
    (listed / "list.txt").write_text("im ages/0.png\t1,0,0\nim ages/1.png\t1,0,1\n")
    data = read(listed)
    assert match_classes(data, data.classes, "DataLoader.Eval", "DataLoader.Train") == [
        "DataLoader.Eval: 1 of 3 classes have no test image ('1'): nothing is measured of them"]
