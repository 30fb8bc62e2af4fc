"""Every image is found once, nothing else is opened, and what is left out is counted; in training and inference."""
import os

import pytest
from PIL import Image

from ppadapt.data import DATASETS, DataError
from ppadapt.data.find import find_images
from ppadapt.errors import UserError
from ppadapt.files import IMAGE_SUFFIXES
from ppadapt.serve.infer import find_images as to_infer


def save(path, colour=(1, 2, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path, "PNG")
    return path


def folder_of(root, **options):
    return DATASETS["ImageFolder"](root=root, **options)


@pytest.fixture
def classes(tmp_path):
    for name in ("a", "b"):
        for k in range(3):
            save(tmp_path / "root" / name / f"{k}.png", (k, 0, 0))
    return tmp_path / "root"


def names(paths):
    return [os.path.basename(path) for path in paths]


def test_training_and_inference_find_the_same_files(classes, caplog):
    for suffix in IMAGE_SUFFIXES:
        save(classes / "a" / f"x{suffix.upper()}")
    for other in (".hidden.png", "._x.png", "x.heic", "y.heic", "bare", "Thumbs.db", "sub/.git/x.png",
                  "sub/__MACOSX/._x.png", "sub/deep/y.jfif"):
        save(classes / "a" / other)
    found = find_images(classes / "a")
    assert found.images == to_infer(str(classes / "a")) == folder_of(classes).paths[:-3]
    assert len(found.images) == 3 + len(IMAGE_SUFFIXES) + 1
    assert found.left_out == {"hidden": 4, "named .heic": 2, "without a suffix": 1, "named .db": 1}
    said = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert len(said) == 2 and all("2 named .heic" in line and "4 hidden" in line for line in said)
    assert "x.heic ...)" in said[0]


def test_links_are_followed_once_and_circles_end(classes, tmp_path):
    elsewhere = save(tmp_path / "elsewhere" / "far.png").parent
    links = {"loop": ".", "loop2": "..", "far": elsewhere, "far2": elsewhere, "self.png": "self.png",
             "again.png": "0.png", "gone.png": "nowhere.png", "one.png": elsewhere / "far.png"}
    for name, target in links.items():
        os.symlink(target, classes / "a" / name)
    found = find_images(classes / "a")
    # ".." leads to b and back to a, which was found before.
    assert names(found.images) == ["0.png", "1.png", "2.png", "far.png", "0.png", "1.png", "2.png"]
    assert found.left_out["links to images that were found before"] == 2  # again.png, one.png
    assert found.left_out["links to folders that were found before"] == 3  # loop, loop2/a, far2
    assert found.left_out["links that lead nowhere"] == 2


def test_pipes_sockets_and_devices_are_never_opened(classes, tmp_path):
    os.mkfifo(classes / "a" / "pipe.png")
    os.symlink("/dev/zero", classes / "b" / "zero.png")
    data = folder_of(classes)
    assert len(data) == 6 and len(data.digest()) == 64
    with pytest.raises(UserError, match="no file"):
        to_infer(str(classes / "a" / "pipe.png"))
    listing = tmp_path / "list.txt"
    listing.write_text("a/0.png 0\na/pipe.png 0\nb/zero.png 1\nb/0.png 1\n")
    with pytest.raises(DataError, match="line 2: image .*pipe.png does not exist"):
        DATASETS["ImageNetDataset"](image_root=classes, cls_label_path=listing)
    data = DATASETS["ImageNetDataset"](image_root=classes, cls_label_path=listing, on_error="skip")
    assert [data[i] is None for i in range(4)] == [False, True, True, False] and data.skipped == 2
    assert len(data.digest()) == 64


def test_what_cannot_be_read_is_an_error_unless_it_is_skipped(classes, caplog, monkeypatch):
    save(classes / "b" / "shut" / "x.png")
    real = os.scandir

    def scandir(path):  # root reads everything, whatever the permissions say
        if os.fspath(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="shut cannot be read .Permission denied.*or set on_error: skip"):
        folder_of(classes)
    with pytest.raises(DataError, match="Permission denied.: change its permissions.$"):
        to_infer(str(classes))
    assert len(folder_of(classes, on_error="skip")) == 6
    assert "1 folders that cannot be read" in caplog.text


@pytest.mark.parametrize("train, test", [("train", "test"), ("Training", "Validation"), ("TRAIN", "Val"),
                                         ("training", "valid"), ("Train", "TESTING")])
def test_folders_of_splits_are_splits_in_any_case(tmp_path, train, test):
    for split, count in ((train, 2), (test, 1)):
        for name in ("a", "b"):
            for k in range(count):
                save(tmp_path / split / name / f"{k}.png")
    assert (folder_of(tmp_path).classes, len(folder_of(tmp_path))) == (["a", "b"], 4)
    assert len(folder_of(tmp_path, split="test")) == 2


@pytest.mark.parametrize("splits, message", [
    (("seg_train", "seg_test", "seg_pred"), "look like splits"),
    (("TrainingSet", "x"), "look like splits"),  # both hold the same folders
    (("fold1", "fold2"), "look like splits"),
    (("Train", "training", "test"), "two folders of the train split"),
    (("dataset",), "holds the folder dataset alone, and that holds a, b: set root to .*dataset"),
    (("train", "images"), "no test or val folder"),
])
def test_other_folders_of_splits_are_never_classes(tmp_path, splits, message):
    for split in splits:
        for name in ("a", "b"):
            save(tmp_path / split / name / "0.png")
    with pytest.raises(DataError, match=message):
        folder_of(tmp_path, split="test")


def test_classes_may_hold_folders_of_their_own(tmp_path):
    for path in ("birds/owls/0.png", "birds/ducks/0.png", "boats/0.png", "trains/steam/0.png"):
        save(tmp_path / path)
    assert folder_of(tmp_path).labels.tolist() == [0, 0, 1, 2]


def test_what_lies_beside_the_splits_is_said(tmp_path, caplog):
    for path in ("train/a/0.png", "train/b/0.png", "test/a/0.png", "extra/c/0.png"):
        save(tmp_path / path)
    save(tmp_path / "train" / "stray.png")
    assert folder_of(tmp_path).classes == ["a", "b"]
    assert "1 beside the folders of splits" in caplog.text and "extra" in caplog.text
    assert "1 in no class folder" in caplog.text and "stray.png" in caplog.text


def test_folders_that_a_pattern_fits_are_not_passed_over_silently(classes, caplog):
    save(classes / "0.png")
    assert len(to_infer(str(classes / "*"))) == 1 and "fits 2 folders as well" in caplog.text
    caplog.clear()
    assert len(to_infer(str(classes / "**"))) == 7 and not caplog.text
