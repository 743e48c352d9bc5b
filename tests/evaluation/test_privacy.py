from dataclasses import astuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import uniform_filter1d
from scipy.signal import butter, sosfiltfilt
from scipy.spatial.distance import cdist

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.privacy import (
    PrivacyEvaluation,
    PrivacySide,
    closeness,
    lag_correlation,
    measure_privacy,
)
from ecgtransfer.evaluation.privacy.closeness import (
    detectable_auc,
    infer_membership,
    measure_closeness,
)
from ecgtransfer.evaluation.privacy.figures import privacy_table
from ecgtransfer.evaluation.privacy.study import (
    COPY_CORRELATION,
    LARGEST_LAG_S,
    copy_threshold,
    correlation_distance,
)
from ecgtransfer.signals import independent_leads, read_recording
from ecgtransfer.simulation import TARGET_HOSPITAL, draw_label_names, simulate
from ecgtransfer.statistics import (
    wilson_estimate,
)
from tests.evaluation.round_trip import through_a_card

TRAINING, HOLD_OUT, GENERATED = 40, 20, 60


def lagged_correlation(first_mv, second_mv, rate, *, largest_lag_s=LARGEST_LAG_S, workers=1):
    """Signals in millivolts -> correlations (n, m), filtered as `measure_privacy` does."""
    first, second = (
        lag_correlation.filtered_waves(np.asarray(signals), rate)
        for signals in (first_mv, second_mv)
    )
    lags = lag_correlation.common_lags(first, largest_lag_s)
    tally = lag_correlation.Tally(0, None)
    return lag_correlation.correlations_over_lags(first, second, lags, workers, tally)


def hearts(n, seed, seconds=10.0, rate=100):
    """Records of n simulated patients of one hospital, (n, 8, T) in millivolts."""
    names = draw_label_names(TARGET_HOSPITAL, n, seed)
    recordings, _ = simulate(names, TARGET_HOSPITAL, seed, rate, seconds)
    return independent_leads(np.stack([recording.signal_mv for recording in recordings]))


def features(signals):
    """What no training record has taught: spread and roughness of each lead, and the rhythm."""
    steps = np.abs(np.diff(signals, axis=2)).sum(axis=1)
    spectrum = np.log(np.abs(np.fft.rfft(steps, axis=1))[:, 3:60:4])
    logs = np.log([signals.std(axis=2), np.diff(signals, axis=2).std(axis=2)])
    return np.concatenate([*logs, spectrum], axis=1)


def side(signals, patients=None, names=None):
    signals = np.asarray(signals, dtype=np.float32)
    return PrivacySide(signals, features(signals), patients, names)


def measure(training, generated, hold_out, **settings):
    settings = {"sampling_rate_hz": 100, "resamples": 300} | settings
    return measure_privacy(side(training), side(hold_out), side(generated), **settings)


@pytest.fixture(scope="module")
def training():
    return hearts(TRAINING, 1)


@pytest.fixture(scope="module")
def hold_out():
    return hearts(HOLD_OUT, 2)


@pytest.fixture(scope="module")
def fresh():
    return hearts(GENERATED, 3)


@pytest.fixture
def rng():
    return np.random.default_rng(17)


def distances(rng, training=80, hold_out=26, generated=300, size=4):
    """Distances of Gaussian records to those of two sides of one law."""
    made = rng.normal(size=(generated, size))
    return [cdist(made, rng.normal(size=(n, size))) for n in (training, hold_out)]


# Meta-tests: generators whose honesty is known


def test_a_generator_of_fresh_patients_passes(training, hold_out, fresh):
    result = measure(training, fresh, hold_out)
    assert result.passed
    assert not result.copies.suspected
    for found in result.spaces:
        assert found.closeness.share.low < 0.5 < found.closeness.share.high
        assert found.membership.auc.low < 0.5 < found.membership.auc.high
    whole = result.verdicts()[0].sentence
    assert whole.startswith("Passed: none of 5 tests")
    assert "Tested: copies shifted by up to 2 s, with any amplitude" in whole
    assert "both in signal and embedding space. Not tested: copies with a larger shift" in whole
    assert whole.endswith("and patients of the source.")


