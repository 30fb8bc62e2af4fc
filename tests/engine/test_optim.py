"""Schedules against the formula of the authors' code, optimizers by name, EMA."""
import math

import numpy as np
import paddle
import pytest

from ppadapt import paddle_compat
from ppadapt.engine import optim
from ppadapt.engine.optim import EMA, Schedule, build_optimizer
from ppadapt.errors import ConfigError


def rates(schedule, count):
    found = []
    for _ in range(count):
        found.append(schedule.get_lr())
        schedule.step()
    return found


def authors(step, per_epoch, epochs, warmup, peak):
    """MAE's and AdaptFormer's adjust_learning_rate, from the paper: linear from 0, then half a cosine to 0."""
    epoch = step / per_epoch
    if epoch < warmup:
        return peak * epoch / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


def test_the_papers_schedule():
    schedule = Schedule(7, 10, batch_size=512, name="Cosine", learning_rate=0.1, base_batch_size=256, warmup_epoch=2)
    assert np.allclose(rates(schedule, 70), [authors(i, 7, 10, 2, 0.2) for i in range(70)], atol=1e-12)


def test_a_schedule_goes_on_where_its_state_was_saved():
    whole = rates(Schedule(5, 4, name="Cosine", learning_rate=0.3, warmup_epoch=1), 20)
    first = Schedule(5, 4, name="Cosine", learning_rate=0.3, warmup_epoch=1)
    rates(first, 11)
    second = Schedule(5, 4, name="Cosine", learning_rate=0.3, warmup_epoch=1)
    second.set_state_dict(first.state_dict())
    assert np.allclose(rates(second, 9), whole[11:])


@pytest.mark.parametrize("name, options", [
    ("ExponentialDecay", {"gamma": 0.9}), ("PolynomialDecay", {}), ("Linear", {}), ("OneCycleLR", {}),
    ("MultiStepDecay", {"milestones": [2, 4]}), ("Piecewise", {"boundaries": [3], "values": [0.5, 0.25]}),
    ("CosineAnnealingWarmRestarts", {"T_0": 5}), ("Constant", {})])
def test_schedules_of_paddle_by_name(name, options):
    found = rates(Schedule(3, 3, name=name, learning_rate=0.5, **options), 9)
    assert all(math.isfinite(rate) and 0 <= rate <= 1 for rate in found)
    assert name == "Constant" or len(set(found)) > 1


@pytest.mark.parametrize("options, message", [
    ({"name": "Cosin"}, "Did you mean 'Cosine'"), ({"name": "Cosine", "warmup_epoch": 5}, "warm-up must end"),
    ({"name": "StepDecay", "stepsize": 1}, "Did you mean 'step_size'"), ({"name": "StepDecay"}, "step_size"),
    ({"name": "LambdaDecay"}, "unknown")])
def test_schedule_mistakes(options, message):
    with pytest.raises(ConfigError, match=message):
        Schedule(3, 3, learning_rate=0.5, **options)


def parameters():
    paddle.seed(0)
    return dict(paddle.nn.Linear(3, 2).named_parameters())


@pytest.mark.parametrize("name", ["SGD", "Momentum", "Adam", "AdamW", "RMSProp", "Lamb", "Adagrad",
                                  pytest.param("NAdam", marks=pytest.mark.needs_paddle("NAdam"))])
def test_optimizers_of_paddle_by_name(name):
    named = parameters()
    before = named["weight"].numpy()
    options = {"rho": 0.9} if name == "RMSProp" else {}
    optimizer = build_optimizer(named, Schedule(1, 1, learning_rate=0.1), name, **options)
    (named["weight"].sum() ** 2).backward()
    optimizer.step()
    assert not np.allclose(named["weight"].numpy(), before)


def test_an_optimizer_that_only_later_paddles_have_says_so(monkeypatch):
    monkeypatch.setattr(optim, "OPTIMIZERS", ["SGD"])
    monkeypatch.setitem(paddle_compat.FEATURES, "NAdam", (lambda: False, "choose Adam"))
    with pytest.raises(ConfigError, match=r"^Optimizer.name: Paddle [\d.]+ has no NAdam: choose Adam$"):
        build_optimizer(parameters(), Schedule(1, 1), "NAdam")


def test_decay_can_leave_names_and_vectors_out():
    named = parameters()
    named["bias"].set_value(np.ones(2, "float32"))
    before = {n: p.numpy() for n, p in named.items()}
    optimizer = build_optimizer(named, Schedule(1, 1, learning_rate=0.1), "AdamW", weight_decay=0.5,
                                one_dim_param_no_weight_decay=True)
    (0.0 * (named["weight"].sum() + named["bias"].sum())).backward()
    optimizer.step()
    assert np.allclose(named["weight"].numpy(), before["weight"] * 0.95) and np.allclose(named["bias"].numpy(), 1.0)


def test_clipping_by_the_global_norm():
    named = parameters()
    before = {n: p.numpy() for n, p in named.items()}
    optimizer = build_optimizer(named, Schedule(1, 1, learning_rate=1.0), "SGD", clip_norm=0.5)
    (100.0 * named["weight"].sum()).backward()
    optimizer.step()
    moved = np.sqrt(sum(((p.numpy() - before[n]) ** 2).sum() for n, p in named.items()))
    assert moved == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("options, message", [
    ({"name": "Momentun"}, "Did you mean 'Momentum'"), ({"name": "SGD", "momentum": 0.9}, "option of Optimizer"),
    ({"name": "SGD", "clip_norm": 1, "clip_value": 1}, "keep one"),
    ({"name": "SGD", "no_weight_decay_name": "bias"}, "for AdamW"),
    ({"name": "SGD", "regularizer": {"name": "L3"}}, "regularizer")])
def test_optimizer_mistakes(options, message):
    with pytest.raises(ConfigError, match=message):
        build_optimizer(parameters(), Schedule(1, 1), **options)


def test_ema_follows_its_formula_and_gives_the_parameters_back():
    named = parameters()
    weight = named["weight"]
    ema = EMA(named, 0.5)
    expected, steps = weight.numpy(), 0
    for value in (1.0, 3.0, -2.0):
        weight.set_value(np.full([3, 2], value, "float32"))
        ema.update()
        steps += 1
        decay = min(0.5, (1 + steps) / (10 + steps))
        expected = decay * expected + (1 - decay) * value
    with ema:
        assert np.allclose(weight.numpy(), expected)
    assert np.allclose(weight.numpy(), -2.0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        EMA(named, 1.0)
