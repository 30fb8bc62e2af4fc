"""Loaders: order, draws, workers, broken images, ranks, mixing."""

import gc
import logging
import multiprocessing
import os
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from ppadapt.data import DATASETS, DataError, build_loader, handover
from ppadapt.data import loader as loader_module
from ppadapt.data.batch_transforms import CutmixOperator, MixupOperator, build_batch_transforms

paddle = pytest.importorskip("paddle")
pytest.importorskip("sklearn")
RECIPE = [{"Pad": {"padding": 1, "padding_mode": "reflect"}}, {"RandCropImageV2": {"size": 8}},
          {"RandFlipImage": None}, {"NormalizeImage": {"order": ""}}, {"ToCHWImage": None}]


def digits(**options):
    return DATASETS["Digits"]("train", **{"transform": RECIPE, "limit": 50, **options})


def arrays(loader):
    return [(x.numpy(), y.numpy()) for x, y in loader]


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, u) and np.array_equal(y, v)
                                    for (x, y), (u, v) in zip(a, b))


def test_batches_are_float_images_and_integer_labels():
    loader = build_loader(digits(), 16)
    batches = list(loader)
    assert len(batches) == len(loader) == 4
    assert [b[0].shape[0] for b in batches] == [16, 16, 16, 2]
    images, labels = batches[0]
    assert (images.shape, images.dtype, labels.dtype) == ([16, 3, 8, 8], paddle.float32, paddle.int64)
    assert labels.tolist() == digits().labels[:16].tolist()
    assert len(build_loader(digits(), 16, drop_last=True)) == 3


@pytest.mark.parametrize("workers", [0, 2, "batch"])
def test_epochs_and_seeds_change_draws_and_a_resumed_run_repeats_them(workers):
    options = {"transform_by": "batch"} if workers == "batch" else {"transform_by": "image", "num_workers": workers}
    loader, runs = build_loader(digits(seed=3), 16, shuffle=True, seed=3, **options), []
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        runs.append(arrays(loader))
    assert not np.array_equal(runs[0][0][1], runs[1][0][1])
    loader = build_loader(digits(seed=3), 16, shuffle=True, seed=3, transform_by=options["transform_by"])
    loader.set_epoch(1)
    assert same(arrays(loader), runs[1])  # as a resumed run would, here without workers
    assert same(arrays(loader), runs[1])
    loader.set_epoch(1, start=2)
    assert same(arrays(loader), runs[1][2:])
    other = build_loader(digits(seed=4), 16, shuffle=True, seed=4, transform_by=options["transform_by"])
    other.set_epoch(1)
    assert not same(arrays(other), runs[1])


def test_random_transforms_change_from_epoch_to_epoch_and_by_image():
    data = digits()
    first = data[0][0]
    assert np.array_equal(first, data[0][0])
    draws = set()
    for epoch in range(20):
        data.set_epoch(epoch)
        draws.add(data[0][0].tobytes())
    assert len(draws) > 8


@pytest.mark.parametrize("size", [50, 49, 3])
def test_ranks_share_the_data(size):
    data = digits(transform=None, limit=size)
    data.labels = np.arange(size)
    seen = []
    for shuffle, drop_last in ((False, False), (True, False), (True, True)):
        if drop_last and size < 4:
            continue
        parts = [[label for _, y in build_loader(data, 1, shuffle, drop_last, rank=r, world_size=2)
                  for label in y.tolist()] for r in range(2)]
        seen = sorted(parts[0] + parts[1])
        if not shuffle:
            assert seen == list(range(size))
        elif drop_last:
            assert len(parts[0]) == len(parts[1]) == size // 2
            assert len(set(seen)) == len(seen)
        else:
            assert len(parts[0]) == len(parts[1])
            assert set(seen) == set(range(size))
            assert len(seen) - size == size % 2


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("size, ranks, batch_size", [(41, 2, 5), (41, 3, 4), (42, 3, 5), (31, 3, 10)])
def test_the_ranks_batches_are_together_those_of_one_process(size, ranks, batch_size, shuffle):
    def batches(**options):
        data = digits(transform=None, limit=size)
        data.labels = np.arange(size)
        loader = build_loader(data, shuffle=shuffle, seed=3, even=True, **options)
        loader.set_epoch(2)
        assert len(loader) == len(list(loader.order()))
        return list(loader.order())

    alone = batches(batch_size=ranks * batch_size)
    parts = [batches(batch_size=batch_size, rank=rank, world_size=ranks) for rank in range(ranks)]
    for whole, *shares in zip(alone, *parts):
        together = [i for share in shares for i in share]
        assert set(together) == set(whole)
        # One is repeated where there are fewer than ranks, so that nobody waits for ever.
        assert len(together) == max(len(whole), ranks) and all(shares)
    assert {len(part) for part in parts} == {len(alone)}