def test_a_generator_that_returns_hold_out_patients_leaks_no_training_patient(training, hold_out):
    result = measure(training, hold_out, hold_out)
    assert result.passed
    assert all(found.membership.auc.value == 0 for found in result.spaces)
    assert any("closer to the hold-out" in note for note in result.notes)


def exact(signals, rng):
    return signals


def rolled(signals, rng):
    return np.roll(signals, 30, axis=2)


def scaled(signals, rng):
    return 1.2 * signals


def noisy(signals, rng):
    return signals + rng.normal(0, 0.02, signals.shape)


def wandering(signals, rng):
    phase = rng.uniform(0, 2 * np.pi, (len(signals), 1, 1))
    return signals + 0.3 * np.sin(2 * np.pi * 0.2 * np.arange(1000) / 100 + phase)


@pytest.mark.parametrize(
    "alter", [exact, rolled, scaled, noisy, wandering], ids=lambda alter: alter.__name__
)
def test_a_generator_of_altered_training_records_fails(alter, training, hold_out, rng):
    originals = rng.integers(0, TRAINING, GENERATED)
    result = measure(training, alter(training[originals], rng), hold_out)
    signal = result.spaces[0]
    assert not result.passed
    assert not result.copies.passed
    assert not signal.closeness.passed
    assert not signal.membership.passed
    assert signal.closeness.ratio_excess.low > 0
    assert len(result.copies.suspected) >= 0.95 * GENERATED
    assert {pair.training for pair in result.copies.suspected} <= set(originals)
    assert all(originals[pair.generated] == pair.training for pair in result.copies.suspected)
    assert result.verdicts()[0].sentence.startswith("Failed: ")


def test_a_copy_is_found_where_it_was_shifted_to(hold_out):
    """Two windows of one recording, 300 ms apart: the later window shows a beat earlier."""
    long = hearts(10, 5, 10.3)
    earlier, later = long[..., :1000], long[..., 30:]
    assert_allclose(lagged_correlation(later, earlier, 100).diagonal(), 1, atol=0.01)
    result = measure(earlier, later, hold_out, gallery=10)
    assert [pair.lag_s for pair in result.copies.suspected] == [pytest.approx(-0.3)] * 10
    result = measure(later, earlier, hold_out, gallery=10)
    assert [pair.lag_s for pair in result.spaces[0].closest_pairs] == [pytest.approx(0.3)] * 10


def test_half_copies_are_counted_and_their_patients_are(training, hold_out, fresh):
    generated = np.concatenate([fresh[:30], training[[3, 4, 5] * 10]])
    result = measure(training, generated, hold_out)
    assert not result.passed
    assert [pair.generated for pair in result.copies.suspected] == list(range(30, 60))
    assert result.copies.copied_patients == 3
    assert "30 of 60 generated records are suspected copies of 3" in str(result)


def test_copies_of_all_patients_raise_the_share_by_the_formula(rng):
    """A part c of copies: c + (1 - c) n / (n + m) for n training, (1 - c) m / (n + m) for m."""
    to_training, to_hold_out = distances(rng, 80, 26, 4000)
    copied = np.arange(2000)
    to_training[copied, copied % 80] = 0
    share = measure_closeness(to_training, to_hold_out).share.value
    per_training, per_hold_out = (0.5 + 0.5 * 80 / 106) / 80, 0.5 * 26 / 106 / 26
    assert share == pytest.approx(per_training / (per_training + per_hold_out), abs=0.05)


# Shares and attacks on Gaussian laws


def test_intervals_of_share_and_attack_cover_one_half_at_their_rate(rng):
    shares, attacks, failed = [], [], 0
    for repeat in range(400):
        near, far = distances(rng, 40, 20, 150)
        closeness = measure_closeness(near, far, seed=repeat, resamples=200, subsamples=1)
        attack = infer_membership(near.min(axis=0), far.min(axis=0), seed=repeat, resamples=200)
        shares.append(closeness.share)
        attacks.append(attack.auc)
        failed += not closeness.passed or not attack.passed
    for found in (shares, attacks):
        covered = np.mean([score.low <= 0.5 <= score.high for score in found])
        assert 0.91 <= covered <= 0.98
        assert np.mean([score.value for score in found]) == pytest.approx(0.5, abs=0.01)
    assert failed <= 0.03 * 400


