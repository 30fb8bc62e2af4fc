"""CIFAR: the official archives read as they are, and nothing in them run."""

import os
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ppadapt.data import DATASETS, DataError, cifar
from ppadapt.data.cifar import read_batch

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not there")


def make_cifar10(folder, per_batch=3):
    """An extracted archive in the official format; image k of batch n is filled with 10 n + k."""
    folder = Path(folder) / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for n, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"], 1):
        data = np.stack([np.full(3072, 10 * n + k, np.uint8) for k in range(per_batch)])
        data[:, 1024:2048] += 1  # green
        batch = {b"data": data, b"labels": [(n + k) % 10 for k in range(per_batch)]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = [f"c{k}".encode() for k in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}))
    return folder


class AnyNumpy(pickle.Unpickler):
    """Reads what numpy 2 wrote on numpy 1 too (the shared subset was written by numpy 2)."""

    def find_class(self, module, name):
        array_module = np.empty(0).__reduce__()[0].__module__
        return super().find_class(array_module if "multiarray" in module else module, name)


@needs_shared
def test_real_cifar10_is_what_its_pickles_say():
    with tarfile.open(SHARED / "cifar-10-python.tar.gz") as archive:
        batch = AnyNumpy(archive.extractfile("cifar-10-batches-py/data_batch_1"), encoding="bytes").load()
    data = DATASETS["CIFAR10"]("train", root=SHARED / "cifar-10-python.tar.gz", limit=50)
    assert len(data) == 50
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == batch[b"labels"][:50]
    assert np.array_equal(data.image(7), batch[b"data"][7].reshape(3, 32, 32).transpose(1, 2, 0))
    image, label = data[7]
    assert image.dtype == np.float32
    assert image.shape == (3, 32, 32)
    assert label == batch[b"labels"][7]
    assert data.classes[:3] == ["airplane", "automobile", "bird"]
    assert len(DATASETS["CIFAR10"]("train", root=SHARED)) == 10000
    assert len(DATASETS["CIFAR10"]("test", root=SHARED)) == 2000


@needs_shared
def test_real_cifar100_has_fine_and_coarse_labels():
    fine = DATASETS["CIFAR100"]("test", root=SHARED)
    coarse = DATASETS["CIFAR100"]("test", root=SHARED, label="coarse")
    assert (len(fine.classes), len(coarse.classes)) == (100, 20)
    assert fine.classes[0] == "apple"
    assert coarse.classes[0] == "aquatic_mammals"
    assert (len(fine), fine.labels.max(), coarse.labels.max()) == (2000, 99, 19)
    with pytest.raises(DataError, match="Choose from: fine, coarse"):
        DATASETS["CIFAR100"]("test", root=SHARED, label="course")


def test_every_place_the_archive_may_be(tmp_path, monkeypatch):
    folder = make_cifar10(tmp_path / "a")
    (tmp_path / "b").mkdir()
    archive = tmp_path / "b" / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    for root in (folder, folder.parent, archive, archive.parent, str(archive)):
        data = DATASETS["CIFAR10"]("train", root=root, download=False)
        assert [int(data.image(i)[0, 0, 0]) for i in (0, 2, 3, 14)] == [10, 12, 20, 52]
        assert data.image(0)[0, 0].tolist() == [10, 11, 10]
        assert data.labels[:4].tolist() == [1, 2, 3, 2]
    monkeypatch.setenv("PPADAPT_DATA", str(folder.parent))
    assert len(DATASETS["CIFAR10"]("test", download=False)) == 3


def test_an_absent_archive_says_where_it_belongs(tmp_path):
    with pytest.raises(DataError) as error:
        DATASETS["CIFAR10"]("train", root=tmp_path, download=False)
    for part in (str(tmp_path), "cifar-10-python.tar.gz", "https://www.cs.toronto.edu/~kriz/",
                 "download: True"):
        assert part in str(error.value)


def test_a_damaged_or_other_archive_is_named(tmp_path):
    folder = make_cifar10(tmp_path)
    good = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(good, "w:gz") as tar:
        tar.add(folder, folder.name)
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(good.read_bytes()[:good.stat().st_size // 2])
    with pytest.raises(DataError, match="cut.tar.gz is damaged"):
        DATASETS["CIFAR10"]("train", root=cut)
    with pytest.raises(DataError, match=r"lacks train, test, meta of cifar-100-python \(it holds cifar-10"):
        DATASETS["CIFAR100"]("train", root=good)
    shutil.copy(folder / "batches.meta", folder / "data_batch_3")
    with pytest.raises(DataError, match="do not hold CIFAR10.*'data'"):
        DATASETS["CIFAR10"]("train", root=folder)
    os.remove(folder / "data_batch_3")
    with pytest.raises(DataError, match="lacks data_batch_3"):
        DATASETS["CIFAR10"]("train", root=folder)


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_batch_runs_nothing(tmp_path, protocol):
    folder = make_cifar10(tmp_path)
    target = tmp_path / "owned"
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": Bomb(str(target))}, protocol=protocol))
    with pytest.raises(DataError, match=r"data_batch_1 is not a CIFAR batch.*refused (posix|nt)\.mkdir"):
        DATASETS["CIFAR10"]("train", root=folder)
    assert not target.exists()


def test_batches_of_numpy_1_and_2_read_alike():
    array = np.arange(6, dtype=np.uint8)
    old = pickle.dumps({"data": array, "n": np.int64(3)}, protocol=2)
    for module in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        text = old.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        batch = read_batch(text.replace(b"numpy.core.multiarray", module), "x")
        assert batch["data"].tolist() == [0, 1, 2, 3, 4, 5]
        assert batch["n"] == 3


def test_an_archive_is_decoded_once_for_all_that_share_it(tmp_path, monkeypatch):
    folder = make_cifar10(tmp_path)
    opened = []
    monkeypatch.setattr(cifar, "_read_files", lambda *a, read=cifar._read_files: opened.append(a) or read(*a))
    a, b, _ = (DATASETS["CIFAR10"](split, root=folder, limit=2) for split in ("train", "train", "test"))
    assert len(opened) == 1
    assert np.shares_memory(a.images, b.images)