@pytest.mark.parametrize("size, ranks", [(1001, 2), (1001, 3), (2, 3)])
def test_an_evaluation_takes_every_image_once_on_any_number_of_ranks(size, ranks):
    data = digits(transform=None, limit=size)
    seen = [i for rank in range(ranks) for batch in build_loader(data, 10, rank=rank, world_size=ranks).order()
            for i in batch]
    assert sorted(seen) == list(range(size))


@pytest.fixture
def broken_folder(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for k in range(4):
            Image.new("RGB", (8, 8), (k, k, k)).save(tmp_path / name / f"{k}.png")
    for place in ("a/1.png", "b/0.png", "b/1.png"):
        (tmp_path / place).write_bytes(b"broken")
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_skipped_and_counted_across_workers(broken_folder, workers, caplog):
    data = DATASETS["ImageFolder"]("train", on_error="skip", root=broken_folder)
    with caplog.at_level(logging.WARNING, "ppadapt"):
        batches = arrays(build_loader(data, 2, num_workers=workers))
    assert [y.tolist() for _, y in batches] == [[0], [0, 0], [1, 1]]  # the third batch had no image left
    assert data.skipped == 3
    assert "Batch 2 has no readable image" in caplog.text


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_stops_with_its_name_in_one_line(broken_folder, workers):
    data = DATASETS["ImageFolder"]("train", root=broken_folder)
    with pytest.raises(DataError) as error:
        arrays(build_loader(data, 2, num_workers=workers))
    assert str(error.value).startswith(f"Image {broken_folder / 'a' / '1.png'} cannot be read")
    assert "\n" not in str(error.value)


def test_images_of_several_sizes_are_explained(broken_folder):
    Image.new("RGB", (9, 8)).save(broken_folder / "a" / "1.png")
    with pytest.raises(DataError, match=r"several shapes .*let transform_ops end in one size"):
        arrays(build_loader(DATASETS["ImageFolder"]("train", root=broken_folder), 4))


@pytest.mark.skipif(sys.platform != "linux", reason="asks /dev/shm")
@pytest.mark.parametrize("shared", [True, False])
def test_workers_batches_lie_in_no_file(shared):
    """Not even while they are read: whoever is killed leaves nothing."""
    before = set(os.listdir("/dev/shm"))
    loader = build_loader(digits(), 16, num_workers=2, transform_by="image", use_shared_memory=shared)
    batches = []
    for images, labels in loader:
        batches.append((images.numpy(), labels.numpy()))
        assert not {name for name in set(os.listdir("/dev/shm")) - before if name.startswith("paddle")}
    assert same(batches, arrays(build_loader(digits(), 16, transform_by="image")))


def test_a_batch_stays_as_it_was_while_others_are_read():
    """Each place for batches is used again."""
    loader = build_loader(digits(), 2, num_workers=2, transform_by="image")
    kept = list(loader)
    assert same([(x.numpy(), y.numpy()) for x, y in kept], arrays(build_loader(digits(), 2, transform_by="image")))


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked")
def test_workers_do_not_collect_what_this_process_left(tmp_path):
    """In one of them it waited for ever for a thread of this process: a Paddle iterator that was left early."""
    here, freed = os.getpid(), tmp_path / "freed in a worker"

    class Left:
        def __init__(self):
            self.itself = self

        def __del__(self):
            if os.getpid() != here:
                freed.touch()

    class Collecting(DATASETS["Digits"]):
        def __getitem__(self, i):
            gc.collect()
            return super().__getitem__(i)

    gc.disable()
    try:
        Left()
        arrays(build_loader(Collecting("train", transform=RECIPE, limit=8), 2, num_workers=2, transform_by="image"))
    finally:
        gc.enable()
    assert not freed.exists()


def test_batches_that_do_not_fit_go_through_pipes(monkeypatch):
    monkeypatch.setattr(loader_module.Loader, "_bytes_per_image", lambda self: 8)
    pages = handover.mmap.PAGESIZE
    assert 200 * 3 * 8 * 8 * 4 > pages * 2
    data = digits(limit=400)
    assert same(arrays(build_loader(data, 200, num_workers=2, transform_by="image")),
                arrays(build_loader(data, 200, transform_by="image")))


def test_no_memory_for_batches_is_said_once(monkeypatch, caplog):
    def refuse(*_):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(handover.mmap, "mmap", refuse)
    loader = build_loader(digits(), 16, num_workers=1, transform_by="image")
    with caplog.at_level(logging.WARNING, "ppadapt"):
        batches = arrays(loader)
        arrays(loader)
    assert same(batches, arrays(build_loader(digits(), 16, transform_by="image")))
    assert caplog.text.count("There is no memory for the batches of 1 workers") == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loop_that_is_left_early_leaves_nothing(workers):
    """Paddle's thread keeps its iterator, and so the workers, alive."""
    before = set(multiprocessing.active_children()), set(threading.enumerate())
    places = set(handover._OPEN)
    loader = build_loader(digits(), 2, num_workers=workers, transform_by="image")
    for _ in loader:
        assert len(set(multiprocessing.active_children()) - before[0]) == workers
        break
    until = time.monotonic() + 3
    while (left := (set(multiprocessing.active_children()) - before[0], set(threading.enumerate()) - before[1])) \
            != (set(), set()) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == (set(), set()) and set(handover._OPEN) <= places
    assert same(arrays(loader), arrays(build_loader(digits(), 2, transform_by="image")))


def test_mixing_does_not_depend_on_workers():
    ops = [{"OpSampler": {"MixupOperator": {"alpha": 0.8, "prob": 0.5},
                          "CutmixOperator": {"alpha": 1, "prob": 0.5}}}]
    runs = []
    for workers in (0, 2):
        loader = build_loader(digits(), 16, shuffle=True, num_workers=workers, batch_transforms=ops,
                              transform_by="image")
        loader.set_epoch(2)
        runs.append([(x.numpy(), a.numpy(), b.numpy(), lam) for x, (a, b, lam) in loader])
    for (x, a, b, lam), (u, c, d, mu) in zip(*runs):
        assert np.array_equal(x, u)
        assert np.array_equal(a, c)
        assert np.array_equal(b, d)
        assert isinstance(lam, float)
        assert lam == mu
    assert len({lam for *_, lam in runs[0]}) > 1


def test_mixup_mixes_by_lam():
    images = np.random.default_rng(0).normal(size=(6, 3, 4, 4)).astype(np.float32)
    tensors = paddle.to_tensor(images), paddle.arange(6)
    mixed, (a, b, lam) = MixupOperator(alpha=0.8)(*tensors, np.random.default_rng(1))
    assert a.tolist() == list(range(6))
    assert np.allclose(mixed.numpy(), lam * images[a.numpy()] + (1 - lam) * images[b.numpy()], atol=1e-6)
    assert mixed.dtype == paddle.float32
    shares = [MixupOperator(alpha=0.2)(*tensors, np.random.default_rng(s))[1][2] for s in range(400)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.2 + 1)), abs=0.03)