def test_equal_numbers_take_away_what_the_larger_side_gains_by_its_number(rng):
    plain, equal = [], []
    for repeat in range(40):
        near, far = distances(rng, 80, 26)
        plain.append((near.min(axis=1) < far.min(axis=1)).mean())
        equal.append(measure_closeness(near, far, seed=repeat, resamples=2).share.value)
    assert np.mean(plain) == pytest.approx(80 / 106, abs=0.02)
    assert np.mean(equal) == pytest.approx(0.5, abs=0.02)


def test_sides_of_one_size_have_the_plain_share(rng):
    near, far = distances(rng, 30, 30)
    plain = (near.min(axis=1) < far.min(axis=1)).mean()
    assert measure_closeness(near, far).share.value == pytest.approx(plain)


def test_ties_count_one_half(rng):
    near, _ = distances(rng, 20, 20)
    assert measure_closeness(near, near).share.value == 0.5
    assert measure_closeness(near, near).ratio_excess.value == 0


def test_nearest_neighbour_ratios_are_those_of_equally_many_patients(rng):
    near, far = 1 + rng.exponential(size=(2000, 60)), 1 + rng.exponential(size=(2000, 15))
    found = measure_closeness(near, far)
    first, second = np.sort(far, axis=1)[:, :2].T
    assert found.ratio_hold_out.value == pytest.approx((first / second).mean())
    assert found.ratio_training.value == pytest.approx(found.ratio_hold_out.value, abs=0.01)
    assert found.ratio_excess.low < 0 < found.ratio_excess.high
    first, second = np.sort(near, axis=1)[:, :2].T
    assert (first / second).mean() > found.ratio_training.value + 0.03


def test_one_patient_that_attracts_all_widens_the_interval(rng):
    """The share rests on patients: one hub among them is no evidence, whatever the records."""
    near, far = distances(rng, 20, 20, 5000)
    near[:, 0] = 0.01
    found = measure_closeness(near, far)
    assert found.share.value == 1
    even, _ = distances(rng, 20, 20, 5000)
    even[np.arange(5000), np.arange(5000) % 20] = 0.01
    # Twenty of forty patients attract as many each, which a random half does by chance once in
    # 40 choose 20; the counts are worth 39 records.
    assert measure_closeness(even, far).share.low == pytest.approx(wilson_estimate(1.0, 39).low)
    near[rng.random(5000) < 0.4, 0] = 100
    assert measure_closeness(near, far).share.low < 0.55


@pytest.mark.parametrize("prototypes", [3, 10])
def test_a_generator_of_few_prototypes_does_not_fail_by_chance(prototypes, rng):
    """Prototypes from neither side are near 80 training patients more often than near 26 others.

    Of three, all are nearest to training patients in about (80 / 106)³ of studies, and then
    resampling finds no variance.
    """
    failed = 0
    for _ in range(60):
        kinds = rng.normal(size=(prototypes, 8))
        made = kinds[rng.integers(prototypes, size=200)] + 0.05 * rng.normal(size=(200, 8))
        near, far = (cdist(made, rng.normal(size=(n, 8))) for n in (80, 26))
        failed += not measure_closeness(near, far, resamples=100).passed
    assert failed <= 4


def test_counts_are_effective_records_as_many_records_as_patients_attract():
    assert closeness._effective_records(np.array([100.0] + [0.0] * 49)) == pytest.approx(1)
    five = np.r_[np.full(5, 20.0), np.zeros(995)]
    assert closeness._effective_records(five) == pytest.approx(5, rel=0.01)
    assert (
        closeness._effective_records(np.full(20, 5.0)) > 1e9
    )  # no patient attracts more than another


def test_the_effective_records_of_counts_is_the_variance_of_a_random_part(rng):
    counts = rng.integers(0, 9, size=30).astype(float)
    shares = [rng.permutation(counts)[:12].sum() / counts.sum() for _ in range(20_000)]
    assert 0.4 * 0.6 / closeness._effective_records(counts) == pytest.approx(
        np.var(shares), rel=0.05
    )


