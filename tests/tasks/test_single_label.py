"""Losses and measures of one label per image against NumPy in float64 and scikit-learn."""
import numpy as np
import paddle
import pytest

from ppadapt.engine.totals import MeanLoss
from ppadapt.errors import UserError
from ppadapt.tasks.single_label_losses import CELoss, FocalLoss
from ppadapt.tasks.single_label_metrics import ConfusionMatrix, TopkAcc

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
    metric = TopkAcc([1, 3, 9])
    metric.update(logits, paddle.to_tensor(LABELS))
    read = metric.compute()
    assert metric.names() == list(read) == ["top1", "top3", "top9"] and metric.notes(7) == {"top9": "of 7 classes"}
    assert read["top1"] == pytest.approx(100 * (order[:, 0] == LABELS).mean())
    assert read["top3"] == pytest.approx(100 * (order[:, :3] == LABELS[:, None]).any(1).mean())
    assert read["top9"] == pytest.approx(100.0)
    with pytest.raises(ValueError, match="whole numbers"):
        TopkAcc([0])


def test_the_mean_loss_is_over_images():
    total = MeanLoss()
    total.add(6, paddle.to_tensor(2.0))
    total.add(2, paddle.to_tensor(4.0))
    assert total.read() == pytest.approx(2.5) and total.images == 8


def rows(labels):
    logp = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))
    return -logp[np.arange(6), labels]


@pytest.mark.parametrize("given, weights", [
    ([1, 2, 0.5, 0, 3, 1, 1], [1, 2, 0.5, 0, 3, 1, 1]), ({"b": 4}, [1, 4, 1, 1, 1, 1, 1]),
    ("balanced", None)])
def test_class_weights_count_images_of_a_class_more_or_less(given, weights):
    data = np.repeat(np.arange(7), [1, 2, 3, 4, 5, 6, 7])
    loss = CELoss(class_weight=given)
    loss.prepare(data, list("abcdefg"))
    if weights is None:
        from sklearn.utils.class_weight import compute_class_weight
        weights = compute_class_weight("balanced", classes=np.arange(7), y=data)
    found = float(loss(paddle.to_tensor(LOGITS.astype("float32")), paddle.to_tensor(LABELS)))
    assert found == pytest.approx((np.asarray(weights)[LABELS] * rows(LABELS)).mean(), rel=1e-5)


@pytest.mark.parametrize("given, message", [
    ("balance", "give balanced, a number"), ([1, 2], "for each of the 7 classes"), ({"z": 1}, "z, which is no class"),
    ([1, 1, 1, 1, 1, 1, -1], "numbers from 0"), ([0] * 7, "not all of them 0")])
def test_wrong_class_weights_are_named(given, message):
    with pytest.raises(UserError, match=message):
        CELoss(class_weight=given).prepare(np.arange(7), list("abcdefg"))


def test_balancing_a_class_without_images_is_refused():
    with pytest.raises(UserError, match="there is none of g"):
        CELoss(class_weight="balanced").prepare(np.arange(6), list("abcdefg"))


def test_focal_loss_is_cross_entropy_times_a_power_of_what_is_missing():
    logits, labels = paddle.to_tensor(LOGITS.astype("float32"), stop_gradient=False), paddle.to_tensor(LABELS)
    ce = rows(LABELS)
    assert float(FocalLoss(gamma=2)(logits, labels)) == pytest.approx(((1 - np.exp(-ce)) ** 2 * ce).mean(), rel=1e-5)
    assert float(FocalLoss(gamma=0)(logits, labels)) == pytest.approx(ce.mean(), rel=1e-5)
    sure = paddle.to_tensor([[200.0, 0.0]], stop_gradient=False)
    FocalLoss(gamma=0.5)(sure, paddle.to_tensor([0])).backward()
    assert np.isfinite(sure.grad.numpy()).all()


def test_recall_precision_f1_and_confusion_are_scikit_learns():
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
    rng = np.random.default_rng(5)
    logits, labels = rng.normal(size=(90, 4)).astype("float32"), rng.integers(0, 3, 90)  # class d has no image
    metric = ConfusionMatrix()
    for part in (slice(0, 64), slice(64, 90)):
        metric.update(paddle.to_tensor(logits[part]), paddle.to_tensor(labels[part]))
    found = metric.details(list("abcd"))
    assert found["confusion"] == confusion_matrix(labels, logits.argmax(1), labels=range(4)).tolist()
    precision, recall, f1, images = precision_recall_fscore_support(labels, logits.argmax(1), labels=range(4),
                                                                    zero_division=0)
    for i, row in enumerate(found["per_class"][:3]):
        assert (row["class"], row["images"]) == ("abc"[i], images[i])
        assert [row[k] for k in ("precision", "recall", "f1")] == pytest.approx(
            [100 * precision[i], 100 * recall[i], 100 * f1[i]])
    assert found["per_class"][3] == {"class": "d", "images": 0, "recall": None, "precision": 0.0, "f1": None}


@pytest.mark.parametrize("metric", [TopkAcc([1, 2]), ConfusionMatrix()])
def test_what_two_processes_saw_is_merged(metric):
    logits, labels = paddle.to_tensor(LOGITS.astype("float32")), paddle.to_tensor(LABELS)
    metric.update(logits, labels)
    whole = metric.compute(), metric.details(list("abcdefg"))
    states = []
    for part in (slice(0, 4), slice(4, 6)):
        metric.reset()
        metric.update(logits[part], labels[part])
        states.append(metric.state())
    metric.combine(states)
    assert (metric.compute(), metric.details(list("abcdefg"))) == whole