def test_cutmix_pastes_a_box_of_the_share_it_says():
    labels = paddle.arange(5)
    images = labels.astype("float32").reshape([5, 1, 1, 1]).expand([5, 3, 20, 30])
    before = images.numpy()
    for seed in range(50):
        mixed, (a, b, lam) = CutmixOperator(alpha=1.0)(images, labels, np.random.default_rng(seed))
        mixed, a, b = mixed.numpy(), a.numpy(), b.numpy()
        for n in range(5):
            if a[n] != b[n]:
                pasted = mixed[n, 0] == b[n]
                assert pasted.mean() == pytest.approx(1 - lam)
                assert ((mixed[n, 0] == a[n]) | pasted).all()
    assert np.array_equal(images.numpy(), before)


@pytest.mark.parametrize(("ops", "message"), [
    ([{"MixUp": None}], "Batch transform 'MixUp' is unknown. Did you mean 'MixupOperator'"),
    ([{"MixupOperator": {"alpha": 0}}], "alpha is 0.0: it must be at least 0.01"),
    ([{"OpSampler": {"MixupOperator": {"alpha": 1}}}], "OpSampler.MixupOperator needs prob"),
    ([{"OpSampler": {"MixupOperator": {"prob": 0.7}, "CutmixOperator": {"prob": 0.7}}}], "add up to 1.4"),
    ([{"OpSampler": {"Mixup": {"prob": 0.7}}}], "operator 'Mixup' is unknown"),
    ([{"MixupOperator": None}, {"CutmixOperator": None}], "takes one: put them into an OpSampler"),
])
def test_wrong_batch_transforms(ops, message):
    with pytest.raises(DataError, match=message):
        build_batch_transforms(ops)


@pytest.mark.parametrize(("options", "message"), [
    ({"batch_size": 0}, "batch_size is 0"), ({"batch_size": "16"}, "batch_size is '16'"),
    ({"batch_size": 64, "drop_last": True}, "leaves no batch of 50 images"),
    ({"batch_size": 8, "num_workers": -1}, "num_workers is -1"),
    ({"batch_size": 8, "rank": 2, "world_size": 2}, "rank is 2: with world_size 2 it is at most 1"),
])
def test_wrong_loader_options(options, message):
    with pytest.raises(DataError, match=message):
        build_loader(digits(), **options)


def test_without_locks_for_workers_this_process_reads(broken_folder, caplog, monkeypatch):
    def no_lock():
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("multiprocessing.Lock", no_lock)
    data = DATASETS["ImageFolder"]("train", root=broken_folder, on_error="skip")
    loader = build_loader(data, 2, num_workers=2)
    assert sum(len(labels) for _, labels in loader) == len(data) - data.skipped and data.skipped
    assert "images are read by this process" in caplog.text