def test_the_share_of_few_is_wilsons_for_equal_numbers_of_patients():
    found = closeness._share_of_few(np.array([5.0] + [0.0] * 9), np.array([5.0] + [0.0] * 9))
    assert found.value == 0.5
    expected = wilson_estimate(
        0.5, closeness._effective_records(np.r_[5.0, np.zeros(9), 5.0, np.zeros(9)])
    )
    assert (found.low, found.high) == (expected.low, expected.high)
    uneven = closeness._share_of_few(np.full(80, 1.0), np.full(20, 1.0))
    assert uneven.value == pytest.approx(0.5)


def test_many_records_of_one_patient_count_once(rng):
    near, far = distances(rng, 20, 20)
    patients = np.concatenate([np.arange(20), np.zeros(60)])
    repeated = np.concatenate([near, np.repeat(near[:, :1], 60, axis=1)], axis=1)
    once, many = (
        measure_closeness(near, far, seed=1, subsamples=2),
        measure_closeness(repeated, far, patients, seed=1, subsamples=2),
    )
    assert many.share.value == pytest.approx(once.share.value)
    assert many.ratio_training.value == pytest.approx(once.ratio_training.value)
    apart = measure_closeness(repeated, far, seed=1, subsamples=2)
    assert apart.training_patients == 80
    attack = infer_membership(repeated.min(axis=0), far.min(axis=0), patients)
    assert attack.members == 20
    assert attack.auc == infer_membership(near.min(axis=0), far.min(axis=0)).auc


def test_several_records_bring_a_patient_no_nearer_and_each_can_be_copied(rng):
    """Five records of each training patient, one of each hold-out patient, all of one law."""
    patients = np.repeat(np.arange(30), 5)
    shares = []
    for repeat in range(20):
        near, far = distances(rng, 150, 30)
        shares.append(measure_closeness(near, far, patients, seed=repeat).share.value)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)
    near[np.arange(300), np.arange(300) % 30 * 5 + 4] = 0
    # One record of five is the copied one, and then it is the closest; else it is as before.
    copied = measure_closeness(near, far, patients).share.value
    assert copied == pytest.approx(0.2 + 0.8 * shares[-1], abs=0.04)


def test_a_patient_scores_as_the_record_that_lies_closest():
    attack = infer_membership(
        [9, 1, 9, 1, 9, 1, 9, 1, 9, 1], [2, 3, 2, 3, 2], list("aabbccddee"), list("vwxyz")
    )
    assert (attack.members, attack.non_members, attack.auc.value) == (5, 5, 1)


def test_membership_is_certain_for_copies_and_a_coin_for_non_members(rng):
    near, far = distances(rng, 40, 40, 2000)
    assert infer_membership(near.min(axis=0) * 0, far.min(axis=0)).auc.low == 1
    found = infer_membership(near.min(axis=0), far.min(axis=0))
    assert found.auc.low < 0.5 < found.auc.high
    assert found.passed


def test_the_detectable_auc_is_found_with_the_stated_power(rng):
    """Exponential scores, whose AUC is scale / (1 + scale), as Hanley and McNeil suppose."""
    auc = detectable_auc(60, 30)
    scale = auc / (1 - auc)
    failed = []
    for repeat in range(300):
        members, others = 1 / rng.exponential(scale, 60), 1 / rng.exponential(1, 30)
        failed.append(not infer_membership(members, others, seed=repeat, resamples=200).passed)
    assert np.mean(failed) == pytest.approx(0.8, abs=0.08)


def test_few_patients_detect_large_leaks_only():
    assert detectable_auc(2000, 2000) < 0.6 < detectable_auc(80, 26) < 0.75
    assert 0.85 < detectable_auc(5, 5) < 1


# Correlation over lags


