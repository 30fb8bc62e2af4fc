"""PaddleClas 2.6's schedules, step by step, against its formulas written out here with plain numbers."""
import math

import numpy as np
import pytest

from ppadapt.engine.schedules import Schedule
from ppadapt.errors import ConfigError

STEPS, EPOCHS, RATE = 5, 12, 0.08


def rates(schedule, count):
    found = []
    for _ in range(count):
        found.append(schedule.get_lr())
        schedule.step()
    return found


def paddleclas(after, warmup_epoch=0, start=0.0, by_epoch=False, rate=RATE, steps=STEPS, epochs=EPOCHS):
    """Every step's rate: `LinearWarmup` over `after(count)`, which counts from the end of the warm-up on; with
    by_epoch PaddleClas steps its schedule once an epoch."""
    unit = 1 if by_epoch else steps
    warmup = round(warmup_epoch * unit)
    counts = [step // steps if by_epoch else step for step in range(steps * epochs)]
    return [start + (rate - start) * c / warmup if c < warmup else after(c - warmup, unit) for c in counts]


def cosine(epochs, eta_min=0.0, rate=RATE):
    return lambda c, unit: eta_min + (rate - eta_min) * (1 + math.cos(math.pi * c / (epochs * unit))) / 2


def linear(epochs, end=0.0, power=1.0, rate=RATE):
    return lambda c, unit: (rate - end) * (1 - min(c, epochs * unit) / (epochs * unit)) ** power + end


def steps_of(times, values):
    return lambda c, unit: values[sum(c >= time * unit for time in times)]


@pytest.mark.parametrize("by_epoch", [False, True])
@pytest.mark.parametrize("warmup, start", [(0, 0.0), (2, 0.0), (3, 0.01)])
@pytest.mark.parametrize("name, options, after", [
    ("Constant", {}, lambda left: lambda c, unit: RATE),
    ("ConstLR", {}, lambda left: lambda c, unit: RATE),
    ("Cosine", {"eta_min": 0.002}, lambda left: cosine(left, 0.002)),
    ("Linear", {}, linear),
    ("Linear", {"end_lr": 0.01, "power": 2.0}, lambda left: linear(left, 0.01, 2.0)),
    ("Step", {"step_size": 3, "gamma": 0.5}, lambda left: lambda c, unit: RATE * 0.5 ** (c // (3 * unit))),
    ("MultiStepDecay", {"milestones": [2, 7], "gamma": 0.3}, lambda left: steps_of([2, 7], [
        RATE, RATE * 0.3, RATE * 0.3 ** 2])),
    ("Piecewise", {"decay_epochs": [4, 6], "values": [RATE, 0.02, 0.3]}, lambda left: steps_of([4, 6], [
        RATE, 0.02, 0.3]))])
def test_every_step_is_paddleclass(name, options, after, warmup, start, by_epoch):
    rate = {} if "values" in options else {"learning_rate": RATE}
    schedule = Schedule(STEPS, EPOCHS, name=name, warmup_epoch=warmup, warmup_start_lr=start, by_epoch=by_epoch,
                        **rate, **options)
    expected = paddleclas(after(EPOCHS - warmup), warmup, start, by_epoch)
    assert np.allclose(rates(schedule, STEPS * EPOCHS), expected, rtol=1e-9, atol=1e-12)


def test_step_sizes_may_be_parts_of_epochs_and_end_in_whole_steps():
    schedule = Schedule(STEPS, 4, name="Step", learning_rate=RATE, step_size=1.5, gamma=0.1)
    assert np.allclose(rates(schedule, 20), [RATE * 0.1 ** (step // 7) for step in range(20)])  # int(1.5 x 5)


@pytest.mark.parametrize("warmup_epoch, steps", [(0.5, 2), (1.5, 8), (2.7, 14), (0.05, 0)])
def test_parts_of_epochs_of_warm_up_are_rounded(warmup_epoch, steps):
    # Python's round, as in PaddleClas: 2.5 -> 2, 7.5 -> 8, 13.5 -> 14. (Its Cosine and Linear take whole epochs only.)
    for name, options, after in (
            ("ConstLR", {}, lambda c, unit: RATE),
            ("Step", {"step_size": 3, "gamma": 0.5}, lambda c, unit: RATE * 0.5 ** (c // (3 * unit))),
            ("MultiStepDecay", {"milestones": [2, 7], "gamma": 0.3}, steps_of([2, 7], [RATE, RATE * 0.3, RATE * 0.09])),
            ("Cyclic", {"max_learning_rate": 0.1, "step_size_up": 4},
             lambda c, unit: RATE + 0.02 * (c % 8 if c % 8 <= 4 else 8 - c % 8) / 4)):
        found = rates(Schedule(STEPS, EPOCHS, name=name, learning_rate=RATE, warmup_epoch=warmup_epoch, **options), 60)
        assert np.allclose(found, paddleclas(after, warmup_epoch)) and Schedule(
            STEPS, EPOCHS, name=name, learning_rate=RATE, warmup_epoch=warmup_epoch, **options).warmup == steps


@pytest.mark.parametrize("name, options, what", [
    ("Linear", {"learning_rate": RATE, "warmup_epoch": 2}, "its warm-up"),
    ("OneCycleLR", {"max_learning_rate": RATE}, "its length"),
    ("CosineFixmatch", {"learning_rate": RATE, "num_warmup_steps": 3}, "its length")])
def test_what_paddleclas_counts_in_steps_by_epoch_is_counted_in_epochs_and_said(caplog, name, options, what):
    found = rates(Schedule(STEPS, EPOCHS, name=name, by_epoch=True, **options), 60)
    in_epochs = rates(Schedule(1, EPOCHS, name=name, **options), EPOCHS)
    assert np.allclose(found, np.repeat(in_epochs, STEPS))
    assert f"PaddleClas 2.6 counts {what} in steps" in caplog.text


def test_values_count_where_paddleclas_would_put_its_rule_in_their_place(caplog):
    same = {"name": "Piecewise", "learning_rate": 0.1, "values": [0.1, 0.01, 0.001], "decay_epochs": [30, 60]}
    assert rates(Schedule(1, 70, **same), 70) == pytest.approx([0.1] * 30 + [0.01] * 30 + [0.001] * 10)
    assert not caplog.text
    other = Schedule(1, 70, **{**same, "decay_epochs": [2, 4]})
    assert rates(other, 5) == pytest.approx([0.1] * 2 + [0.01] * 2 + [0.001])
    assert "values and decay_epochs count. PaddleClas 2.6" in caplog.text


def test_piecewise_by_a_learning_rate_alone_loses_nine_tenths_every_30_epochs():
    schedule = Schedule(2, 70, name="Piecewise", learning_rate=0.4)
    assert np.allclose(rates(schedule, 140), [0.4 * 0.1 ** (step // 60) for step in range(140)])
    short = Schedule(2, 20, name="Piecewise", learning_rate=0.4)
    assert set(rates(short, 40)) == {0.4}


def test_rates_in_options_scale_with_the_batch_as_the_learning_rate_does():
    for options in ({"name": "Constant", "learning_rate": 0.1},
                    {"name": "Piecewise", "values": [0.1, 0.05], "decay_epochs": [1]},
                    {"name": "OneCycleLR", "max_learning_rate": 0.1, "divide_factor": 1.0}):
        plain = rates(Schedule(4, 3, **options), 12)
        scaled = rates(Schedule(4, 3, batch_size=512, base_batch_size=256, **options), 12)
        assert scaled[:4] == pytest.approx([2 * rate for rate in plain[:4]])


def test_cyclic_goes_up_and_down_from_its_base_after_the_warm_up():
    schedule = Schedule(STEPS, EPOCHS, name="Cyclic", base_learning_rate=0.02, max_learning_rate=0.1, step_size_up=4,
                        warmup_epoch=1)
    wave = [0.02 + 0.08 * (c % 8 if c % 8 <= 4 else 8 - c % 8) / 4 for c in range(55)]
    assert np.allclose(rates(schedule, 60), [0.02 * c / 5 for c in range(5)] + wave)


def test_one_cycle_rises_and_falls_over_all_of_training():
    found = rates(Schedule(10, 10, name="OneCycleLR", max_learning_rate=0.1), 100)
    up, down = int(0.3 * 100) - 1, 100 - int(0.3 * 100)  # Paddle's two phases; both are half cosines

    def between(start, end, share):
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

    expected = [between(0.004, 0.1, c / up) if c <= up else between(0.1, 1e-10, (c - up) / down) for c in range(100)]
    assert np.allclose(found, expected, rtol=1e-6)


def test_fixmatchs_cosine():
    found = rates(Schedule(STEPS, EPOCHS, name="CosineFixmatch", learning_rate=RATE, num_warmup_steps=6), 60)
    expected = [RATE * (c / 6 if c < 6 else math.cos(math.pi * 7 / 16 * (c - 6) / 54)) for c in range(60)]
    assert np.allclose(found, expected)


def test_the_old_cosine_warmup_warms_up_for_five_epochs():
    assert np.allclose(rates(Schedule(STEPS, EPOCHS, name="CosineWarmup", learning_rate=RATE), 60),
                       paddleclas(cosine(7), 5))
    without = Schedule(STEPS, EPOCHS, name="CosineWarmup", learning_rate=RATE, warmup_epoch=0)
    assert np.allclose(rates(without, 60), paddleclas(cosine(12)))


def test_paddles_own_classes_count_steps_or_epochs():
    by_step = rates(Schedule(4, 5, name="StepDecay", learning_rate=1.0, step_size=2, gamma=0.1), 8)
    assert np.allclose(by_step, [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    by_epoch = rates(Schedule(4, 5, name="StepDecay", learning_rate=1.0, by_epoch=True, step_size=2, gamma=0.1), 20)
    assert np.allclose(by_epoch, [1.0] * 8 + [0.1] * 8 + [0.01] * 4)


@pytest.mark.parametrize("options, message", [
    ({"name": "Cosine", "gamma": 0.1}, "option of Optimizer.lr .Cosine.: 'gamma' is unknown"),
    ({"name": "Cosine", "T_max": 5}, "'T_max' is unknown"),
    ({"name": "Constant", "eta_min": 0.1}, "'eta_min' is unknown"),
    ({"name": "Cosine", "eta_min": 1.0}, "eta_min 1 is above the learning rate 0.5"),
    ({"name": "Linear", "learning_rate": 5e-5, "end_lr": 1e-4}, "end_lr 0.0001 is above"),
    ({"name": "Cosine", "eta_min": -1.0}, "eta_min is -1.0: it must be at least 0"),
    ({"name": "Step", "step_size": 0}, "step_size is 0.0: it must be above 0"),
    ({"name": "Step", "step_size": 1, "gamma": 2.0}, "gamma is 2.0: it must be at least 0 and below 1"),
    ({"name": "MultiStepDecay", "milestones": [3, 2]}, "rising order"),
    ({"name": "MultiStepDecay", "milestones": ["a"]}, "holds 'a'"),
    ({"name": "Piecewise", "values": [0.5, 0.1], "decay_epochs": []}, "2 values for 0 times"),
    ({"name": "Piecewise", "values": [0.1, 0.01], "decay_epochs": [2]}, "begins with 0.1 by its values"),
    ({"name": "Piecewise", "decay_epochs": [2]}, "times and no values"),
    ({"name": "Cosine", "warmup_epoch": 1, "warmup_start_lr": 0.6}, "a warm-up rises"),
    ({"name": "Cosine", "warmup_epoch": 0.5, "by_epoch": True}, "warmup_epoch is in whole epochs"),
    ({"name": "Step", "step_size": 1.5, "by_epoch": True}, "step_size is in whole epochs"),
    ({"name": "Step", "step_size": 0.3}, "less than one step"),
    ({"name": "CosineFixmatch", "num_warmup_steps": 2, "warmup_epoch": 1}, "warms up by num_warmup_steps"),
    ({"name": "ReduceOnPlateau"}, "follows a metric"),
    ({"name": "StepDecay", "step_size": -1}, "step_size is -1: it must be at least 1"),
    ({"name": "ExponentialDecay", "gamma": 7}, "gamma is 7")])
def test_what_cannot_be_meant_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Schedule(3, 3, **{"learning_rate": 0.5, **options})
