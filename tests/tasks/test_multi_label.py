"""Several labels per image against scikit-learn, PaddleClas's formulas in NumPy, and by hand."""
import numpy as np
import paddle
import pytest
import yaml

from ppadapt import build, config, paddle_compat
from ppadapt.errors import UserError
from ppadapt.tasks import MultiLabel, SingleLabel, from_manifest
from ppadapt.tasks.multi_label_losses import MultiLabelAsymmetricLoss, MultiLabelLoss
from ppadapt.tasks.multi_label_metrics import (
    AccuracyScore,
    HammingDistance,
    MultiLabelF1,
    MultiLabelMAP,
    average_precision,
)

RNG = np.random.default_rng(3)
LOGITS = RNG.normal(0, 2, (40, 5)).astype("float32")
TARGETS = (RNG.random((40, 5)) < 0.3).astype("float32")
TARGETS[:, 4] = 0  # a class that never occurs
CLASSES = list("abcde")
SIGMOID = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
needs_sklearn = pytest.mark.skipif(paddle_compat.BEFORE_3, reason="scikit-learn crashes after Paddle 2.6 is imported")


def saw(metric, logits=LOGITS, targets=TARGETS):
    for part in (slice(0, 16), slice(16, None)):
        metric.update(paddle.to_tensor(logits[part]), paddle.to_tensor(targets[part]))
    return metric


@needs_sklearn
@pytest.mark.parametrize("levels", [None, 4, 1])
def test_average_precision_is_scikit_learns(levels):
    """Also with equal scores, which are one step."""
    from sklearn.metrics import average_precision_score
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores = rng.normal(size=60) if levels is None else rng.integers(0, levels, 60).astype(float)
        there = np.r_[1, rng.random(59) < 0.3].astype(float)
        assert average_precision(scores, there) == pytest.approx(average_precision_score(there, scores), abs=1e-12)


def test_average_precision_by_hand():
    """1 at ranks 1 and 3: (1/1 + 2/3) / 2; tied with the 0 between them: 1/2 * 1/1 + 1/2 * 2/3."""
    assert average_precision(np.array([3.0, 2, 1, 0]), np.array([1, 0, 1, 0])) == pytest.approx(5 / 6)
    assert average_precision(np.array([2.0, 1, 1, 0]), np.array([1, 0, 1, 0])) == pytest.approx(5 / 6)
    assert average_precision(np.zeros(4), np.array([1, 0, 1, 0])) == pytest.approx(0.5)


@needs_sklearn
def test_map_leaves_out_a_class_that_never_occurs_and_says_so():
    from sklearn.metrics import average_precision_score
    metric = saw(MultiLabelMAP())
    each = [100 * average_precision_score(TARGETS[:, c], LOGITS[:, c]) for c in range(4)]
    assert metric.compute()["mAP"] == pytest.approx(np.mean(each), abs=1e-9)
    details = metric.details(CLASSES)
    assert [row["ap"] for row in details["per_class"][:4]] == pytest.approx(each, abs=1e-9)
    assert details["per_class"][4] == {"class": "e", "images": 0, "ap": None}
    assert details["classes_without_images"] == ["e"]
    nothing = MultiLabelMAP()
    nothing.update(paddle.to_tensor(LOGITS), paddle.zeros([40, 5]))
    assert nothing.compute() == {}  # no mean of nothing, rather than 0 or NaN


@needs_sklearn
@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_f1_at_a_threshold_is_scikit_learns(threshold):
    from sklearn.metrics import accuracy_score, f1_score, hamming_loss, precision_recall_fscore_support
    said = SIGMOID >= threshold
    metric = saw(MultiLabelF1(threshold))
    found = metric.compute()
    assert found["micro_f1"] == pytest.approx(100 * f1_score(TARGETS, said, average="micro", zero_division=0))
    assert found["macro_f1"] == pytest.approx(100 * f1_score(TARGETS[:, :4], said[:, :4], average="macro",
                                                             zero_division=0))
    precision, recall, f1, images = precision_recall_fscore_support(TARGETS, said, zero_division=0)
    for c, row in enumerate(metric.details(CLASSES)["per_class"][:4]):
        assert [row["precision"], row["recall"], row["f1"], row["images"]] == pytest.approx(
            [100 * precision[c], 100 * recall[c], 100 * f1[c], images[c]])
    assert saw(HammingDistance(threshold)).compute()["HammingDistance"] == pytest.approx(hamming_loss(TARGETS, said))
    assert saw(AccuracyScore("sample", threshold)).compute()["AccuracyScore"] == pytest.approx(
        accuracy_score(TARGETS, said))
    assert saw(AccuracyScore("label", threshold)).compute()["AccuracyScore"] == pytest.approx(
        1 - hamming_loss(TARGETS, said))


@pytest.mark.parametrize("metric", [MultiLabelMAP(), MultiLabelF1(), AccuracyScore("sample")])
def test_what_two_processes_saw_is_merged(metric):
    whole, states = saw(metric).compute(), []
    for part in (slice(0, 31), slice(31, 40), slice(0, 0)):  # one process may have seen nothing
        metric.reset()
        if len(TARGETS[part]):
            metric.update(paddle.to_tensor(LOGITS[part]), paddle.to_tensor(TARGETS[part]))
        states.append(metric.state())
    metric.reset()
    metric.combine(states)
    assert metric.compute() == whole