def brute_force(first, second, rate, largest_lag):
    """The definition, pair by pair and lag by lag, of what the band leaves."""

    def band(signals):
        window = 2 * round(0.6 * rate / 2) + 1
        baseline = uniform_filter1d(signals.astype(float), window, mode="nearest")
        baseline = uniform_filter1d(baseline, window, mode="nearest")
        low_pass = butter(4, 20, fs=rate, output="sos")
        return sosfiltfilt(low_pass, signals - baseline, padlen=window)

    a, b = band(first), band(second)
    samples = a.shape[2]
    found = np.full((len(a), len(b)), -1.0)
    for lag in range(-largest_lag, largest_lag + 1):
        x = a[..., max(0, -lag) : samples - max(0, lag)]
        y = b[..., max(0, lag) : samples - max(0, -lag)]
        part = x.shape[2] / samples
        energies = [
            np.maximum((cut**2).sum(axis=(1, 2)), 0.1 * part * (whole**2).sum(axis=(1, 2)))
            for cut, whole in ((x, a), (y, b))
        ]
        sums = np.einsum("nct,mct->nm", x, y)
        found = np.maximum(found, sums / np.sqrt(np.outer(*energies)))
    return found


def test_correlations_are_their_definition(training, fresh):
    quiet = fresh[:4].copy()
    quiet[0, :, 300:] = 0
    quiet[1, :, :700] = 0
    first, second = training[:5, :, :600], quiet[:, :, 200:800]
    assert_allclose(
        lagged_correlation(first, second, 100), brute_force(first, second, 100, 200), atol=1e-5
    )
    assert_allclose(
        lagged_correlation(quiet, quiet, 100, largest_lag_s=0.1),
        brute_force(quiet, quiet, 100, 10),
        atol=1e-5,
    )


def test_blocks_and_threads_change_nothing(training, fresh, monkeypatch):
    whole = lagged_correlation(training[:9], fresh[:7], 100)
    monkeypatch.setattr(lag_correlation, "PAIRS_AT_ONCE", 4)
    monkeypatch.setattr(lag_correlation, "SPECTRA_AT_ONCE", 3)
    monkeypatch.setattr(lag_correlation, "FILTERED_AT_ONCE", 2)
    monkeypatch.setattr(closeness, "DRAWN_AT_ONCE", 50)
    assert_allclose(lagged_correlation(training[:9], fresh[:7], 100, workers=2), whole, atol=1e-6)


def test_the_measurement_is_the_same_in_small_blocks(training, hold_out, fresh, monkeypatch):
    whole = measure(training, fresh[:20], hold_out)
    monkeypatch.setattr(lag_correlation, "PAIRS_AT_ONCE", 64)
    monkeypatch.setattr(lag_correlation, "SPECTRA_AT_ONCE", 16)
    monkeypatch.setattr(closeness, "DRAWN_AT_ONCE", 100)
    parts = measure(training, fresh[:20], hold_out, workers=2)
    for one, other in zip(whole.spaces, parts.spaces, strict=True):
        assert other.closeness.share == one.closeness.share
        assert other.membership == one.membership
    assert_allclose(astuple(parts.copies.generated), astuple(whole.copies.generated), atol=1e-5)


def test_five_hundred_hertz_find_what_one_hundred_find():
    fast = hearts(6, 8, rate=500)
    slow = sosfiltfilt(butter(8, 40, fs=500, output="sos"), fast)[..., ::5]
    assert_allclose(
        lagged_correlation(fast, fast, 500), lagged_correlation(slow, slow, 100), atol=0.02
    )


def test_a_flat_record_is_like_nothing(training):
    flat = np.zeros((2, 8, 1000), np.float32)
    assert_array_equal(lagged_correlation(flat, training[:2], 100), 0)
    assert_array_equal(lagged_correlation(flat, flat, 100), 0)


def test_what_is_left_between_beats_makes_no_copy(rng):
    """Two bursts that miss each other, and one tiny hum below both: the same where no burst is."""
    hum = 0.001 * np.sin(2 * np.pi * 5 * np.arange(1000) / 100) * np.ones((1, 8, 1))
    first, second = hum.copy(), hum.copy()
    first[..., :200] += rng.normal(size=(1, 8, 200))
    second[..., 800:] += rng.normal(size=(1, 8, 200))
    assert lagged_correlation(first, second, 100, largest_lag_s=5).item() < 0.5


def test_distances_are_those_of_overlaps_of_length_one(rng):
    a, b = rng.normal(size=(2, 500))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    assert correlation_distance(a @ b) == pytest.approx(np.linalg.norm(a - b), rel=1e-5)
    assert correlation_distance(1 + 1e-7) == 0


