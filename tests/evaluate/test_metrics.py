"""Metrics against scikit-learn, SciPy and naive sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fittingroom.errors import DataError, UsageError
from fittingroom.evaluate import metrics


def made_up(count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(classes, 0.5), size=count)
    labels = np.where(generator.random(count) < 0.7, probabilities.argmax(1), generator.integers(0, classes, count))
    return probabilities, labels


def certain(predicted: list[int], classes: int) -> np.ndarray:
    return np.eye(classes)[predicted]


labelled = st.integers(2, 12).flatmap(
    lambda classes: st.tuples(
        st.just(classes), st.lists(st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1)), min_size=1, max_size=60)
    )
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=60, deadline=None)
@given(labelled, st.integers(2, 15), st.data())
def test_report_is_scikit_learns_to_the_last_blank(case: tuple[int, list[tuple[int, int]]], digits: int, data: st.DataObject) -> None:
    classes, pairs = case
    true, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assume(any(t == p for t, p in pairs))  # without a single hit scikit-learn prints supports as floats ("2.0"); we do not
    target_names = data.draw(st.lists(names, min_size=classes, max_size=classes))
    ours = metrics.classification_report(metrics.confusion_matrix(certain(predicted, classes), np.array(true)), target_names, digits)
    theirs = sklearn.metrics.classification_report(
        true, predicted, labels=range(classes), target_names=target_names, digits=digits, zero_division=0
    )
    assert ours == theirs


@pytest.mark.parametrize(("count", "classes"), [(1, 2), (37, 3), (2000, 10), (500, 26)])
def test_every_number_agrees_with_scikit_learn(count: int, classes: int) -> None:
    probabilities, labels = made_up(count, classes, seed=count)
    predicted, every = probabilities.argmax(1), range(classes)
    confusion = metrics.confusion_matrix(probabilities, labels)
    assert (confusion == sklearn.metrics.confusion_matrix(labels, predicted, labels=every)).all()
    assert metrics.accuracy(confusion) == sklearn.metrics.accuracy_score(labels, predicted)
    loss = sklearn.metrics.log_loss(labels, probabilities, labels=every)
    assert metrics.cross_entropy(probabilities, labels) == pytest.approx(loss, rel=1e-9)
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)
    scores = metrics.class_scores(confusion)
    assert np.allclose([(s.precision, s.recall, s.f1, s.support) for s in scores], np.transpose([precision, recall, f1, support]))
    for average, ours in (("macro", metrics.macro_average(scores)), ("weighted", metrics.weighted_average(scores))):
        theirs = sklearn.metrics.precision_recall_fscore_support(labels, predicted, labels=every, average=average, zero_division=0)
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(theirs[:3])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95, 0.99]))
def test_an_interval_agrees_with_scipy(case: tuple[int, int], confidence: float) -> None:
    correct, total = case
    theirs = scipy.stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    low, high = metrics.wilson_interval(correct, total, confidence)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert 0 <= low <= correct / total <= high <= 1


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_proportions_are_refused(correct: int, total: int) -> None:
    with pytest.raises(UsageError, match="proportion"):
        metrics.wilson_interval(correct, total)


def test_interval_needs_a_confidence_between_0_and_1() -> None:
    with pytest.raises(UsageError, match="confidence"):
        metrics.wilson_interval(1, 2, 1.0)


def test_loss_of_an_impossible_event_is_large_but_finite_and_of_a_sure_one_zero() -> None:
    assert metrics.cross_entropy(certain([0], 2), np.array([1])) == pytest.approx(87.34, abs=0.01)
    loss = metrics.cross_entropy(certain([0], 2), np.array([0]))
    assert loss == 0
    assert math.copysign(1, loss) == 1


def test_loss_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    logits = torch.randn((64, 7), generator=torch.Generator().manual_seed(1)) * 10
    labels = torch.arange(64) % 7
    expected = torch.nn.functional.cross_entropy(logits, labels).item()
    assert metrics.cross_entropy(logits.softmax(1).numpy(), labels.numpy()) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(labelled, st.integers(1, 30))
def test_confused_pairs_are_the_largest_cells_off_the_diagonal(case: tuple[int, list[tuple[int, int]]], limit: int) -> None:
    classes, examples = case
    naive = {(t, p): sum(pair == (t, p) for pair in examples) for t in range(classes) for p in range(classes) if t != p}
    expected = sorted((count for count in naive.values() if count), reverse=True)[:limit]
    confusion = metrics.confusion_matrix(certain([p for _, p in examples], classes), np.array([t for t, _ in examples]))
    pairs = metrics.confused_pairs(confusion, limit)
    assert [pair.count for pair in pairs] == expected
    assert all(naive[pair.true, pair.predicted] == pair.count for pair in pairs)
    assert all(pair.share == pytest.approx(pair.count / sum(t == pair.true for t, _ in examples)) for pair in pairs)


def test_top_mistakes_are_those_a_naive_loop_finds() -> None:
    probabilities, labels = made_up(300, 5, seed=3)
    naive = sorted((-row.max(), i) for i, row in enumerate(probabilities) if row.argmax() != labels[i])[:10]
    mistakes = metrics.top_mistakes(probabilities, labels, 10)
    assert [mistake.index for mistake in mistakes] == [index for _, index in naive]
    for mistake in mistakes:
        assert mistake.true == labels[mistake.index]
        assert mistake.predicted == probabilities[mistake.index].argmax()
        assert mistake.probability == probabilities[mistake.index].max()


def test_no_mistakes_where_all_is_right() -> None:
    assert metrics.top_mistakes(certain([0, 1], 2), np.array([0, 1])) == ()
    assert metrics.confused_pairs(np.eye(2, dtype=int)) == ()


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        ([0.5, 0.5], [0], r"\[count, classes\]"),
        ([[1, 0]], [0], "floats"),
        ([[0.5, 0.5]], [[0]], r"\[count\]"),
        ([[0.5, 0.5]], [0.0], "integers"),
        ([[0.5, 0.5]], [0, 1], "1 rows of probabilities but 2 labels"),
        (np.zeros((0, 2)), np.zeros(0, int), "nothing to evaluate"),
        ([[1.0]], [0], "nothing to evaluate"),
        ([[0.5, 0.5], [np.nan, 1.0]], [0, 1], "row 1"),
        ([[np.inf, 0.0]], [0], "row 0"),
        ([[1e308, 1e308]], [0], "row 0"),
        ([[3.0, -2.0]], [0], "row 0"),
        ([[0.4, 0.4]], [0], "softmax"),
        ([[0.5, 0.5]], [2], "label 2 of example 0"),
        ([[0.5, 0.5]], [-1], "label -1 of example 0"),
    ],
)
def test_bad_predictions_are_refused_in_one_line(probabilities: object, labels: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        metrics.confusion_matrix(np.asarray(probabilities), np.asarray(labels))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("confusion", [[[1]], [[1, 2]], [[-1, 2], [0, 1]], [[0, 0], [0, 0]], [[0.5, 0.5], [1.0, 1.0]]])
def test_bad_confusion_matrices_are_refused(confusion: list[list[float]]) -> None:
    with pytest.raises(DataError, match="confusion matrix"):
        metrics.accuracy(confusion)


def test_report_needs_one_name_a_class() -> None:
    with pytest.raises(UsageError, match="3 class names for 2 classes"):
        metrics.classification_report([[1, 0], [0, 1]], ["a", "b", "c"])
    with pytest.raises(UsageError, match="digits"):
        metrics.classification_report([[1, 0], [0, 1]], ["a", "b"], digits=-1)
