"""Images in files, and the digits."""

import numpy as np
import pytest
from PIL import Image

from ppadapt.data import DATASETS, DataError, decode_image


def save(path, colour=(200, 30, 60), size=(9, 6), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 3), ("test", 1)):
        for n, name in enumerate(("zèbre", "cat", "狗")):
            for k in range(count):
                save(tmp_path / split / name / f"{k}.PNG", (10 * n, k, 0))
    (tmp_path / "train" / "cat" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    return tmp_path


def test_image_folder_sorts_classes_and_finds_every_image(folder):
    data = DATASETS["ImageFolder"]("train", root=folder)
    assert data.classes == ["cat", "zèbre", "狗"]
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.image(1).tolist() == [[[10, 1, 0]] * 9] * 6
    assert len(DATASETS["ImageFolder"]("test", root=folder)) == 3
    assert DATASETS["ImageFolder"]("train", root=folder / "train").classes == data.classes
    assert DATASETS["ImageFolder"]("train", root=folder, limit=4).labels.tolist() == [0, 0, 1, 2]


def test_val_serves_as_test_and_keeps_the_labels_of_train(folder):
    (folder / "test").rename(folder / "val")
    for image in (folder / "val" / "cat").iterdir():
        image.unlink()
    (folder / "val" / "cat").rmdir()
    data = DATASETS["ImageFolder"]("test", root=folder)
    assert (data.classes, data.labels.tolist()) == (["cat", "zèbre", "狗"], [1, 2])
    save(folder / "val" / "dgo" / "a.png")
    with pytest.raises(DataError, match="dgo is no class of .*train"):
        DATASETS["ImageFolder"]("test", root=folder)


def test_a_folder_that_cannot_serve_is_named(folder, tmp_path):
    (folder / "train" / "empty").mkdir()
    with pytest.raises(DataError, match="Class folder .*empty holds no image"):
        DATASETS["ImageFolder"]("train", root=folder)
    with pytest.raises(DataError, match="nowhere is no folder"):
        DATASETS["ImageFolder"]("train", root=tmp_path / "nowhere")
    (folder / "test").rename(folder / "other")
    with pytest.raises(DataError, match="has train but no test or val folder"):
        DATASETS["ImageFolder"]("test", root=folder)


def test_a_class_may_be_called_train(tmp_path):
    save(tmp_path / "train" / "a.png")
    save(tmp_path / "plane" / "a.png")
    assert DATASETS["ImageFolder"]("test", root=tmp_path).classes == ["plane", "train"]


def test_image_list_splits_at_the_last_delimiter(tmp_path):
    save(tmp_path / "my images" / "a b.png", (1, 2, 3))
    save(tmp_path / "c.png")
    listing = tmp_path / "list.txt"
    listing.write_text("my images/a b.png 7\n\nc.png 3\n", encoding="utf-8")
    data = DATASETS["ImageNetDataset"](image_root=tmp_path, cls_label_path=listing)
    assert (data.labels.tolist(), len(data.classes)) == ([7, 3], 8)
    assert data.image(0)[0, 0].tolist() == [1, 2, 3]
    relabelled = DATASETS["ImageNetDataset"](image_root=tmp_path, cls_label_path=listing, relabel=True)
    assert (relabelled.labels.tolist(), relabelled.classes) == ([1, 0], ["3", "7"])
    names = tmp_path / "names.txt"
    names.write_text("3 tench, Tinca tinca\n7 cock\n8 hen\n")
    named = DATASETS["ImageNetDataset"](image_root=tmp_path, cls_label_path=listing, class_id_map_file=names)
    assert (named.classes[3], named.classes[7:]) == ("tench, Tinca tinca", ["cock", "hen"])


def test_image_list_names_the_bad_line(tmp_path):
    save(tmp_path / "c.png")
    listing = tmp_path / "list.txt"
    listing.write_text("c.png 3\nc.png\t3\n")
    with pytest.raises(DataError, match=r"list.txt, line 2: .* is not 'path label'.*set delimiter"):
        DATASETS["ImageNetDataset"](image_root=tmp_path, cls_label_path=listing)
    listing.write_text("c.png 3\ngone.png 3\n")
    with pytest.raises(DataError, match=r"line 2: image .*gone.png does not exist"):
        DATASETS["ImageNetDataset"](image_root=tmp_path, cls_label_path=listing)
    data = DATASETS["ImageNetDataset"](image_root=tmp_path, cls_label_path=listing, on_error="skip")
    assert data[1] is None
    assert data.skipped == 1


def test_broken_images_stop_or_are_counted(folder):
    bad = folder / "train" / "cat" / "1.PNG"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(DataError, match="1.PNG cannot be read.*on_error: skip"):
        DATASETS["ImageFolder"]("train", root=folder)[1]
    data = DATASETS["ImageFolder"]("train", root=folder, on_error="skip")
    assert [data[i] is None for i in range(3)] == [False, True, False]
    assert data.skipped == 1


def test_paddleclas_files_without_tochw_give_channels_first(folder):
    ops = [{"DecodeImage": {"to_rgb": True, "channel_first": False}}, {"NormalizeImage": {"order": ""}}]
    assert DATASETS["ImageFolder"]("train", ops, root=folder)[0][0].shape == (3, 6, 9)


def test_a_transform_that_does_not_fit_names_the_image(folder):
    data = DATASETS["ImageFolder"]("train", [{"CropImage": {"size": 224}}], root=folder, on_error="skip")
    with pytest.raises(DataError, match="0.PNG: CropImage.size 224x224 is larger than the image .9x6"):
        data[0]


def test_every_kind_of_file_becomes_rgb(tmp_path):
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    rgb = np.stack([grey, grey[::-1], grey], -1)
    files = {
        "l.png": (Image.fromarray(grey), np.stack([grey] * 3, -1)),
        "rgba.png": (Image.fromarray(np.dstack([rgb, np.full_like(grey, 3)])), rgb),
        "p.png": (Image.fromarray(rgb).quantize(256), None),
        "16.png": (Image.fromarray(grey.astype(np.uint16) * 256 + 77), np.stack([grey] * 3, -1)),
        "1.png": (Image.fromarray(grey > 100), np.stack([(grey > 100) * 255] * 3, -1)),
        "cmyk.jpg": (Image.fromarray(rgb).convert("CMYK"), None),
    }
    for name, (picture, expected) in files.items():
        picture.save(tmp_path / name)
        image = decode_image(tmp_path / name)
        assert (image.shape, image.dtype) == ((6, 8, 3), np.uint8), name
        if expected is None:
            assert abs(image.astype(int) - rgb).mean() < 40, name
        else:
            assert np.array_equal(image, expected), name


def test_exif_orientation_is_applied_as_opencv_does(tmp_path):
    picture = Image.fromarray(np.repeat(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8), 16, 0).repeat(8, 1))
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image = decode_image(tmp_path / "turned.jpg")
    assert image.shape == (16, 16, 3)
    assert image[2, 8, 0] > 200
    assert image[13, 8, 2] > 200


def test_digits_are_split_by_writer():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    train, test = DATASETS["Digits"]("train"), DATASETS["Digits"]("test")
    assert (len(train), len(test)) == (1297, 500)
    assert train.classes == list("0123456789")
    original = load_digits()
    assert test.labels.tolist() == original.target[1297:].tolist()
    assert np.array_equal(test.image(4)[..., 1], np.rint(original.images[1301] * 255 / 16))
    assert train.image(0).max() == round(original.images[0].max() * 255 / 16)


@pytest.mark.parametrize(("options", "message"), [
    ({"split": "trian"}, "split 'trian' is unknown. Did you mean 'train'"),
    ({"on_error": "ignore"}, "on_error 'ignore' is unknown.*raise, skip"),
    ({"limit": 0}, "limit is 0"),
    ({"seed": -1}, "seed is -1"),
    ({"transform": [{"RandFlipImge": None}]}, "Did you mean 'RandFlipImage'"),
])
def test_wrong_options_of_a_dataset(options, message):
    with pytest.raises(DataError, match=message):
        DATASETS["Digits"](**options)