def test_real_non_members_raise_the_threshold_of_a_copy():
    assert copy_threshold([0.3, 0.8]) == COPY_CORRELATION
    assert copy_threshold([0.3, 0.96]) == pytest.approx(0.98)
    assert copy_threshold([0.3, 0.995]) == COPY_CORRELATION  # one recording under two names


# What is reported


def test_the_gallery_holds_the_closest_pairs_each_record_once(training, hold_out, fresh):
    generated = np.concatenate([fresh[:20], training[[7, 7]]])
    names = [f"training-{number}" for number in range(TRAINING)]
    result = measure_privacy(
        side(training, names=names),
        side(hold_out),
        side(generated),
        sampling_rate_hz=100,
        gallery=4,
        resamples=10,
    )
    correlation = lagged_correlation(generated, training, 100)
    pairs = result.spaces[0].closest_pairs
    assert astuple(pairs[0])[:4] == (20, "20", 7, "training-7")
    assert len({pair.generated for pair in pairs}) == len({pair.training for pair in pairs}) == 4
    assert [pair.distance for pair in pairs] == sorted(pair.distance for pair in pairs)
    others = np.delete(correlation[:20], 7, axis=1)
    assert pairs[1].correlation == pytest.approx(others.max(), abs=1e-5)
    for found in result.spaces:
        for pair in found.closest_pairs:
            assert pair.correlation == pytest.approx(
                correlation[pair.generated, pair.training], abs=1e-5
            )
    apart = cdist(features(generated.astype(np.float32)), features(training.astype(np.float32)))
    assert result.spaces[1].closest_pairs[1].distance == pytest.approx(
        np.delete(apart[:20], 7, axis=1).min(), rel=1e-5
    )


def test_a_recording_under_two_names_is_told_and_is_no_stranger(training, hold_out, fresh):
    mixed = np.concatenate([hold_out, training[5:6]])
    result = measure(training, fresh, mixed)
    assert result.copies.hold_out.largest < 0.95
    assert result.copies.threshold == COPY_CORRELATION
    assert any("such as 20, which equals 5" in note for note in result.notes)


def test_a_result_is_told_in_words_and_read_back_from_its_card(training, hold_out, fresh):
    reports = []
    result = measure(
        training, fresh, hold_out, progress=lambda done, total: reports.append((done, total))
    )
    total = GENERATED * (TRAINING + HOLD_OUT) + HOLD_OUT * TRAINING
    assert reports[-1] == (total, total)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    header, *rows = privacy_table(result).texts()
    assert {len(row) for row in rows} == {len(header)} == {6}
    assert [row[5] for row in rows].count("pass") == 5
    assert "lower end at most 0.55" in {row[4] for row in rows}
    evaluation = PrivacyEvaluation({"tgdp": result})
    again = through_a_card(evaluation)
    assert again == evaluation
    signal, embedding = again.methods["tgdp"].spaces
    assert signal.closeness.training_patients == TRAINING
    assert embedding.membership.non_members == HOLD_OUT
    assert result.copies.suspected == ()
    assert len(signal.closest_pairs) == 12
    assert [verdict.passed for verdict in result.verdicts()] == [True] * 6
    assert again.tests() == evaluation.tests()
    assert f"{detectable_auc(TRAINING, HOLD_OUT):.2f} or more with a power of 0.8" in str(result)


def test_names_of_training_records_can_be_left_out(training, hold_out):
    result = measure(training, np.concatenate([training[:3], hold_out]), hold_out)
    evaluation = PrivacyEvaluation({"tgdp": result}).without_training_names()
    unnamed = evaluation.methods["tgdp"]
    assert len(unnamed.copies.suspected) == len(result.copies.suspected) == 3
    for pairs in (unnamed.copies.suspected, *(space.closest_pairs for space in unnamed.spaces)):
        assert {(pair.training, pair.training_name) for pair in pairs} == {(None, None)}
    assert unnamed.verdicts() == result.verdicts()
    assert through_a_card(evaluation) == evaluation


