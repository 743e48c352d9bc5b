import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import average_precision_score, roc_auc_score

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.metrics import (
    apply_thresholds,
    auroc_placements,
    challenge_scores,
    choose_thresholds,
    macro_auroc,
    macro_auroc_variance,
    macro_average_precision,
    macro_calibration_error,
    per_class_auroc,
    per_class_average_precision,
    per_class_calibration_error,
    per_class_challenge_scores,
    weighted_auroc,
    weighted_average_precision,
    weighted_calibration_error,
    weighted_challenge_scores,
    weighted_f2,
    weighted_g2,
)
from ecgtransfer.statistics import (
    undefined_classes,
)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def labels_and_scores(rng, n=300, classes=5, ties=False):
    y_true = (rng.random((n, classes)) < 0.2).astype(float)
    y_score = 0.6 * rng.random((n, classes)) + 0.2 * y_true
    return y_true, np.round(y_score, 1) if ties else y_score


def direct_challenge_scores(y_true, y_pred, beta):
    """FACTS.md section 3, record by record and class by class."""
    f, g = [], []
    for k in range(y_true.shape[1]):
        tp = fp = fn = 0.0
        for truth, predicted in zip(y_true, y_pred, strict=True):
            weight = 1.0 / (truth.sum() or 1)
            tp += weight * (truth[k] == 1 and predicted[k] == 1)
            fp += weight * (truth[k] == 0 and predicted[k] == 1)
            fn += weight * (truth[k] == 1 and predicted[k] == 0)
        f.append((1 + beta**2) * tp / ((1 + beta**2) * tp + fp + beta**2 * fn))
        g.append(tp / (tp + fp + beta * fn))
    return np.mean(f), np.mean(g)


@pytest.mark.parametrize("ties", [False, True])
def test_macro_auroc_is_that_of_scikit_learn(rng, ties):
    y_true, y_score = labels_and_scores(rng, ties=ties)
    assert macro_auroc(y_true, y_score) == pytest.approx(
        roc_auc_score(y_true, y_score, average="macro"), abs=1e-12
    )


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_scores_are_those_of_scikit_learn_with_sample_weights(rng, ties):
    y_true, y_score = labels_and_scores(rng, ties=ties)
    weights = rng.integers(0, 4, len(y_true)).astype(float)
    assert_allclose(
        per_class_auroc(y_true, y_score, weights),
        roc_auc_score(y_true, y_score, average=None, sample_weight=weights),
        atol=1e-12,
    )
    assert_allclose(
        per_class_average_precision(y_true, y_score, weights),
        average_precision_score(y_true, y_score, average=None, sample_weight=weights),
        atol=1e-12,
    )


def test_macro_average_precision_is_that_of_scikit_learn(rng):
    y_true, y_score = labels_and_scores(rng)
    assert macro_average_precision(y_true, y_score) == pytest.approx(
        average_precision_score(y_true, y_score, average="macro"), abs=1e-12
    )


def test_weights_of_a_resample_equal_repeated_records(rng):
    y_true, y_score = labels_and_scores(rng, n=60)
    y_pred = (y_score > 0.4).astype(int)
    times = rng.integers(0, 3, (4, 60))
    for row in times:
        index = np.repeat(np.arange(60), row)
        assert_allclose(
            weighted_auroc(y_true, y_score, row[None])[0],
            per_class_auroc(y_true[index], y_score[index]),
        )
        assert_allclose(
            weighted_average_precision(y_true, y_score, row[None])[0],
            per_class_average_precision(y_true[index], y_score[index]),
        )
        repeated = per_class_challenge_scores(y_true[index], y_pred[index])
        weighted = weighted_challenge_scores(y_true, y_pred, row[None])
        assert_allclose(weighted.f_beta[0], repeated.f_beta)
        assert_allclose(weighted.g_beta[0], repeated.g_beta)
    assert weighted_auroc(y_true, y_score, times).shape == (4, 5)


