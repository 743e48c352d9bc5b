import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.fidelity import projection, two_sample
from ecgtransfer.evaluation.fidelity.two_sample import (
    FOLDS,
    cross_validated_auc,
    label_patterns,
    matched,
    shared_groups,
    two_sample_test,
)
from tests.evaluation.round_trip import through_a_card


@pytest.fixture
def rng():
    return np.random.default_rng(12)


def mean_auc(draw, repeats, **options):
    """Mean AUC of independent repeats, and its standard error."""
    values = [
        two_sample_test(*draw(), resamples=2, seed=seed, **options).auc.value
        for seed in range(repeats)
    ]
    return np.mean(values), np.std(values) / np.sqrt(repeats)


def test_sets_of_one_law_are_told_apart_by_chance_alone(rng):
    auc, error = mean_auc(lambda: rng.normal(size=(2, 60, 4)), 60)
    assert error < 0.015
    assert abs(auc - 0.5) < 4 * error


@pytest.mark.parametrize("kind", ["linear", "boosted"])
def test_far_sets_are_always_told_apart(rng, kind):
    a = rng.normal(size=(60, 4))
    test = two_sample_test(a, a + 20, kind=kind, resamples=5)
    assert (test.auc.value, test.auc.high) == (1, 1)
    assert test.auc.low == pytest.approx(60 / (60 + 1.96**2), abs=1e-4)  # Wilson: 60 of 60
    assert (test.records, test.kind) == (60, kind)


def test_a_shift_of_normals_has_the_auc_of_the_best_classifier(rng):
    """Two normals d apart: AUC Φ(d / √2), which a linear classifier reaches with many records."""
    from scipy.stats import norm

    shift = np.array([1.2, 0, 0])
    test = two_sample_test(rng.normal(size=(3000, 3)), rng.normal(size=(3000, 3)) + shift)
    assert test.auc.low < norm.cdf(1.2 / np.sqrt(2)) < test.auc.high
    assert test.auc.high - test.auc.low < 0.03


def test_a_spread_without_a_shift_is_seen_by_the_boosted_classifier_alone(rng):
    a, b = rng.normal(size=(400, 3)), 2 * rng.normal(size=(400, 3))
    assert two_sample_test(a, b, kind="boosted", resamples=5).auc.low > 0.6
    assert two_sample_test(a, b, kind="linear", resamples=5).auc.high < 0.6


def test_more_records_of_one_side_do_not_take_part(rng):
    test = two_sample_test(rng.normal(size=(30, 2)), rng.normal(size=(200, 2)), resamples=2)
    assert test.records == 30


@pytest.mark.parametrize("kind", ["linear", "boosted"])
def test_repeated_records_of_a_patient_do_not_lift_the_auc(rng, kind):
    """One law, every patient three times: who learns from his twins knows a record's side."""

    def draw():
        return [np.repeat(rng.normal(size=(30, 25)), 3, axis=0) for _ in range(2)]

    patients = np.repeat(np.arange(30), 3)
    held, error = mean_auc(
        lambda: [*draw(), patients, patients + 30], 25 if kind == "linear" else 8, kind=kind
    )
    assert abs(held - 0.5) < 4 * error
    assert error < 0.05
    leaked, _ = mean_auc(draw, 4, kind=kind)
    assert leaked > 0.7


def test_a_patient_of_both_sets_is_in_one_fold(rng):
    """Copies of the real records: their twins would be learned with the other label."""
    a = rng.normal(size=(60, 30))
    patients = np.arange(60)
    copied = two_sample_test(a, a, patients, patients, resamples=2).auc.value
    assert copied == pytest.approx(0.5, abs=0.1)
    assert two_sample_test(a, a, resamples=2).auc.value < 0.4


def test_the_auc_is_that_of_scikit_learn_in_the_held_out_folds_weighted_by_their_pairs(rng):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = rng.normal(size=(120, 3)) * [1, 50, 0.01], np.arange(120) >= 60
    x[y] += [0.7, 0, 0]
    patients = rng.integers(0, 25, 120)
    fold = two_sample._folds(patients, y, np.random.default_rng([4, 1]))
    aucs, pairs = [], []
    for k in range(FOLDS):
        held = fold == k
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(x[~held], y[~held])
        aucs.append(roc_auc_score(y[held], model.decision_function(x[held])))
        pairs.append(y[held].sum() * (~y[held]).sum())
    assert len(set(pairs)) > 1
    found = cross_validated_auc(x[~y], x[y], patients, "linear", 4)
    assert found == pytest.approx(np.average(aucs, weights=pairs))


