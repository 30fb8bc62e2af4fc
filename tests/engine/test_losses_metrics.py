"""Losses and accuracies against NumPy in float64."""
import numpy as np
import paddle
import pytest

from ppadapt.engine.losses import CELoss
from ppadapt.engine.metrics import TopkAcc, Totals

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 7))
LABELS = RNG.integers(0, 7, 6)
OTHERS = RNG.integers(0, 7, 6)


def numpy_loss(labels, epsilon):
    logp = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))
    target = np.full((6, 7), epsilon / 7)
    target[np.arange(6), labels] += 1 - epsilon
    return -(target * logp).sum(1).mean()


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_cross_entropy_with_smoothing_and_mixed_labels(epsilon):
    logits = paddle.to_tensor(LOGITS.astype("float32"))
    a, b = paddle.to_tensor(LABELS), paddle.to_tensor(OTHERS)
    assert float(CELoss(2.0, epsilon)(logits, a)) == pytest.approx(2 * numpy_loss(LABELS, epsilon), rel=1e-5)
    mixed = 0.3 * numpy_loss(LABELS, epsilon) + 0.7 * numpy_loss(OTHERS, epsilon)
    assert float(CELoss(1.0, epsilon)(logits, (a, b, 0.3))) == pytest.approx(mixed, rel=1e-5)


def test_topk_counts_and_their_means():
    logits = paddle.to_tensor(LOGITS.astype("float32"))
    order = np.argsort(-LOGITS, 1)
    totals = Totals()
    totals.add(6, loss=paddle.to_tensor(12.0), **TopkAcc([1, 3, 9])(logits, paddle.to_tensor(LABELS)))
    read = totals.read()
    assert read["loss"] == pytest.approx(2.0)
    assert read["top1"] == pytest.approx(100 * (order[:, 0] == LABELS).mean())
    assert read["top3"] == pytest.approx(100 * (order[:, :3] == LABELS[:, None]).any(1).mean())
    assert read["top9"] == pytest.approx(100.0)
    with pytest.raises(ValueError, match="whole numbers"):
        TopkAcc([0])