def test_the_same_seed_gives_the_same_result(training, hold_out, fresh):
    first, second, other = (measure(training, fresh, hold_out, seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert other != first


def test_signals_alone_are_measured_without_features(training, hold_out, fresh):
    sides = [PrivacySide(signals) for signals in (training, hold_out, fresh)]
    result = measure_privacy(*sides, sampling_rate_hz=100, resamples=10)
    assert [found.space for found in result.spaces] == ["signal"]
    assert len(privacy_table(result).texts()) == 6


def test_real_non_members_are_no_copies_and_a_noisy_copy_is_one(real_data, rng):
    paths = sorted(real_data.glob("icbeb/challenge/**/*.hea"))[:30]
    recordings = [read_recording(path.with_suffix(""), 10.0) for path in paths]
    signals = np.stack(
        [
            independent_leads(recording.signal_mv[:, :5000])
            for recording in recordings
            if recording.n_samples >= 5000
        ]
    )
    assert len(signals) >= 10
    correlation = lagged_correlation(signals, signals, 500)
    np.fill_diagonal(correlation, 0)
    assert correlation.max() < 0.9
    copies = signals + rng.normal(0, 0.03, signals.shape)
    assert lagged_correlation(copies, signals, 500).diagonal().min() > COPY_CORRELATION


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 1000)),), "expected finite signals"),
        ((np.full((3, 8, 10), np.nan),), "expected finite signals"),
        ((np.zeros((3, 8, 10)), np.zeros((2, 4))), "finite features .* of the 3 records"),
        ((np.zeros((3, 8, 10)), None, np.arange(2)), "one patient per record, 3"),
        ((np.zeros((3, 8, 10)), None, None, ["a"]), "one name per record, 3"),
    ],
)
def test_bad_sides_are_refused(arguments, message):
    with pytest.raises(CorpusError, match=message):
        PrivacySide(*arguments)


def test_sides_that_cannot_be_compared_are_refused(training, hold_out, fresh):
    with pytest.raises(CorpusError, match="one number of leads and samples"):
        measure(training, fresh[..., :900], hold_out)
    with pytest.raises(CorpusError, match="one embedding for all sides or for none"):
        measure_privacy(PrivacySide(training), side(hold_out), side(fresh), sampling_rate_hz=100)
    shared = [np.arange(n).astype(str) for n in (TRAINING, HOLD_OUT)]
    with pytest.raises(CorpusError, match="20 patients are in training and in hold-out, such as 0"):
        measure_privacy(
            side(training, shared[0]),
            side(hold_out, shared[1]),
            side(fresh),
            sampling_rate_hz=100,
        )
    with pytest.raises(CorpusError, match="at least 5 patients per side, got 4"):
        measure(training, fresh, hold_out[:4])
    with pytest.raises(CorpusError, match="at least 5 patients per side, got 1"):
        measure_privacy(
            side(training, np.zeros(TRAINING)), side(hold_out), side(fresh), sampling_rate_hz=100
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling_rate_hz": 40}, "at least 50 Hz, got 40"),
        ({"largest_lag_s": 6}, "half of the 10 s of a record, got 6 s"),
        ({"largest_lag_s": np.nan}, "half of the 10 s"),
        ({"workers": 0}, "at least 1 worker"),
        ({"subsamples": 0}, "at least 1 subsample"),
        ({"gallery": 0}, "at least 1 pair in the gallery"),
        ({"resamples": 1}, "at least 2 resamples"),
    ],
)
def test_bad_settings_are_refused(settings, message, training, hold_out, fresh):
    with pytest.raises(ConfigError, match=message):
        measure(training[:6], fresh[:6], hold_out[:6], **settings)


def test_bad_distances_are_refused(rng):
    near, far = distances(rng, 10, 10, 30)
    with pytest.raises(CorpusError, match="with 1 below 0 or missing"):
        measure_closeness(np.where(np.arange(300).reshape(30, 10) == 5, np.nan, near), far)
    with pytest.raises(CorpusError, match="same generated records"):
        measure_closeness(near, far[:20])
    with pytest.raises(CorpusError, match="one patient per record, 10"):
        measure_closeness(near, far, np.arange(9))