def test_a_moved_fold_does_not_move_the_auc(rng, monkeypatch):
    """Scores that differ between classifiers by a constant are never compared."""
    a, b = rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) + 1
    patients = np.arange(60)
    found = cross_validated_auc(a, b, patients, "linear", 0)
    calls = []
    learn = two_sample._linear

    def moved(features, is_second, asked):
        calls.append(len(calls))
        return learn(features, is_second, asked) + 100 * len(calls)

    monkeypatch.setattr(two_sample, "_linear", moved)
    assert cross_validated_auc(a, b, patients, "linear", 0) == found
    assert len(calls) == FOLDS


def test_every_fold_holds_whole_patients_and_both_sides(rng):
    patients = rng.integers(0, 40, 120)
    second = np.arange(120) >= 60
    fold = two_sample._folds(patients, second, rng)
    assert all(len(set(fold[patients == patient])) == 1 for patient in np.unique(patients))
    assert {(k, side) for k, side in zip(fold, second, strict=True)} == {
        (k, side) for k in range(FOLDS) for side in (False, True)
    }


def test_a_resample_draws_whole_patients(rng):
    patients = np.repeat(np.arange(12), [1, 2, 3] * 4)
    drawn = two_sample._resampled_patients(patients, rng)
    times = np.bincount(drawn, minlength=len(patients))
    for patient in range(12):
        assert len(set(times[patients == patient])) == 1
    assert sum(times[np.searchsorted(patients, np.arange(12))]) == 12


@pytest.mark.slow
@pytest.mark.parametrize("step", [0.0, 1.0])
def test_the_interval_covers_the_expected_auc(rng, step, monkeypatch):
    """Nominal 95 %: 1,000 repetitions of 40 records per side, two normals a step apart.

    With a classifier that learns in microseconds: the difference of the means as direction.
    """

    def direction(features, is_second, asked):
        return asked @ (features[is_second].mean(axis=0) - features[~is_second].mean(axis=0))

    monkeypatch.setattr(two_sample, "_linear", direction)
    shift = np.array([step, 0.0])
    intervals = [
        two_sample_test(
            rng.normal(size=(40, 2)), rng.normal(size=(40, 2)) + shift, resamples=8, seed=seed
        ).auc
        for seed in range(1000)
    ]
    expected = np.mean([interval.value for interval in intervals])
    covered = np.mean([interval.low <= expected <= interval.high for interval in intervals])
    assert expected == pytest.approx(0.5 if step == 0 else 0.745, abs=0.02)
    assert 0.93 <= covered <= 0.995


def test_classes_are_matched_so_that_their_mix_is_no_clue(rng):
    """Two classes far apart, 3 : 1 here and 1 : 3 there, and nothing else differs."""
    kind, other = np.repeat([0, 1], [90, 30]), np.repeat([0, 1], [30, 90])
    a, b = (
        rng.normal(size=(120, 2)) + 6 * kind[:, None],
        rng.normal(size=(120, 2)) + 6 * (other[:, None]),
    )
    labels, others = np.eye(2)[kind], np.eye(2)[other]
    assert two_sample_test(a, b, resamples=2).auc.value > 0.65
    test = two_sample_test(a, b, labels=labels, generated_labels=others, resamples=20)
    assert test.records == 60
    assert test.auc.low < 0.5 < test.auc.high


def test_label_patterns_number_combinations_over_all_sets():
    first, second = label_patterns([[1, 0], [1, 1], [0, 0]], [[1, 1], [0, 1]])
    assert first[1] == second[0]
    assert len({*first, *second}) == 4
    assert label_patterns() == ()


def test_matched_sets_have_as_many_of_each_pattern(rng):
    first, second = np.array([0, 0, 0, 1, 2]), np.array([0, 1, 1, 1, 1, 3, 0])
    left, right = matched(first, second, rng)
    assert_array_equal(np.sort(first[left]), [0, 0, 1])
    assert_array_equal(first[left], second[right])
    assert len(set(left)) == len(left)
    left, right = matched(first, second, rng, most_of_second=0.5)
    assert_array_equal(second[right], [0, 1])
    assert [len(side) for side in matched(first, second + 9, rng)] == [0, 0]


def test_groups_are_shared_by_name_alone():
    first, second, third = shared_groups(np.array(["a", "b", "a"]), 2, np.array(["b", "c"]))
    assert first[0] == first[2] != first[1]
    assert third[0] == first[1]
    assert len({*first, *second, *third}) == 5
    assert len({*np.concatenate(shared_groups(2, 3))}) == 5


def test_a_test_is_told_and_read_back_from_a_card(rng):
    test = two_sample_test(rng.normal(size=(20, 2)), rng.normal(size=(20, 2)), resamples=2)
    assert "linear two-sample AUC 0." in str(test)
    assert through_a_card(test) == test


