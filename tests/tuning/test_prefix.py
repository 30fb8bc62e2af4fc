"""The blocks below what trains run once for each image: the same training, and never where it would be another one."""
import os
import signal
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from test_compare import OPS
from test_features import RANDOM, log_of
from test_features import plan as small_plan
from test_resume import EXACT, cut_and_resume
from test_training import same, tuned
from zoo_networks import TINY, tiny

from ppadapt import build, config
from ppadapt.data import build_transforms
from ppadapt.engine.stopping import Stopped
from ppadapt.errors import UserError
from ppadapt.models.anatomy import Anatomy
from ppadapt.runs import compare, experiment
from ppadapt.tuning import attach
from ppadapt.tuning.frozen import prefix, streams
from ppadapt.tuning.methods import FullFineTuning, LastBlocks

MIXUP = [{"MixupOperator": {"alpha": 0.8}}]
ADAPT = {"name": "AdaptFormer", "bottleneck": 4, "blocks": "2:"}


def plan(tmp_path, train=None, **sections):
    """Three blocks, of which the first two are left as they are; `train` changes DataLoader.Train.dataset."""
    made = small_plan(tmp_path, **{"Tuning": ADAPT, "Arch__depth": 3, **sections})
    made.DataLoader.Train.dataset.update(train or {})
    return made


def kept(tmp_path):
    return sorted((tmp_path / "cache" / "streams").glob("*/*.npy"))


def numbers(results):
    return [[row["train_loss"], row["eval_loss"], row["eval_top1"]] for row in results["history"]]




def test_training_from_a_block_on_is_the_same_training(tmp_path):
    slow = experiment.train(plan(tmp_path, Global__cache_features=False))
    cold, warm = experiment.train(plan(tmp_path)), experiment.train(plan(tmp_path))
    assert cold["cached_features"] and not slow["cached_features"] and len(kept(tmp_path)) == 2
    for fast in (cold, warm):
        assert np.allclose(numbers(fast), numbers(slow), rtol=1e-5)
        assert all(np.allclose(a, tuned(fast)[n], rtol=1e-3, atol=1e-5) for n, a in tuned(slow).items())
        assert fast["frozen_digest"] == slow["frozen_digest"]
    assert same(tuned(cold), tuned(warm)) and numbers(cold) == numbers(warm)
    said = "of 3 blocks the first 2 run once for each image: nothing in them trains. What leaves them is kept, "
    assert f"{said}70 train images + 50 test images in float32: 0.00 GB" in log_of(cold)
    assert "streams of 70 train images: computed once, kept in" in log_of(cold)
    assert "streams of 50 test images: from" in log_of(warm)
    evaluated = experiment.evaluate(plan(tmp_path, Global__pretrained_model=f"{warm['folder']}/best_model.safetensors"))
    assert evaluated["top1"] == warm["best_top1"]


def test_the_blocks_below_run_once_for_each_image(tmp_path, monkeypatch):
    job, model = build.job(plan(tmp_path))
    ran = []
    for number, block in enumerate(model.adaptation.anatomy.block_list(model.adaptation.network)):
        kind = type(block)
        block.__class__ = type(kind.__name__, (kind,), {"forward": lambda self, x, number=number, kind=kind: (
            ran.append((number, len(x))), kind.forward(self, x))[1]})
    experiment.run_training(job)
    for number, times in enumerate((1, 1, 3)):
        assert sum(images for block, images in ran if block == number) == times * (70 + 50)


@pytest.mark.parametrize("method", [
    {"name": "LoRA", "blocks": [2]}, {"name": "VPT", "num_prompts": 2, "blocks": "2:"}, {"name": "LastBlocks"},
    [{**ADAPT, "dropout": 0.0}, {"name": "VPT", "num_prompts": 1, "blocks": [2]}]],
    ids=["LoRA", "VPT", "LastBlocks", "two methods"])
def test_methods_that_leave_the_first_blocks_share_what_is_kept(tmp_path, method):
    experiment.train(plan(tmp_path, Global__epochs=2))
    slow, fast = (experiment.train(plan(tmp_path, Tuning=method, Global__epochs=2, Global__cache_features=asked))
                  for asked in (False, "auto"))
    assert log_of(fast).count("images: from") == 2 and len(kept(tmp_path)) == 2
    assert np.allclose(numbers(fast), numbers(slow), rtol=1e-5)


