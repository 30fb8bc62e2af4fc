"""Differences that are real: coverage on made data, the closed form of McNemar's test, scipy's bootstrap and t-test."""
import numpy as np
import pytest
from scipy import stats

from ppadapt.runs import comparison, significance
from ppadapt.tasks.metric import packed, unpacked


def made(rng, seeds, images, of_seed, gap=0.2):
    """Two methods' answers [2, seeds, images]: right where the method's level, the seed's luck and chance say so."""
    hard = rng.normal(size=images)[None]
    luck = of_seed * rng.normal(size=(2, seeds, 1))
    own, noise = rng.normal(size=(2, 1, images)), rng.normal(size=(2, seeds, images))
    return np.array([0.3 + gap, 0.3])[:, None, None] + luck + 0.5 * own > hard + 0.5 * noise


def truth(of_seed, gap=0.2):
    """Their difference over all images and seeds: all that is random adds up to one normal distribution."""
    spread = np.sqrt(1 + of_seed ** 2 + 0.25 + 0.25)
    return 100 * (stats.norm.cdf((0.3 + gap) / spread) - stats.norm.cdf(0.3 / spread))


@pytest.mark.parametrize("seeds, of_seed", [(1, 0.0), (3, 0.0), (3, 0.05), (3, 0.3)])
def test_the_interval_holds_the_true_difference_as_often_as_it_says(seeds, of_seed):
    """200 images; one seed; where seeds do not matter, where they matter a little, and where they decide."""
    rng, right = np.random.default_rng(1), truth(of_seed)
    found = [significance.paired(*made(rng, seeds, 200, of_seed), draws=1000) for _ in range(500)]
    assert 0.925 <= np.mean([one.low <= right <= one.high for one in found]) <= 0.985


def test_of_one_seed_it_is_the_interval_of_mcnemars_test():
    """The difference of paired shares has variance (b + c - (b - c)^2 / n) / n^2."""
    rng = np.random.default_rng(2)
    one, other = made(rng, 1, 2000, 0.0)
    found = significance.paired(one, other)
    b, c, n = int((one & ~other).sum()), int((other & ~one).sum()), 2000
    half = 1.96 * 100 * np.sqrt(b + c - (b - c) ** 2 / n) / n
    assert found.mean == pytest.approx(100 * (b - c) / n)
    assert found.high - found.mean == pytest.approx(half, rel=0.04) == found.mean - found.low


def test_it_is_scipys_bootstrap_of_the_same_images():
    one, other = made(np.random.default_rng(3), 1, 500, 0.0)
    found = significance.paired(one, other)
    theirs = stats.bootstrap((one[0].astype(float), other[0].astype(float)), paired=True, method="percentile",
                             statistic=lambda a, b, axis=-1: 100 * (a.mean(axis) - b.mean(axis)), n_resamples=5000)
    low, high = theirs.confidence_interval
    assert found.low == pytest.approx(low, abs=0.35) and found.high == pytest.approx(high, abs=0.35)


def test_seeds_alone_are_a_paired_t_test():
    one, other = np.array([54.0, 55.5, 54.7]), np.array([52.1, 52.9, 53.0])
    found = significance.of_seeds(one - other)
    low, high = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert found.low == pytest.approx(low, abs=0.05) and found.high == pytest.approx(high, abs=0.05)
    assert found.real and found.images is None


def run(seed, right, **more):
    right = np.asarray(right)
    return {"seed": seed, "top1": 100 * right.mean(), "right": packed(right), "data": {"Eval": "a"}, **more}