def test_the_same_seed_gives_the_same_test(rng):
    a, b = rng.normal(size=(2, 30, 3))
    assert two_sample_test(a, b, resamples=5, seed=4) == two_sample_test(a, b, resamples=5, seed=4)
    assert two_sample_test(a, b, resamples=5, seed=4) != two_sample_test(a, b, resamples=5, seed=5)


def test_principal_components_of_a_plane_are_the_plane(rng):
    """Points of two dimensions turned into six: distances stay, and so do all neighbours."""
    flat = rng.normal(size=(60, 2)) * [3, 1]
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0][:2]
    picture = projection(flat[:30] @ turn, flat[30:] @ turn, method="pca")
    assert picture.trustworthiness == pytest.approx(1)
    placed = np.concatenate([picture.real, picture.generated])
    expected = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    assert_allclose(np.linalg.norm(placed[:, None] - placed[None], axis=2), expected, atol=1e-9)
    assert picture.source.shape == (0, 2)


def test_a_picture_of_far_sets_shows_them_apart(rng):
    a = rng.normal(size=(40, 8))
    picture = projection(a, a + 50, a - 50)
    sets = [picture.real, picture.generated, picture.source]
    centres = [points.mean(axis=0) for points in sets]
    widths = [np.linalg.norm(p - c, axis=1).max() for p, c in zip(sets, centres, strict=True)]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(centres[i] - centres[j]) > max(widths[i], widths[j])
    assert picture.trustworthiness > 0.9
    assert np.isfinite(np.concatenate(sets)).all()


def test_a_picture_has_as_many_of_each_set_a_bounded_number_and_says_which(rng, monkeypatch):
    monkeypatch.setattr("ecgtransfer.evaluation.fidelity.feature_map.LARGEST_PICTURE", 60)
    sets = [rng.normal(size=(n, 2)) for n in (50, 35, 90)]
    picture = projection(*sets, method="pca")
    indices = [picture.real_index, picture.generated_index, picture.source_index]
    assert [len(index) for index in indices] == [20, 20, 20]
    placed = np.concatenate([picture.real, picture.generated, picture.source])
    chosen = np.concatenate([s[i] for s, i in zip(sets, indices, strict=True)])
    assert_allclose(np.linalg.norm(placed, axis=1), np.linalg.norm(chosen - chosen.mean(0), axis=1))


def test_a_picture_is_repeatable_and_read_back_from_a_card(rng):
    a, b = rng.normal(size=(2, 25, 5))
    first, second = projection(a, b, seed=3), projection(a, b, seed=3)
    assert_array_equal(first.real, second.real)
    feature_map = first.feature_map()
    assert through_a_card(feature_map) == feature_map
    assert feature_map.points.keys() == {"real", "generated"}
    assert_allclose(feature_map.points["real"], first.real, atol=5e-5)
    assert "t-SNE of 25 records" in feature_map.caption
    assert f"{first.trustworthiness:.2f}" in feature_map.caption


def test_bad_pictures_are_refused(rng):
    a = rng.normal(size=(10, 3))
    with pytest.raises(ConfigError, match="unknown projection 'umap'"):
        projection(a, a, method="umap")
    with pytest.raises(CorpusError, match="at least 6 records of each set"):
        projection(a, a[:5])
    with pytest.raises(CorpusError, match="features"):
        projection(a, a, a[:, :2])


def test_bad_tests_are_refused(rng):
    a = rng.normal(size=(20, 3))
    with pytest.raises(ConfigError, match="unknown classifier 'forest'"):
        two_sample_test(a, a, kind="forest")
    with pytest.raises(ConfigError, match="at least 2 resamples"):
        two_sample_test(a, a, resamples=1)
    with pytest.raises(CorpusError, match=r"at least 10 patients per side, got \[9, 9\]"):
        two_sample_test(a[:9], a)
    with pytest.raises(CorpusError, match=r"at least 10 patients per side, got \[4, 20\]"):
        two_sample_test(a, a, np.repeat(np.arange(4), 5))
    with pytest.raises(CorpusError, match=r"at least 5 patients per side, got \[3, 20\]"):
        cross_validated_auc(a[:3], a, np.arange(23), "linear", 0)
    with pytest.raises(CorpusError, match="one patient per record, 20"):
        two_sample_test(a, a, np.arange(3))
    with pytest.raises(CorpusError, match="labels of both sides or of none"):
        two_sample_test(a, a, labels=np.ones((20, 1)))
    with pytest.raises(CorpusError, match="labels of the same records"):
        two_sample_test(a, a, labels=np.ones((19, 1)), generated_labels=np.ones((20, 1)))
    with pytest.raises(CorpusError, match="one K"):
        label_patterns(np.ones((2, 1)), np.ones((2, 2)))
