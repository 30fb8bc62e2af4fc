"""Several batches to a step: every image counts alike, whatever its batch; and classes that come equally often."""
import numpy as np
import pytest
from PIL import Image
from test_training import OPS, plan, tuned

from ppadapt.data import build_loader
from ppadapt.data.balanced import balanced
from ppadapt.data.digits import Digits
from ppadapt.runs import experiment

# No BatchNorm, no dropout, no draws: a step depends on the images of its group alone.
STILL = {"Arch__head": "Linear", "Tuning": {"name": "LinearProbe"}, "Global__epochs": 1,
         "Global__cache_features": False,
         "Optimizer": {"name": "SGD", "lr": {"name": "Constant", "learning_rate": 0.5}}}


def step(tmp_path, batch_size, update_freq, **changes):
    settings = plan(tmp_path, Global__update_freq=update_freq, **STILL, **changes)
    settings.DataLoader.Train.dataset["transform_ops"] = OPS
    settings.DataLoader.Train.sampler.batch_size = batch_size
    settings.DataLoader.Train.sampler.shuffle = False
    return tuned(experiment.train(settings))


@pytest.mark.parametrize("batch_size, update_freq", [(20, 3), (47, 2), (16, 3), (7, 9)])
def test_unequal_batches_step_as_one(tmp_path, batch_size, update_freq):
    """48 images: 20, 20 and 8; 47 and 1; three of 16; and six of 7 and one of 6 in a group of nine."""
    whole, parts = step(tmp_path, 48, 1), step(tmp_path, batch_size, update_freq)
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=0, atol=1e-6, err_msg=name)


def test_images_that_cannot_be_read_do_not_shrink_the_step(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("all/train", "all/test", "some/train", "some/test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
    for k in range(12):
        for name in ("a", "b"):
            image = Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8))
            for split in ("all/train", "some/train", "all/test", "some/test"):
                image.save(tmp_path / split / name / f"{k:02d}.png")
    for k in (1, 5, 6):  # in the first, then in later batches
        for place in ("all", "some"):
            file = tmp_path / place / "train/a" / f"{k:02d}.png"
            file.write_bytes(b"broken") if place == "some" else file.unlink()
    (tmp_path / "some/test/a/03.png").unlink()
    results = {}
    for place, batch_size, update_freq in (("all", 21, 1), ("some", 4, 6)):
        data = {"name": "ImageFolder", "root": str(tmp_path / place), "on_error": "skip", "transform_ops": OPS}
        results[place] = step(tmp_path, batch_size, update_freq, DataLoader={
            side: {"dataset": dict(data)} for side in ("Train", "Eval")})
    for name, value in results["all"].items():
        np.testing.assert_allclose(results["some"][name], value, rtol=0, atol=1e-6, err_msg=name)


def test_balanced_epochs_show_every_class_equally_often_and_all_images_in_turn():
    groups = np.repeat([0, 1, 3], [60, 10, 2])
    order = balanced(groups, np.random.default_rng(0))
    assert len(order) == 72 and np.bincount(groups[order]).tolist() == [24, 24, 0, 24]
    assert len(set(order[groups[order] == 0])) == 24  # none twice while others wait
    assert np.bincount(order)[60:].tolist() == pytest.approx([2.4] * 10 + [12, 12], abs=0.7)
    seen = {int(i) for seed in range(12) for i in balanced(groups, np.random.default_rng(seed))}
    assert seen == set(range(72))


def test_a_balanced_loader_repeats_by_seed_and_epoch():
    data = Digits(limit=30)
    loader = build_loader(data, 10, shuffle=True, seed=1, groups=data.labels)
    orders = []
    for epoch in (1, 2, 1):
        loader.set_epoch(epoch)
        orders.append(sum(loader.order(), []))
    assert orders[0] == orders[2] != orders[1]
    assert np.bincount(data.labels[orders[0]], minlength=10).tolist() == [3] * 10


def test_a_balanced_epoch_of_several_labels_is_refused():
    from ppadapt.tasks import MultiLabel
    with pytest.raises(ValueError, match="Task MultiLabel has no single class per image to balance by"):
        MultiLabel().groups(np.zeros([3, 2], "float32"))