def test_runs_are_paired_by_seed_and_image_only_where_both_are_the_same():
    rng = np.random.default_rng(4)
    one, other = made(rng, 3, 300, 0.0)
    ours = [run(s, one[s]) for s in range(3)]
    theirs = [run(s, other[s]) for s in (2, 0)]
    found = significance.between(ours, theirs, "top1")
    assert (found.seeds, found.images) == (2, 300)
    assert found.mean == pytest.approx(100 * (one[[0, 2]].mean() - other[[0, 2]].mean()))
    assert significance.between(ours, [run(7, other[0])], "top1") is None
    elsewhere = [run(s, other[s], data={"Eval": "b"}) for s in range(3)]
    assert significance.between(ours, elsewhere, "top1") is None  # of other test images nothing is said
    unsaid = [{**run(s, other[s]), "right": None} for s in range(3)]
    assert significance.between(ours, unsaid, "top1").images is None
    # A score that is no mean over images (mAP) is compared by its seeds, whatever is known of images.
    scores = [{**run(s, other[s]), "mAP": 50.0 + s} for s in range(3)]
    better = [{**one, "mAP": one["mAP"] + 1 + 0.01 * one["seed"]} for one in scores]
    assert significance.between(better, scores, "mAP").images is None
    assert significance.between(ours[:1], unsaid[:1], "top1") is None


def test_identical_answers_do_not_differ():
    right = np.random.default_rng(5).random((3, 100)) > 0.4
    found = significance.paired(right, right)
    assert (found.low, found.mean, found.high) == (0.0, 0.0, 0.0) and not found.real


def test_flags_come_back_as_they_were():
    for count in (0, 1, 7, 8, 9, 2000):
        flags = np.random.default_rng(count).random(count) > 0.5
        assert np.array_equal(unpacked(packed(flags)), flags)


def letters(names, pairs):
    differ = np.zeros((len(names), len(names)), bool)
    for a, b in pairs:
        i, j = names.index(a), names.index(b)
        differ[i, j] = differ[j, i] = True
    return dict(zip(names, significance.groups(differ)))


def test_letters_are_shared_by_those_that_cannot_be_told_apart_and_by_no_others():
    assert letters("abc", []) == {"a": "a", "b": "a", "c": "a"}
    assert letters("abc", [("a", "b"), ("a", "c"), ("b", "c")]) == {"a": "a", "b": "b", "c": "c"}
    assert letters("abc", [("a", "c")]) == {"a": "a", "b": "ab", "c": "b"}
    assert letters("abcd", [("a", "c"), ("a", "d"), ("b", "d")]) == {"a": "a", "b": "ab", "c": "bc", "d": "c"}
    rng = np.random.default_rng(6)
    for _ in range(50):  # any table, even one that is not in order
        differ = np.triu(rng.random((9, 9)) < 0.4, 1)
        differ |= differ.T
        groups = significance.groups(differ)
        for i in range(9):
            for j in range(i):
                assert bool(set(groups[i]) & set(groups[j])) != differ[i, j]


def row(method, runs):
    more = {"trained_parameters": 10, "parameters": 100, "file_bytes": 5, "images_per_second": 1.0, "seconds": 2.0,
            "peak_memory_mb": 3.0}
    return comparison.summarise(method, [{**one, **more} for one in runs])


def test_a_table_says_which_differences_are_real():
    rng = np.random.default_rng(7)
    better, same = made(rng, 3, 1000, 0.0, gap=0.0)
    worse = same & (rng.random(same.shape) > 0.2)
    rows = [row(name, [run(s, right[s]) for s in range(3)]) for name, right in
            (("worse", worse), ("adaptformer", better), ("same", same))]
    text = comparison.table(rows)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[:5]]
    head, group = cells[0], cells[0].index("group")
    assert head[2] == "difference to adaptformer" and cells[3][2] == ""
    found = comparison.differences(rows)[0]
    assert cells[2][2] == str(found) and found.high < 0
    assert [cells[i][group] for i in (2, 3, 4)] == ["b", "a", "a"]
    assert "a bootstrap over the test images and the seeds' own spread" in text
    one_seed = comparison.table([row(r["method"], r["runs"][:1]) for r in rows])
    assert "what another seed would change is not in it" in one_seed
    assert "difference to worse" in comparison.table([rows[0], rows[2]])  # without AdaptFormer, the first
    blind = [row(r["method"], [{**one, "right": None} for one in r["runs"][:1]]) for r in rows]
    assert "nothing here tells the methods apart" in comparison.table(blind)
    assert "group" not in comparison.table(rows[:1])