def test_a_class_without_positives_or_negatives_is_named_and_left_out_of_the_mean(rng):
    y_true, y_score = labels_and_scores(rng)
    y_true[:, 1], y_true[:, 3] = 0, 1
    assert_array_equal(undefined_classes(y_true), [False, True, False, True, False])
    areas = per_class_auroc(y_true, y_score)
    assert_array_equal(np.isnan(areas), undefined_classes(y_true))
    assert macro_auroc(y_true, y_score) == pytest.approx(
        macro_auroc(y_true[:, [0, 2, 4]], y_score[:, [0, 2, 4]])
    )


def direct_calibration_error(y_true, y_score, bins):
    """Mean over bins of as many records each of |share of positives - mean probability|."""
    order = np.argsort(y_score)
    parts = zip(np.split(y_true[order], bins), np.split(y_score[order], bins), strict=True)
    return np.mean([abs(y.mean() - p.mean()) for y, p in parts])


def test_calibration_error_is_the_definition(rng):
    y_true, y_score = labels_and_scores(rng)
    expected = [
        direct_calibration_error(y, p, 10) for y, p in zip(y_true.T, y_score.T, strict=True)
    ]
    assert_allclose(per_class_calibration_error(y_true, y_score), expected, atol=1e-12)
    assert macro_calibration_error(y_true, y_score) == pytest.approx(np.mean(expected), abs=1e-12)
    expected = direct_calibration_error(y_true[:, 0], y_score[:, 0], 4)
    found = macro_calibration_error(y_true[:, :1], y_score[:, :1], bins=4)
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_constant_probability_is_off_by_its_distance_from_the_share_of_positives():
    y_true = [[1], [0], [0], [0]]
    assert macro_calibration_error(y_true, np.full((4, 1), 0.65)) == pytest.approx(0.4)
    assert macro_calibration_error(y_true, np.full((4, 1), 0.25)) == pytest.approx(0, abs=1e-15)


def test_perfect_probabilities_have_hardly_any_calibration_error_and_overconfident_ones_do(rng):
    probability = rng.random((40_000, 1))
    y_true = (rng.random(probability.shape) < probability).astype(float)
    assert macro_calibration_error(y_true, probability) < 0.01
    assert macro_calibration_error(y_true, y_true) == 0
    # Of p against 1 [p > 1/2]: E|p - 1[p > 1/2]| = 1/4, all in one direction on either side.
    assert macro_calibration_error(y_true, (probability > 0.5) * 1.0, bins=2) == pytest.approx(
        0.25, abs=0.01
    )


def test_equal_probabilities_share_a_bin_in_any_order_of_the_records(rng):
    y_true, y_score = labels_and_scores(rng, ties=True)
    order = rng.permutation(len(y_true))
    assert_allclose(
        per_class_calibration_error(y_true[order], y_score[order]),
        per_class_calibration_error(y_true, y_score),
    )


def test_weighted_calibration_error_has_weighted_shares_and_means(rng):
    y_true, y_score = labels_and_scores(rng, n=40, classes=2)
    weights = rng.integers(0, 3, (5, 40))
    found = weighted_calibration_error(y_true, y_score, weights, bins=4)
    for row, errors in zip(weights, found, strict=True):
        for k in range(2):
            total = 0.0
            for part in np.split(np.argsort(y_score[:, k]), 4):
                total += abs(row[part] @ (y_true[part, k] - y_score[part, k]))
            assert errors[k] == pytest.approx(total / row.sum())
    assert_allclose(
        weighted_calibration_error(y_true, y_score, np.ones((1, 40)))[0].mean(),
        macro_calibration_error(y_true, y_score),
    )


def test_bad_calibration_is_refused():
    with pytest.raises(CorpusError, match="expected probabilities"):
        macro_calibration_error([[1], [0]], [[1.5], [0.1]])
    with pytest.raises(ConfigError, match="at least 1 bin"):
        macro_calibration_error([[1], [0]], [[0.5], [0.1]], bins=0)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_challenge_scores_are_the_formula(rng, beta):
    y_true, y_score = labels_and_scores(rng)
    y_pred = (y_score > 0.4).astype(int)
    assert_allclose(
        challenge_scores(y_true, y_pred, beta),
        direct_challenge_scores(y_true, y_pred, beta),
        atol=1e-9,
    )