def test_views_are_those_of_the_first_epochs_in_turn(tmp_path):
    """Kept or not, and in the first epochs as without them."""
    def run(**options):
        return experiment.train(plan(tmp_path, {"transform_ops": RANDOM}, Global__epochs=5, **options))

    drawn = run(Global__cache_features=False)
    shown = run(Global__cache_features=False, Global__cache_views=2)
    fast = run(Global__cache_views=2)
    assert len(kept(tmp_path)) == 3 and "70 train images x 2 views + 50 test images" in log_of(fast)
    assert "training shows each image in 2 fixed views" in log_of(shown)
    assert np.allclose(numbers(fast), numbers(shown), rtol=1e-5)
    assert numbers(shown)[:2] == numbers(drawn)[:2] and numbers(shown)[2] != numbers(drawn)[2]
    other_seed = run(Global__cache_views=2, Global__seed=1)
    assert other_seed["cached_features"] and len(kept(tmp_path)) == 6


def test_a_linear_probe_has_views_too(tmp_path):
    slow, fast = (experiment.train(plan(tmp_path, {"transform_ops": RANDOM}, Tuning={"name": "LinearProbe"},
                                        Global__cache_views=2, Global__cache_features=asked))
                  for asked in (False, True))
    assert fast["cached_features"] and np.allclose(numbers(fast), numbers(slow), rtol=1e-4)
    assert len(list((tmp_path / "cache" / "features").glob("*.npz"))) == 3


def test_views_of_images_that_never_change_are_said_to_have_no_effect(tmp_path):
    assert "Global.cache_views has no effect" in log_of(experiment.train(plan(tmp_path, Global__cache_views=3)))


@EXACT
def test_a_run_that_was_stopped_goes_on_to_the_bit(tmp_path, monkeypatch):
    def config(**more):
        return plan(tmp_path, {"transform_ops": RANDOM}, Global__epochs=4, Global__cache_views=2, **more)

    whole = experiment.train(config())
    rest = cut_and_resume(monkeypatch, tmp_path, config, step=13)  # inside the third epoch
    assert same(tuned(whole), tuned(rest)) and numbers(whole) == numbers(rest)


def test_a_signal_while_streams_are_computed_loses_none_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "FILE", 16 * 5 * 12 * 4)
    real, count = prefix.stream_of, []

    def stream_of(*arguments):
        count.append(1)
        if len(count) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(prefix, "stream_of", stream_of)
        with pytest.raises(Stopped):
            experiment.train(plan(tmp_path))
    done = {path: path.stat().st_mtime_ns for path in kept(tmp_path)}
    assert done
    results = experiment.train(plan(tmp_path, Global__checkpoints="auto"))
    assert all(path.stat().st_mtime_ns == then for path, then in done.items()) and len(results["history"]) == 3
    whole = experiment.train(plan(tmp_path, Global__cache_features=False))
    assert np.allclose(numbers(results), numbers(whole), rtol=1e-5)


def test_in_bfloat16_streams_take_half_and_move_losses_little(tmp_path):
    exact, rounded = (experiment.train(plan(tmp_path, Global__cache_dtype=dtype)) for dtype in ("float32", "bfloat16"))
    sizes = sorted(path.stat().st_size - 128 for path in kept(tmp_path))
    assert sizes == sorted(images * (5 * 12 * width + 4) for images in (50, 70) for width in (2, 4))
    losses = [[row[:2] for row in numbers(run)] for run in (rounded, exact)]
    assert np.allclose(*losses, rtol=1e-2) and losses[0] != losses[1]


@pytest.mark.needs_paddle("rounding of bfloat16 on a CPU")
def test_bfloat16_is_rounded_to_the_nearest(tmp_path):
    drawn = np.random.RandomState(0).standard_normal(1000).astype(np.float32)
    rounded = streams._as_float32(streams._as_kept(drawn, streams.DTYPES["bfloat16"]))
    assert np.array_equal(rounded, paddle.to_tensor(drawn).astype("bfloat16").astype("float32").numpy())


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_bytes(path.read_bytes()[:-9]), lambda path: path.write_bytes(b""),
    lambda path: np.save(path, np.zeros((3, 5), np.uint8)),
    lambda path: path.write_bytes(path.read_bytes()[:-50] + b"x" + path.read_bytes()[-49:])],
    ids=["cut", "empty", "another", "one byte"])
