"""Lists of images and folders of classes whose labels cannot be right."""
from __future__ import annotations

import os

from PIL import Image
from trust_table import Row

from ppadapt.data import DATASETS
from ppadapt.data.labels import check_training


def _listed(lines, names=None, **options):
    def make(folder):
        for k in range(4):
            Image.new("RGB", (4, 4), (k, 0, 0)).save(folder / f"{k}.png")
        (folder / "list.txt").write_bytes("\n".join(lines).encode() if isinstance(lines, list) else lines)
        if names:
            (folder / "names.txt").write_text(names, encoding="utf-8")
            options["class_id_map_file"] = folder / "names.txt"
        return {"image_root": folder, "cls_label_path": folder / "list.txt", **options}
    return make


def _read(options):
    data = DATASETS["ImageNetDataset"](**options)
    return data, check_training(data, "Train")


def _row(case, labels, expect, **options):
    lines = [f"{k}.png {label}" for k, label in enumerate(labels)] if isinstance(labels, list) else labels
    return Row("labels", case, _listed(lines, **options), _read, expect)


def _lines(case, lines, expect, **options):
    return Row("labels", case, _listed(lines, **options), _read, expect)


def _folders(case, make, expect):
    def call(root):
        data = DATASETS["ImageFolder"](root=root)
        return data, check_training(data, "Train")
    return Row("labels", case, make, call, expect)


def _images(*places):
    def make(folder):
        for place in places:
            path = os.path.join(os.fsencode(folder), os.fsencode(place))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            Image.new("RGB", (4, 4)).save(os.fsdecode(path))
        return folder
    return make


def _linked(folder):
    _images("a/0.png", "b/1.png")(folder)
    os.symlink(folder / "a" / "0.png", folder / "b" / "0.png")
    return folder


def _several(case, listing, expect, names=None):
    def make(folder):
        (folder / "0.png").touch()
        os.mkfifo(folder / "list.txt") if listing is None else (folder / "list.txt").write_bytes(listing)
        if names:
            (folder / "names.txt").write_bytes(names)
        return {"image_root": folder, "cls_label_path": folder / "list.txt",
                **({"class_id_map_file": folder / "names.txt"} if names else {})}

    return Row("labels", f"several: {case}", make, lambda options: DATASETS["MultiLabelDataset"](**options), expect)


ROWS = [
    *[_row(f"label {label}", [0, 1, label], "PPADAPT_MAX_CLASSES") for label in (20_000, 10 ** 6, 999_999_999)],
    *[_row(f"label {label}", [0, 1, label], "line 3: .* with a label from 0 to 999999999") for label in (
        10 ** 9, 10 ** 12, 10 ** 30, -1, 1.5, "²", "٣")],
    _row("a label far beyond the others", [0, 1, 2, 19_999], "label 19999 of .*3.png would make 20,000 classes"),
    _row("labels from 1", [1, 2, 3], lambda found: "labels count from 0" in found[1][0]),
    _row("a hole", [0, 2], lambda found: "1 of 3 classes have no training image ('1')" in found[1][0]),
    _row("one class", [0, 0], "has one class, '0'"),
    _row("one class of many", [2, 2], "every image is of class '2'"),
    _lines("an image under two labels", ["0.png 0", "1.png 1", "0.png 1"], "0.png has label 1, and 0 in line 1"),
    _lines("an image twice", ["0.png 0", "1.png 1", "0.png 0"], lambda found: len(found[0]) == 3),
    _lines("an image that is not there", ["0.png 0", "no.png 1"], "line 2: image .*no.png does not exist"),
    _lines("a name of 100,000 letters", ["0.png 0", "a" * 100_000 + " 1"], "line 2: image .*aaa.* does not exist"),
    _lines("a name of 300 letters, skipped", ["0.png 0", "a" * 300 + ".png 1", "1.png 1"], lambda found: True,
           on_error="skip"),
    _lines("no line", [""], "list.txt names no image"),
    _lines("bytes of anything", bytes(range(256)), "cannot be read as UTF-8 text"),
    _lines("a label beyond the map", ["0.png 0", "1.png 7"], "line 2: label 7 is not in class_id_map_file",
           names="0 cat\n1 dog\n"),
    _lines("a map with a superscript", ["0.png 0"], "line 2: '² dog' is not 'label name'", names="0 cat\n² dog\n"),
    _lines("a map that names a label twice", ["0.png 0"], "label 0 is 'cat' already", names="0 cat\n0 dog\n"),
    _lines("a map of a thousand million", ["0.png 0"], "PPADAPT_MAX_CLASSES", names="0 cat\n999999999 dog\n"),
    _folders("a folder's name that is no UTF-8", _images(b"a/0.png", b"\xff\xfe/0.png"), "cannot be written as UTF-8"),
    _folders("one folder", _images("a/0.png"), "has one class, 'a'"),
    _folders("one file in two classes", _linked, "the same file under two labels, 'b' and 'a'"),
    _folders("folders of splits", _images("seg_train/a/0.png", "seg_train/b/0.png", "seg_test/a/0.png"),
             "look like splits"),
    _folders("the folder above", _images("data/a/0.png", "data/b/0.png"), "set root to .*data"),
    _lines("a million lines", ["0.png 0"] * 10 ** 6, "1,000,000 lines of a list|999,999 lines of a list"),
    _several("right", b"0.png\t0,1\n", lambda data: data.labels.tolist() == [[0, 1]]),
    _several("a million lines", b"0.png\t1\n" * 10 ** 6, "PPADAPT_MAX_LINES"),
    _several("a million classes", b"0.png\t" + b"0," * 10 ** 6 + b"1\n", "PPADAPT_MAX_CLASSES"),
    _several("5,000 digits", b"0.png\t0,1\n", "is not 'number name'", names=b"9" * 5000 + b" cat\n"),
    _several("a label of 2", b"0.png\t0,2\n", "line 1: .* is not 'path<tab>0,1,1,0'"),
    _several("a pipe", None, "list.txt is no file"),
]