def test_a_record_without_labels_counts_as_one_label_would():
    y_true = [[1, 0], [0, 1], [0, 0]]
    y_pred = [[1, 0], [0, 1], [1, 0]]
    scores = per_class_challenge_scores(y_true, y_pred, beta=2)
    assert_allclose(scores.f_beta, [5 / (5 + 1), 1])
    assert_allclose(scores.g_beta, [1 / (1 + 1), 1])


def test_a_class_never_true_scores_zero_if_predicted_and_is_left_out_if_not():
    y_true = [[1, 0, 0], [1, 0, 0]]
    y_pred = [[1, 1, 0], [1, 0, 0]]
    assert_array_equal(per_class_challenge_scores(y_true, y_pred).f_beta, [1, 0, np.nan])
    assert challenge_scores(y_true, y_pred) == (0.5, 0.5)
    every = np.ones((1, 2))
    assert weighted_f2(y_true, y_pred, every) == weighted_g2(y_true, y_pred, every) == 0.5
    assert weighted_f2(y_true, y_pred, [[0, 1]]) == 0.5


def test_g_beta_thresholds_are_the_best_of_the_grid(rng):
    y_true, y_score = labels_and_scores(rng)
    thresholds = choose_thresholds(y_true, y_score)
    for k, threshold in enumerate(thresholds):
        one, score = y_true[:, [k]], y_score[:, [k]]
        by_grid = [
            per_class_challenge_scores(one, score > t).g_beta[0] for t in np.linspace(0, 1, 100)
        ]
        assert threshold == np.linspace(0, 1, 100)[np.nanargmax(by_grid)]


def test_youden_threshold_separates_separable_scores_halfway():
    thresholds = choose_thresholds([[0], [0], [1], [1]], [[0.1], [0.2], [0.6], [0.9]], "youden")
    assert_allclose(thresholds, [0.4])


@pytest.mark.parametrize("rule", ["g_beta", "youden"])
def test_a_class_without_training_positives_never_fires_on_its_own(rule):
    y_true = [[1, 0], [0, 0], [1, 0]]
    y_score = [[0.9, 1.0], [0.1, 0.5], [0.8, 0.7]]
    assert choose_thresholds(y_true, y_score, rule)[1] == 1


def test_a_record_where_nothing_fires_gets_its_highest_class():
    predicted = apply_thresholds([[0.1, 0.3], [0.6, 0.7], [0.5, 0.2]], [0.5, 0.5])
    assert_array_equal(predicted, [[0, 1], [1, 1], [1, 0]])


@pytest.mark.parametrize(
    ("y_true", "y_score", "message"),
    [
        ([1, 0], [0.1, 0.2], "multi-hot labels"),
        ([[1], [2]], [[0.1], [0.2]], "0 and 1 only"),
        ([[1], [np.nan]], [[0.1], [0.2]], "0 and 1 only"),
        ([[1], [0]], [[0.1]], "one score per record and class"),
        ([[1], [0]], [0.1, 0.2], "one score per record and class"),
        ([[1], [0]], [[0.1], [np.nan]], "1 that are not"),
        ([[1], [1]], [[0.1], [0.2]], "a class with both"),
    ],
)
def test_bad_labels_and_scores_are_refused(y_true, y_score, message):
    with pytest.raises(CorpusError, match=message):
        macro_auroc(y_true, y_score)