def test_a_damaged_file_is_computed_anew_and_said(tmp_path, spoil):
    first = experiment.train(plan(tmp_path, Global__epochs=2))
    for path in kept(tmp_path):
        spoil(path)
    again = experiment.train(plan(tmp_path, Global__epochs=2))
    assert log_of(again).count("is damaged") == 2 and numbers(first) == numbers(again)
    assert "is damaged" not in log_of(experiment.train(plan(tmp_path, Global__epochs=2)))


def test_older_streams_make_room(tmp_path, monkeypatch):
    experiment.train(plan(tmp_path, Global__epochs=2))
    old = kept(tmp_path)
    for path in old:
        os.utime(path.parent, (1, 1))
    size = sum(path.stat().st_size for path in old)
    results = experiment.train(plan(tmp_path, Tuning={**ADAPT, "blocks": [1]}, Global__epochs=2,
                                    Global__cache_limit=1.2 * size / 1e9))
    assert log_of(results).count("makes room") == 2 and not any(path.exists() for path in old)
    assert len(kept(tmp_path)) == 2


@pytest.mark.parametrize("sections, train, message", [
    ({"Tuning": {"name": "VPT", "num_prompts": 2}}, {}, "begins in the first block or below it"),
    ({"Tuning": {"name": "VPT", "num_prompts": 2, "deep": False}}, {}, "begins in the first block or below it"),
    ({}, {"transform_ops": RANDOM}, "comes RandCropImageV2 of the train images; .* Global.cache_views, the first 2"),
    ({"Global__cache_views": 2}, {"transform_ops": RANDOM, "batch_transform_ops": MIXUP}, "comes MixupOperator"),
    ({}, {"on_error": "skip"}, "on_error: raise"),
    ({"Global__cache_limit": 1e-6}, {}, "takes 0.00 GB, and Global.cache_limit is 1e-06: set it higher; .*bfloat16"),
    ({"Global__cache_dtype": "float16"}, {}, "Global.cache_dtype 'float16' is unknown")])
def test_what_cannot_be_kept_is_said_with_the_reason(tmp_path, sections, train, message):
    with pytest.raises(UserError, match=message):
        experiment.train(plan(tmp_path, train, **{"Global__cache_features": True, **sections}))
    assert not kept(tmp_path) and not (tmp_path / "out").exists()


def test_left_to_itself_it_says_so_once_and_trains(tmp_path):
    results = experiment.train(plan(tmp_path, {"transform_ops": RANDOM}, Global__epochs=2))
    assert log_of(results).count("streams are not cached: at random, anew in every epoch, comes RandCropImageV2") == 1
    assert not results["cached_features"]
    assert not experiment.train(plan(tmp_path, Global__epochs=1))["cached_features"]  # it would save nothing


def test_without_a_disk_to_write_on_it_trains_as_ever(tmp_path):
    (tmp_path / "cache").write_text("a file")
    results = experiment.train(plan(tmp_path, Global__epochs=2))
    assert "streams are not cached: Global.feature_cache" in log_of(results) and not results["cached_features"]


@pytest.mark.parametrize("change, message", [
    (lambda real: lambda self, x: (real(self, x), x), "returns several things, not one stream"),
    (lambda real: lambda self, x: real(self, x) + x.mean(), None)])
def test_a_network_without_a_single_stream_is_refused(tmp_path, monkeypatch, change, message):
    """Twice: by what a block returns, and by what the network computes of its images beside the stream."""
    network = build.network(plan(tmp_path), 0)[0]
    if message:
        monkeypatch.setattr(type(network.blocks[0]), "forward", change(type(network.blocks[0]).forward))
        monkeypatch.setattr(type(network), "features", lambda self, x: self.norm(self._through(self.tokens(x))[:, 0]))
        monkeypatch.setattr(type(network), "_through", lambda self, x: _first(self.blocks, x), raising=False)
    else:
        monkeypatch.setattr(type(network), "forward", change(type(network).forward))
    with pytest.raises(UserError, match=message or "does more than to hand one stream on from block to block"):
        experiment.train(plan(tmp_path, Global__cache_features=True))


def _first(blocks, x):
    for block in blocks:
        x = block(x)[0]
    return x