@pytest.mark.parametrize("options", [{}, {"weight": 2.0}, {"size_sum": True}, {"epsilon": 0.1},
                                     {"weight_ratio": True}, {"weight_ratio": True, "epsilon": 0.2, "size_sum": True}])
def test_multi_label_loss_is_paddleclass(options):
    """ppcls/loss/multilabelloss.py in NumPy: smoothing, binary cross-entropy, ratio2weight, sum or mean."""
    epsilon = options.get("epsilon", 0)
    target = TARGETS * (1 - epsilon) + epsilon / 5
    cost = -(target * np.log(SIGMOID) + (1 - target) * np.log(1 - SIGMOID))
    if options.get("weight_ratio"):
        ratio, mask = TARGETS.mean(0), target > 0.5
        cost = cost * np.exp(mask * (1 - ratio) + ~mask * ratio)
    expected = (cost.sum(1).mean() if options.get("size_sum") else cost.mean()) * options.get("weight", 1)
    loss = MultiLabelLoss(**options)
    loss.prepare(TARGETS, CLASSES)
    logits, targets = paddle.to_tensor(LOGITS), paddle.to_tensor(TARGETS)
    assert float(loss(logits, targets)) == pytest.approx(expected, rel=1e-5)
    if not options.get("weight_ratio") and not epsilon:
        mixed = loss(logits, (targets, targets[::-1], 0.3))  # mixed images: as with soft labels
        soft = loss(logits, 0.3 * targets + 0.7 * targets[::-1])
        assert float(mixed) == pytest.approx(float(soft), rel=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_asymmetric_loss_is_paddleclass(reduction):
    pt = np.minimum(1 - SIGMOID + 0.05, 1) * (1 - TARGETS) + SIGMOID * TARGETS
    cost = -np.log(np.maximum(pt, 1e-8)) * (1 - pt) ** (1 * TARGETS + 4 * (1 - TARGETS))
    loss = MultiLabelAsymmetricLoss(reduction=reduction)
    logits = paddle.to_tensor(LOGITS, stop_gradient=False)
    found = loss(logits, paddle.to_tensor(TARGETS))
    assert float(found) == pytest.approx(getattr(cost, reduction)(), rel=1e-4)
    found.backward()
    assert np.isfinite(logits.grad.numpy()).all()


def test_an_answer_names_what_reaches_the_threshold_and_may_be_none():
    task = MultiLabel(threshold=0.6)
    answer = task.answer(np.array([0.7, 0.6, 0.1, 0.95, 0.59], "float32"), CLASSES, topk=1)
    assert [p["class"] for p in answer] == ["d", "a", "b"] and answer[0]["id"] == 3
    assert task.text(answer) == "d 95.00%, a 70.00%, b 60.00%"
    assert task.text(task.answer(np.zeros(5), CLASSES, 5)) == "no class reaches 60.00%"
    assert task.caption(np.array([0.9, 0, 0, 0, 0]), np.array([1, 0, 0, 0, 1]), CLASSES) == ("a\nis a, e", False)
    assert from_manifest(task.manifest()).threshold == 0.6 and type(from_manifest(None)) is SingleLabel
    with pytest.raises(UserError, match="Did you mean 'MultiLabel'"):
        from_manifest({"kind": "MultiLabels"})


def test_logits_come_back_from_probabilities():
    task = MultiLabel()
    np.testing.assert_allclose(task.logits(SIGMOID.astype("float32")), LOGITS, rtol=1e-4, atol=1e-5)
    assert np.isfinite(task.logits(np.array([[0.0, 1.0]], "float32"))).all()
    assert task.difference(np.array([[0.5]]), np.array([[np.nan]])) != 0  # not to be lost in a maximum


@pytest.mark.parametrize("task, labels, message", [
    (SingleLabel(), np.zeros([3, 2], "float32"), "D has several labels per image .*set Task.name: MultiLabel"),
    (MultiLabel(), np.zeros(3, "int64"), "D has one label per image: set Task.name: SingleLabel"),
    (MultiLabel(), np.array([[0, 1], [0, 2]], "float32"), r"has \[0.0, 2.0\] for image 1"),
    (SingleLabel(), np.zeros(3, "float32"), "labels of type float32")])
def test_data_of_another_kind_is_refused_with_the_way_out(task, labels, message):
    with pytest.raises(UserError, match=message):
        task.check(labels, ["x", "y"], "D")


def test_what_paddleclas_says_of_several_labels_is_understood(tmp_path):
    """As its MobileNetV1_multilabel.yaml has it, with one of our networks."""
    split = {"dataset": {"name": "MultiLabelDataset", "image_root": "images", "cls_label_path": "list.txt"}}
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump({
        "Global": {"use_multilabel": True}, "Arch": {"name": "vit_micro_patch4_32"},
        "DataLoader": {"Train": split, "Eval": split},
        "Loss": {side: [{"MultiLabelLoss": {"weight": 1.0}}] for side in ("Train", "Eval")},
        "Metric": {side: [{"AccuracyScore": None}, {"HammingDistance": None}] for side in ("Train", "Eval")},
        "Infer": {"PostProcess": {"name": "MultiLabelThreshOutput", "threshold": 0.3, "class_id_map_file": None}}}))
    given = config.load(tmp_path / "theirs.yaml")
    assert given.Task == {"name": "MultiLabel", "threshold": 0.3}
    assert "Global.use_multilabel True is Task.name MultiLabel" in given.notes[0]
    assert [type(metric).__name__ for metric in build.metrics(given, build.task_of(given), "Eval")] == [
        "AccuracyScore", "HammingDistance"]