@pytest.mark.parametrize(
    ("weights", "message"), [([1.0], "expected weights"), ([1.0, -1.0], "at least 0")]
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(CorpusError, match=message):
        macro_auroc([[1], [0]], [[0.1], [0.2]], weights)


def test_predictions_that_are_not_zero_or_one_are_refused():
    with pytest.raises(CorpusError, match="apply_thresholds first"):
        challenge_scores([[1], [0]], [[0.9], [0.1]])


@pytest.mark.parametrize("score", [weighted_f2, weighted_g2])
def test_nothing_true_and_nothing_predicted_is_refused(score):
    with pytest.raises(CorpusError, match="nothing to score"):
        score([[0], [0]], [[0], [0]], np.ones((1, 2)))
    with pytest.raises(CorpusError, match="nothing to score"):
        challenge_scores([[0], [0]], [[0], [0]])


def test_a_beta_that_is_not_positive_is_refused():
    with pytest.raises(ConfigError, match="beta must be positive"):
        challenge_scores([[1]], [[1]], beta=0)


def test_bad_thresholds_are_refused():
    with pytest.raises(ConfigError, match="unknown threshold rule"):
        choose_thresholds([[1], [0]], [[0.9], [0.1]], "best")
    with pytest.raises(CorpusError, match="expected probabilities"):
        choose_thresholds([[1], [0]], [[3.0], [0.1]])
    with pytest.raises(CorpusError, match="one threshold per class"):
        apply_thresholds([[0.9, 0.1]], [0.5])
    with pytest.raises(CorpusError, match="finite scores"):
        apply_thresholds([[np.nan]], [0.5])


def delong_variance(y_true, y_score):
    """DeLong, DeLong and Clarke-Pearson 1988, eqs. 4 to 6, one class, pair by pair."""
    x, y = y_score[y_true == 1], y_score[y_true == 0]
    wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    return wins.mean(1).var(ddof=1) / len(x) + wins.mean(0).var(ddof=1) / len(y)


@pytest.mark.parametrize("ties", [False, True])
def test_placements_average_to_the_area_and_vary_as_delong_says(rng, ties):
    y_true, y_score = labels_and_scores(rng, n=60, classes=4, ties=ties)
    placements = auroc_placements(y_true, y_score)
    areas = per_class_auroc(y_true, y_score)
    for k in range(4):
        for side in (0, 1):
            assert placements[y_true[:, k] == side, k].mean() == pytest.approx(areas[k])
        variance, freedom = macro_auroc_variance(y_true[:, [k]], placements[:, [k]])
        assert variance == pytest.approx(delong_variance(y_true[:, k], y_score[:, k]))
        assert freedom == y_true[:, k].sum() - 1


def test_the_variance_of_a_macro_area_knows_what_classes_share(rng):
    y_true, y_score = labels_and_scores(rng, n=80, classes=1)
    placements = auroc_placements(y_true, y_score)
    one, _ = macro_auroc_variance(y_true, placements)
    thrice, _ = macro_auroc_variance(np.tile(y_true, 3), np.tile(placements, 3))
    assert thrice == pytest.approx(one)
    copies, freedom = macro_auroc_variance(
        np.tile(y_true, (3, 1)), np.tile(placements, (3, 1)), np.tile(np.arange(80), 3)
    )
    assert copies == pytest.approx(one)
    assert freedom == y_true.sum() - 1


def test_a_lone_positive_varies_as_the_others_do():
    """Its own variance cannot be seen; a bootstrap takes it for none."""
    y_true = np.zeros((40, 2))
    y_true[:10, 0] = y_true[10, 1] = 1
    y_score = np.random.default_rng(3).normal(size=y_true.shape) + y_true
    placements = auroc_placements(y_true, y_score)
    variance, freedom = macro_auroc_variance(y_true, placements)
    spread = placements[:10, 0].var(ddof=1)
    negatives = placements[y_true[:, 1] == 0, 1].var(ddof=1) / 39
    assert freedom == 9
    # What the lone positive adds is the spread of the others, over the two classes squared.
    still = placements.copy()
    still[:10, 0] = still[:10, 0].mean()
    without, _ = macro_auroc_variance(y_true, still)
    assert variance - without > spread / 4
    alone, freedom = macro_auroc_variance(y_true[:, 1:], placements[:, 1:])
    assert (alone, freedom) == (pytest.approx(1 + negatives), 1)


def test_placements_of_other_records_are_refused():
    with pytest.raises(CorpusError, match=r"one placement per record and class, \(3, 2\)"):
        macro_auroc_variance(np.eye(3)[:, :2], np.zeros((2, 2)))
    with pytest.raises(CorpusError, match="nothing can vary"):
        macro_auroc_variance(np.ones((3, 2)), np.zeros((3, 2)))