def test_other_pixels_weights_or_blocks_have_other_streams(tmp_path):
    experiment.train(plan(tmp_path, Global__epochs=2))
    darker = [OPS[0], {"NormalizeImage": {"order": "", "mean": [0.5] * 3}}, OPS[2]]
    for train, sections, new in (({"transform_ops": darker}, {}, 1), ({"limit": 60}, {}, 1),
                                 ({}, {"Arch__epsilon": 1e-3}, 2), ({}, {"Tuning": {**ADAPT, "blocks": [1]}}, 2)):
        before = len(kept(tmp_path))
        experiment.train(plan(tmp_path, train, Global__epochs=2, **sections))
        assert len(kept(tmp_path)) - before == new


def test_runs_of_a_sweep_share_them(tmp_path):
    path = tmp_path / "tiny_adaptformer.yaml"
    given = plan(tmp_path, Global__epochs=2).to_dict()
    sections = ("Global", "Arch", "Tuning", "Optimizer", "DataLoader")
    path.write_text(yaml.safe_dump({key: given[key] for key in sections}))
    assert config.load(path).Tuning == ADAPT
    rows = compare.compare(path, ["adaptformer"], [0], tmp_path / "out", sweep=["Tuning.bottleneck=2,4,8"])
    assert len(rows) == 3 and len(kept(tmp_path)) == 2
    logs = [path.read_text(encoding="utf-8") for path in Path(tmp_path / "out").rglob("train.log")]
    assert sorted(log.count("computed once, kept in") for log in logs) == [0, 0, 2]


def test_in_amp_streams_are_those_of_amp(tmp_path):
    amp = {"AMP": {"level": "O1", "dtype": "bfloat16"}}
    experiment.train(plan(tmp_path, Global__epochs=2))
    slow, fast = (experiment.train(plan(tmp_path, Global__epochs=2, Global__cache_features=asked, **amp))
                  for asked in (False, "auto"))
    assert np.allclose(numbers(fast), numbers(slow), rtol=1e-4) and fast["cached_features"]


def test_a_network_of_other_ways_trains_without(tmp_path, monkeypatch):
    """One that wants more of its blocks than a stream, and one without blocks: neither is an error where none asked."""
    network = build.network(plan(tmp_path), 0)[0]
    monkeypatch.setattr(type(network), "features", lambda self, x: self.norm(self._through(self.tokens(x))[:, 0]))
    monkeypatch.setattr(type(network), "_through", lambda self, x: _counting(self.blocks, x), raising=False)
    results = experiment.train(plan(tmp_path, Global__epochs=2))
    assert "streams are not cached: VisionTransformer cannot go on from block 2 (" in log_of(results)
    flat = paddle.nn.Sequential(("body", paddle.nn.Flatten()), ("head", paddle.nn.Linear(3 * 4 * 4, 5)))
    assert prefix.prefix_of(attach(flat, FullFineTuning(), anatomy=Anatomy()), [Shown(4)]) == prefix.NONE


def _counting(blocks, x):
    for block in blocks:
        x = block(x)
        if type(x) is paddle.Tensor and "forward" in block.__dict__:
            raise RuntimeError("a block was exchanged")
    return x


class Shown:
    """A loader of random images that are the same in every epoch."""

    views, batch_transforms = None, ()

    def __init__(self, side):
        self.dataset = self
        self.transform, self.on_error = build_transforms([]), "raise"
        self.images = np.random.RandomState(0).standard_normal([2, 3, side, side]).astype("float32")

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return self.images[i], 0


@pytest.mark.parametrize("title", TINY)
def test_networks_of_paddleclas_go_on_from_a_stream(title):
    """Whatever they do between their blocks; TNT's hand on two streams and are refused."""
    pytest.importorskip("paddleclas", reason="needs pip install paddleclas==2.6.0")
    paddle.seed(0)
    network = tiny(title)
    adaptation = attach(network, LastBlocks())
    loader, blocks = Shown(TINY[title].image), len(adaptation.anatomy.block_list(network))
    found = prefix.prefix_of(adaptation, [loader])
    if title == "TNT":
        assert "returns several things, not one stream" in found
        return
    assert found.blocks == blocks - 1
    images = paddle.to_tensor(loader.images)
    stream = prefix.stream_of(adaptation, images, found.blocks)
    assert tuple(stream.shape[1:]) == found.shape
    ours, whole = prefix.FromBlock(adaptation, found)(stream), adaptation(images)
    np.testing.assert_allclose(ours.numpy(), whole.numpy(), rtol=1e-4, atol=1e-5)
