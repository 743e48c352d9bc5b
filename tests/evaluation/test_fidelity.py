from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from scipy.special import gammaln

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.distances import (
    frechet_distance,
    frechet_limit,
    median_distance,
    mmd,
    neighbour_mixing,
    prdc,
    vendi_score,
)
from ecgtransfer.evaluation.fidelity import (
    FidelityEvaluation,
    measure_fidelity,
    negative_controls,
)
from ecgtransfer.evaluation.fidelity.figures import class_table, control_table, distance_table
from ecgtransfer.evaluation.fidelity.two_sample import cross_validated_auc
from ecgtransfer.evaluation.halves import compare_with_halves
from ecgtransfer.evaluation.signal_distances import (
    band_power_error,
    lead_correlation_difference,
    lead_correlations,
    log_band_power,
    log_spectra,
    log_spectral_distance,
)
from ecgtransfer.signals import independent_leads, read_recording
from ecgtransfer.simulation import SOURCE_HOSPITAL, TARGET_HOSPITAL, simulate
from ecgtransfer.statistics import (
    Estimate,
    Verdict,
)
from tests.evaluation.round_trip import through_a_card

CLASSES = ("NORM", "CLBBB")


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def simulated(hospital, seed, n=200):
    """Signals (n, 8, 1000) in millivolts and labels (n, 2), half of each class."""
    labels = np.eye(2)[np.arange(n) % 2]
    names = [(CLASSES[int(number)],) for number in labels.argmax(axis=1)]
    recordings, _ = simulate(names, hospital, seed)
    return independent_leads(np.stack([r.signal_mv for r in recordings])), labels


class Hospitals:
    """Real, hold-out and source records of simulated hospitals, and an embedding of any record."""

    def __init__(self):
        self.real, self.labels = simulated(TARGET_HOSPITAL, 1)
        self.hold_out, _ = simulated(TARGET_HOSPITAL, 2)
        self.source, _ = simulated(SOURCE_HOSPITAL, 3)
        known = self.described(self.real)
        self.centre, self.spread = known.mean(axis=0), known.std(axis=0)
        scaled = (known - self.centre) / self.spread
        self.axes = np.linalg.svd(scaled, full_matrices=False)[2][:12]

    def described(self, signals):
        spectra = log_spectra(signals, 100)[..., ::8].reshape(len(signals), -1)
        return np.concatenate([spectra, lead_correlations(signals)], axis=1)

    def features(self, signals):
        return (self.described(signals) - self.centre) / self.spread @ self.axes.T

    def measured(self, generated, labels=None, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ecgtransfer.evaluation.fidelity.repeats.BOOSTED_HALVES", 3)
            return measure_fidelity(
                self.features(self.real),
                self.features(generated),
                self.real,
                generated,
                100,
                source_features=self.features(self.source),
                source_mv=self.source,
                labels=self.labels,
                generated_labels=self.labels if labels is None else labels,
                source_labels=self.labels,
                label_names=CLASSES,
                repeats=10,
                **options,
            )


@pytest.fixture(scope="module")
def hospitals():
    return Hospitals()


@pytest.fixture(scope="module")
def of_hold_out(hospitals):
    """Two calls of one law: the generator that returns other patients."""
    ticks = []
    result = hospitals.measured(hospitals.hold_out, progress=lambda *tick: ticks.append(tick))
    return result, ticks


# What the whole must say of generators whose worth is known.


# What so few records let pass proves nothing.


def turned(signals):
    """How much faster each lead rises than it falls, which changes sign with time: (n, leads)."""
    steps = np.diff(signals, axis=-1)
    return (steps**3).mean(axis=-1) / steps.std(axis=-1) ** 3


@pytest.mark.parametrize("sees_time", [False, True])
def test_a_pass_needs_features_that_see_ecgs_played_backwards(hospitals, sees_time):
    def features(signals):
        seen = 3 * turned(signals)[:, :2] if sees_time else np.zeros((len(signals), 2))
        return np.concatenate([hospitals.features(signals), seen], axis=1)

    real, hold_out = hospitals.real, hospitals.hold_out
    controls = {
        name: (features(altered), altered)
        for name, altered in negative_controls(real, seed=3).items()
    }
    result = measure_fidelity(
        features(real), features(hold_out), real, hold_out, 100, controls=controls, repeats=25
    )
    whole, *_, backwards, chest = result.verdicts()
    assert chest.passed is True
    assert "detected with 100 records per side by" in chest.sentence
    assert "lead correlation" in chest.sentence
    if sees_time:
        assert result.unseen == ()
        assert result.passed is True
        assert whole.sentence.endswith(
            "with 100 records per side, and negative controls (ECGs played backwards and V1 to V6 "
            "of another patient) are detected."
        )
    else:
        assert result.unseen == ("ECGs played backwards",)
        assert (result.passed, whole.passed, backwards.passed) == (None, None, None)
        assert whole.sentence == (
            "Fidelity is open: ECGs played backwards would pass as records of the target with 100 "
            "records per side; test on more records."
        )
        assert "within the limits of all rules" in backwards.sentence
    rows = control_table(result).texts()
    assert rows[0][:3] == ("measure", "target against target", "generated")
    assert {len(row) for row in rows} == {5}
    assert len(rows) == 8


def test_negative_controls_keep_spectra_and_exchange_the_chest_leads_of_patients(hospitals):
    real = hospitals.real[:30]
    patients = np.repeat(np.arange(12), [1, 4] * 6)
    controls = negative_controls(real, patients, seed=5)
    backwards, exchanged = controls.values()
    assert_allclose(backwards[..., ::-1], real)
    assert_allclose(exchanged[:, :2], real[:, :2])
    distance = np.abs(exchanged[:, None, 2:] - real[None, :, 2:]).max(axis=(2, 3))
    source = distance.argmin(axis=1)
    assert_allclose(distance.min(axis=1), 0)
    assert sorted(source) == list(range(30))
    assert (patients[source] != patients).all()
    other = negative_controls(real, patients, seed=6)["V1 to V6 of another patient"]
    assert not np.array_equal(other, exchanged)


def test_a_control_is_compared_like_the_other_half(rng):
    """The real records themselves as control score what real against real does."""
    features, signals = rng.normal(size=(40, 3)), rng.normal(size=(40, 8, 400))
    result = measure_fidelity(
        features,
        rng.normal(size=(40, 3)),
        signals,
        signals,
        100,
        controls={"nothing": (features, signals), "far away": (features + 50, signals)},
        repeats=5,
    )
    same, far = result.controls.values()
    assert same.frechet.score.value == pytest.approx(result.frechet.reference.value)
    assert same.diversity.score.value == pytest.approx(result.diversity.reference.value)
    assert far.prdc["precision"].score.value == 0
    assert result.unseen == ("nothing",)
    assert result.two_sample
    assert not same.two_sample


def test_a_rule_is_kept_or_broken_by_the_whole_interval(of_hold_out):
    result, _ = of_hold_out
    reference = result.frechet.reference.value

    def rules(low, value, high):
        score = Estimate(value * reference, low * reference, high * reference)
        changed = replace(result, frechet=replace(result.frechet, score=score))
        return changed, changed.rules()[0]

    for ends, kept, beyond in (
        ((0.9, 1.0, 1.9), True, False),
        ((1.5, 1.9, 2.3), None, False),
        ((1.9, 2.1, 2.3), None, True),
        ((2.1, 2.2, 2.3), False, True),
    ):
        changed, rule = rules(*ends)
        assert (rule.kept, rule.beyond) == (kept, beyond)
        assert changed.passed is kept
    assert rules(1.5, 1.9, 2.3)[0].verdicts()[0].sentence == (
        "Fidelity is open: Frechet distance undecided; test on more records."
    )
    few = Estimate(0.5, 0.2, 0.8)
    poor = {**result.prdc, "recall": replace(result.prdc["recall"], score=few)}
    assert replace(result, prdc=poor).rules()[2].kept is None


def test_a_class_whose_value_is_beyond_the_limit_leaves_the_rule_open(of_hold_out):
    result, _ = of_hold_out
    own = result.per_class["NORM"]
    reference = own.frechet.reference.value
    for low, kept in ((1.5, None), (2.1, False)):
        score = Estimate(2.2 * reference, low * reference, 2.5 * reference)
        poor = replace(own, frechet=replace(own.frechet, score=score))
        changed = replace(result, per_class={**result.per_class, "NORM": poor})
        rule = changed.rules()[7]
        assert (rule.kept, changed.passed) == (kept, kept)
        assert "in NORM (" in rule.sentence
        assert "CLBBB (" not in rule.sentence


def test_controls_of_other_records_are_refused(rng):
    features, signals = rng.normal(size=(20, 2)), rng.normal(size=(20, 8, 400))
    with pytest.raises(CorpusError, match=r"expected 20 records of the control 'late', .* got 19"):
        measure_fidelity(
            features, features, signals, signals, 100, controls={"late": (features[1:], signals)}
        )
    with pytest.raises(CorpusError, match=r"8 independent leads, samples\), got shape \(20, 12"):
        negative_controls(np.zeros((20, 12, 400)))
    with pytest.raises(CorpusError, match="at least 2 patients, whose leads can be exchanged"):
        negative_controls(signals, np.zeros(20))


def test_hold_out_patients_pass_and_score_like_real_against_real(of_hold_out):
    result, _ = of_hold_out
    assert result.passed, result.verdicts()
    assert "all 9 rules are kept" in result.verdicts()[0].sentence
    for name, measure in result.measures().items():
        spread = measure.reference.high - measure.reference.low
        assert measure.excess.low - spread < 0 < measure.excess.high + spread, name
    assert result.per_class.keys() == set(CLASSES)


def test_other_patients_of_a_real_archive_do_not_fail_and_noise_does(real_data, rng):
    paths = sorted((real_data / "ptbxl/records100/00000").glob("*_lr.hea"))[:240]
    signals = np.stack(
        [independent_leads(read_recording(p.with_suffix("")).signal_mv) for p in paths]
    )
    known = np.concatenate([log_band_power(signals, 100), 3 * lead_correlations(signals)], axis=1)
    real, others = np.arange(240) % 2 == 0, np.arange(240) % 2 == 1
    result = measure_fidelity(
        known[real], known[others], signals[real], signals[others], 100, repeats=6
    )
    assert result.passed is not False, result.verdicts()
    assert abs(result.frechet.excess.value) < 0.5 * result.frechet.reference.value
    noise = 0.2 * rng.normal(size=signals[others].shape)
    described = np.concatenate([log_band_power(noise, 100), 3 * lead_correlations(noise)], axis=1)
    failed = measure_fidelity(known[real], described, signals[real], noise, 100, repeats=6)
    assert failed.passed is False


def test_the_source_is_farther_than_hold_out_patients(of_hold_out):
    measures = of_hold_out[0].measures()
    for name in ("Frechet distance", "MMD² × 1000", "spectrum in dB, all leads"):
        assert measures[name].source.low > measures[name].score.high, name
    assert measures["neighbour mixing"].source.high < measures["neighbour mixing"].score.low
    assert measures["recall"].source.high < measures["recall"].score.value
    assert measures["two-sample AUC, linear"].source.low > 0.7
    assert measures["two-sample AUC, linear"].score.low < 0.6


def test_training_records_pass_for_their_copies_are_a_matter_of_privacy(hospitals):
    result = hospitals.measured(hospitals.real)
    assert result.passed, result.verdicts()
    assert result.frechet.score.value < result.frechet.reference.value
    assert result.two_sample["boosted"].score.value < 0.4


def test_noise_fails(hospitals, rng):
    noise = 0.3 * rng.normal(size=hospitals.real.shape)
    result = hospitals.measured(noise)
    assert result.passed is False
    broken = {rule.measure for rule in result.rules() if rule.kept is False}
    assert {
        "Frechet distance",
        "precision",
        "coverage",
        "log spectral distance",
        "lead correlation",
        "Frechet distance of classes",
    } <= broken
    assert result.two_sample["linear"].score.value > 0.99
    assert result.mixing.score.value < 0.05


def test_class_means_fail_diversity_as_a_whole_and_in_each_class(hospitals, rng):
    means = np.stack([hospitals.real[hospitals.labels[:, k] == 1].mean(axis=0) for k in (0, 1)])
    always = means[hospitals.labels.argmax(axis=1)] + 0.001 * rng.normal(size=hospitals.real.shape)
    result = hospitals.measured(always)
    broken = {rule.measure: rule.sentence for rule in result.rules() if rule.kept is False}
    assert {"diversity", "diversity of classes"} <= broken.keys()
    assert all(name in broken["diversity of classes"] for name in CLASSES)
    assert result.diversity.score.high < 0.5


def test_one_kind_of_three_is_precise_but_fails_all_that_asks_for_the_others(rng):
    signals, kinds = rng.normal(size=(120, 8, 400)), np.repeat([[-40.0], [0.0], [40.0]], 40, axis=0)
    result = measure_fidelity(
        rng.normal(size=(120, 3)) + kinds,
        rng.normal(size=(120, 3)),
        signals,
        signals,
        100,
        repeats=8,
    )
    broken = {rule.measure for rule in result.rules() if rule.kept is False}
    assert broken == {"Frechet distance", "recall", "coverage", "diversity"}
    assert result.prdc["precision"].score.value > 0.85


def test_shuffled_labels_are_seen_in_the_classes_alone(hospitals, rng):
    result = hospitals.measured(hospitals.hold_out, rng.permutation(hospitals.labels))
    broken = {rule.measure for rule in result.rules() if rule.kept is False}
    assert broken == {"Frechet distance of classes"}


# Every number is that of its function, in the same halves.


def test_the_measures_are_their_functions_of_the_same_halves(rng):
    real, generated = rng.normal(size=(60, 4)), 1.3 * rng.normal(size=(70, 4))
    mix = rng.normal(size=(8, 8))
    real_mv = rng.normal(size=(60, 8, 400))
    generated_mv = np.einsum("ij,njt->nit", np.eye(8) + mix / 8, rng.normal(size=(70, 8, 400)))
    patients = np.repeat(np.arange(30), 2)
    options = {"repeats": 4, "seed": 3}
    result = measure_fidelity(real, generated, real_mv, generated_mv, 100, patients, **options)
    width = median_distance(real)

    def diversity(a, b):
        kinds = [vendi_score(np.exp(-cdist(x, x, "sqeuclidean") / 2 / width**2)) for x in (b, a)]
        return kinds[0] / kinds[1]

    scores = {
        "Frechet distance": frechet_distance,
        "precision": lambda a, b: prdc(a, b).precision,
        "recall": lambda a, b: prdc(a, b).recall,
        "density": lambda a, b: prdc(a, b).density,
        "coverage": lambda a, b: prdc(a, b).coverage,
        "Frechet, n = ∞": frechet_limit,
        "MMD² × 1000": lambda a, b: mmd(a, b, width),
        "diversity": diversity,
        "neighbour mixing": neighbour_mixing,
    }
    found = result.measures()
    for name, score in scores.items():
        scale = "share" if name in ("precision", "recall", "coverage") else None
        expected = compare_with_halves(
            real, generated, patients, score=score, scale=scale, **options
        )
        assert_allclose(values(found[name]), values(expected), rtol=1e-4, atol=1e-6, err_msg=name)

    def of_signals(score):
        def unfolded(a, b):
            return score(a.reshape(-1, 8, 400), b.reshape(-1, 8, 400))

        flat = real_mv.reshape(60, -1), generated_mv.reshape(70, -1)
        return compare_with_halves(*flat, patients, score=unfolded, **options)

    for name, score in {
        "lead correlation difference": lead_correlation_difference,
        "spectrum in dB, all leads": lambda a, b: log_spectral_distance(a, b, 100)["all leads"],
        "spectrum in dB, V3": lambda a, b: log_spectral_distance(a, b, 100)["V3"],
        "log10 power error, 5-15 Hz": lambda a, b: band_power_error(a, b, 100)["5-15 Hz"],
    }.items():
        assert_allclose(values(found[name]), values(of_signals(score)), rtol=1e-4, atol=1e-6)


def values(comparison):
    return [
        number
        for part in (comparison.score, comparison.reference, comparison.excess)
        for number in (part.value, part.low, part.high)
    ]


def test_the_two_sample_auc_is_that_of_each_half(rng):
    real, generated = rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) + 0.5
    signals = rng.normal(size=(60, 8, 400))
    result = measure_fidelity(real, generated, signals, signals, 100, repeats=4, seed=3)
    for kind in ("linear", "boosted"):
        expected = compare_with_halves(
            real,
            generated,
            score=lambda a, b, kind=kind: cross_validated_auc(
                a, b, np.arange(len(a) + len(b)), kind, 3
            ),
            repeats=4,
            seed=3,
        )
        assert result.two_sample[kind].score.value == pytest.approx(expected.score.value, abs=0.06)
        assert result.two_sample[kind].records == 30


def test_classes_are_matched_in_the_two_sample_test(rng):
    """Two far classes 3 : 1 among the real records and 1 : 3 among the generated."""
    mine, theirs = np.repeat([0, 1], [90, 30]), np.repeat([0, 1], [30, 90])
    signals = rng.normal(size=(120, 8, 400))
    sets = [rng.normal(size=(120, 3)) + 8 * kind[:, None] for kind in (mine, theirs)]
    labels = {
        "labels": np.eye(2)[mine],
        "generated_labels": np.eye(2)[theirs],
        "label_names": ("a", "b"),
    }
    blind = measure_fidelity(*sets, signals, signals, 100, repeats=4)
    matched = measure_fidelity(*sets, signals, signals, 100, repeats=4, **labels)
    assert blind.two_sample["linear"].score.value > 0.65
    assert matched.two_sample["linear"].score.value < 0.6
    assert matched.two_sample["linear"].records < blind.two_sample["linear"].records


def test_classes_with_too_few_records_are_left_out_with_the_reason(rng):
    number = np.repeat([0, 1, 2], [40, 39, 41])
    signals, features = rng.normal(size=(120, 8, 400)), rng.normal(size=(120, 3))
    fewer = np.where(np.arange(120) == 119, 1, number)
    result = measure_fidelity(
        features,
        features[::-1],
        signals,
        signals,
        100,
        labels=np.eye(3)[number],
        generated_labels=np.eye(3)[fewer],
        label_names=("a", "b", "c"),
        source_features=features,
        source_mv=signals,
        repeats=2,
    )
    assert result.per_class.keys() == {"a", "c"}
    assert result.not_measured["class b"] == (
        "39 target and 40 generated records allow 19 per side, but 20 are needed"
    )
    assert result.per_class["a"].real_records == 40
    assert result.per_class["c"].frechet.records == 20
    assert result.per_class["a"].frechet.source is None
    assert result.frechet.source is not None
    assert "boosted" not in result.per_class["a"].two_sample
    rows = class_table(result).texts()
    assert [row[0] for row in rows] == ["class", "a", "c", "b"]
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[3][1] == "too few"


def test_the_measures_of_a_class_are_those_of_its_records_alone(hospitals, of_hold_out):
    mine = hospitals.labels[:, 0] == 1
    alone = measure_fidelity(
        hospitals.features(hospitals.real[mine]),
        hospitals.features(hospitals.hold_out[mine]),
        hospitals.real[mine],
        hospitals.hold_out[mine],
        100,
        source_features=hospitals.features(hospitals.source[mine]),
        source_mv=hospitals.source[mine],
        repeats=10,
    )
    of_class = of_hold_out[0].per_class["NORM"]
    for name in ("Frechet distance", "recall", "diversity", "lead correlation difference"):
        ours, theirs = of_class.measures()[name], alone.measures()[name]
        assert_allclose(values(ours), values(theirs), rtol=1e-9)
        assert ours.source.value == pytest.approx(theirs.source.value)


def test_progress_counts_every_repeat_of_the_whole_and_of_each_class(of_hold_out):
    _, ticks = of_hold_out
    assert ticks == [(number, 30) for number in range(1, 31)]


# Intervals.


def covered(intervals, expected):
    return np.mean([interval.low <= expected <= interval.high for interval in intervals])


def expected_frechet_1d(step, ratio, n):
    """E (x̄ − ȳ)² + E (s_x − s_y)² of n normals each, with E s = c₄ σ."""
    c4 = np.sqrt(2 / (n - 1)) * np.exp(gammaln(n / 2) - gammaln((n - 1) / 2))
    return step**2 + (1 + ratio**2) / n + 1 + ratio**2 - 2 * c4**2 * ratio


@pytest.mark.slow
@pytest.mark.parametrize(("step", "ratio"), [(1.0, 1.0), (0.5, 1.5), (2.0, 0.5)])
def test_the_interval_of_the_frechet_distance_covers_its_expectation_in_closed_form(
    rng, step, ratio
):
    """1,000 repetitions of 40 records per side, of which 20 are compared."""
    comparisons = [
        compare_with_halves(
            rng.normal(size=(40, 1)), step + ratio * rng.normal(size=(40, 1)), repeats=20
        )
        for _ in range(1000)
    ]
    expected = expected_frechet_1d(step, ratio, 20)
    scores = [comparison.score for comparison in comparisons]
    error = np.std([score.value for score in scores]) / np.sqrt(1000)
    assert np.mean([score.value for score in scores]) == pytest.approx(expected, abs=4 * error)
    assert 0.92 <= covered(scores, expected) <= 0.99
    excess = expected - expected_frechet_1d(0, 1, 20)
    assert 0.9 <= covered([comparison.excess for comparison in comparisons], excess) <= 0.99
    assert {comparison.interval for comparison in comparisons} == {"confidence"}


@pytest.mark.slow
def test_the_interval_of_the_extrapolated_distance_covers_that_of_the_laws(rng):
    """N(0, I) and N(μ, 2.25 I) in two dimensions: |μ|² + 2 (1.5 − 1)²."""
    scores = [
        compare_with_halves(
            rng.normal(size=(60, 2)),
            [1.0, 0.5] + 1.5 * rng.normal(size=(60, 2)),
            score=frechet_limit,
            repeats=12,
        ).score
        for _ in range(1000)
    ]
    assert 0.9 <= covered(scores, 1.25 + 0.5) <= 0.99


@pytest.mark.slow
def test_the_interval_of_mmd_covers_that_of_the_laws(rng):
    """κ of normals in closed form: (w² / (w² + v))^(F/2) exp(−|μ|² / 2 (w² + v))."""
    width, step = 2.0, np.array([1.0, 0.5])

    def kernel(variance, distance):
        total = width**2 + variance
        return width**2 / total * np.exp(-distance / (2 * total))

    expected = kernel(2, 0) + kernel(2 * 1.5**2, 0) - 2 * kernel(1 + 1.5**2, step @ step)
    scores = [
        compare_with_halves(
            rng.normal(size=(40, 2)),
            step + 1.5 * rng.normal(size=(40, 2)),
            score=lambda a, b: mmd(a, b, width),
            repeats=20,
        ).score
        for _ in range(1000)
    ]
    error = np.std([score.value for score in scores]) / np.sqrt(1000)
    assert np.mean([score.value for score in scores]) == pytest.approx(expected, abs=4 * error)
    assert 0.9 <= covered(scores, expected) <= 0.99


@pytest.mark.slow
def test_the_intervals_of_neighbour_measures_cover_and_are_too_wide_rather_than_too_narrow(rng):
    """The expected value at 20 records per side by 4,000 draws of that many."""

    def draw(n):
        return rng.normal(size=(n, 2)), 0.6 * rng.normal(size=(n, 2)) + 0.5

    expected = np.mean([prdc(*draw(20), 3) for _ in range(4000)], axis=0)
    for number, measure in enumerate(("precision", "recall")):
        scores = [
            compare_with_halves(
                *draw(40), score=lambda a, b, i=number: prdc(a, b, 3)[i], scale="share", repeats=12
            ).score
            for _ in range(500)
        ]
        assert covered(scores, expected[number]) >= 0.93, measure


def mean_step(a, b):
    return float(b.mean() - a.mean())


def test_intervals_are_of_patients_and_not_of_records(rng):
    """Four records of a patient that hardly differ: 1,000 repetitions of 20 patients."""

    def draw():
        level = np.repeat(rng.normal(size=(20, 1)), 4, axis=0)
        return level + 0.1 * rng.normal(size=(80, 1)), rng.normal(size=(80, 1)) + 1

    patients = np.repeat(np.arange(20), 4)
    sets = [draw() for _ in range(1000)]
    by_patient, by_record = (
        covered(
            [
                compare_with_halves(*pair, groups, score=mean_step, repeats=12).score
                for pair in sets[:number]
            ],
            1.0,
        )
        for groups, number in ((patients, 1000), (None, 300))
    )
    assert 0.9 <= by_patient <= 0.99
    assert by_record < 0.8


def test_patients_of_the_generated_side_count_as_patients(rng):
    level = np.repeat(rng.normal(size=(20, 1)), 4, axis=0)
    real, generated = rng.normal(size=(80, 1)), level + 0.01 * rng.normal(size=(80, 1))
    patients = np.repeat(np.arange(20), 4)
    wide, narrow = (
        compare_with_halves(
            real, generated, generated_patients=groups, score=mean_step, repeats=60
        ).score
        for groups in (patients, None)
    )
    assert wide.high - wide.low > 1.4 * (narrow.high - narrow.low)


def test_the_interval_of_a_mean_is_its_standard_error_however_many_records_are_compared(rng):
    """Var = σ²/n + σ²/m for the whole sets, at 50 or 20 of 100 records per side."""
    real, generated = rng.normal(size=(100, 1)), 2 * rng.normal(size=(100, 1))
    expected = np.sqrt(real.var(ddof=1) / 100 + generated.var(ddof=1) / 100)
    for records in (50, 20):
        score = compare_with_halves(
            real, generated, score=mean_step, records=records, repeats=2000
        ).score
        assert (score.high - score.low) / 2 == pytest.approx(1.96 * expected, rel=0.08)
        assert score.value == pytest.approx(mean_step(real, generated), abs=0.02)


def test_an_interval_without_other_generated_records_is_called_a_spread(rng):
    """All of them in every repeat: what another generated set would change is not seen."""
    real, generated = rng.normal(size=(100, 2)), rng.normal(size=(60, 2)) + 1
    for records, kind in ((30, "confidence"), (31, "spread"), (50, "spread")):
        comparison = compare_with_halves(real, generated, records=records, repeats=5)
        assert comparison.interval == kind
    assert through_a_card(comparison) == comparison
    assert compare_with_halves(real, generated, repeats=2).records == 30


def test_a_source_with_few_records_has_a_spread_or_is_left_out(rng):
    features, signals = rng.normal(size=(60, 3)), rng.normal(size=(60, 8, 400))

    def with_source(n):
        return measure_fidelity(
            features,
            features,
            signals,
            signals,
            100,
            source_features=features[:n],
            source_mv=signals[:n],
            repeats=3,
        )

    assert with_source(60).frechet.source_interval == "confidence"
    assert "(spread)" not in str(with_source(60))
    few = with_source(40)
    assert distance_table(few).texts()[1][3].endswith("] (spread)")
    assert "(spread)" not in "".join(distance_table(few).texts()[1][:3])
    assert few.frechet.source_interval == "spread"
    assert few.frechet.interval == "confidence"
    assert few.source_records == 40
    none = with_source(29)
    assert none.frechet.source is None
    assert none.frechet.source_interval is None
    assert none.source_records == 0
    assert none.not_measured["source against target"] == (
        "30 records per side are compared, but the source has 29"
    )


def test_intervals_stay_in_the_range_of_their_measure(rng):
    features, signals = rng.normal(size=(40, 2)), rng.normal(size=(40, 8, 400))
    result = measure_fidelity(features, features, signals, signals, 100, repeats=4)
    for name in ("precision", "recall", "coverage", "neighbour mixing", "two-sample AUC, linear"):
        score = result.measures()[name].score
        assert 0 <= score.low <= score.value <= score.high <= 1
    assert result.frechet.score.low >= 0
    assert result.prdc["recall"].score.high == 1


def test_a_generator_as_good_as_real_scores_like_the_reference(rng):
    comparison = compare_with_halves(
        rng.normal(size=(100, 20)), rng.normal(size=(300, 20)), repeats=30
    )
    assert comparison.records == 50
    assert abs(comparison.excess.value) < 0.15 * comparison.reference.value
    assert comparison.excess.value == pytest.approx(
        comparison.score.value - comparison.reference.value
    )
    assert "target against target" in str(comparison)


def test_a_shifted_generator_scores_worse_than_the_reference_by_its_shift(rng):
    comparison = compare_with_halves(
        rng.normal(size=(100, 20)), rng.normal(size=(300, 20)) + 1, repeats=30
    )
    assert comparison.excess.low > 0
    assert comparison.excess.value == pytest.approx(20, rel=0.2)


def test_score_and_reference_use_the_number_of_records_that_is_asked(rng):
    seen = []

    def count(a, b):
        seen.append((len(a), len(b)))
        return 0.0

    sets = rng.normal(size=(100, 2)), rng.normal(size=(30, 2)), np.repeat(np.arange(50), 2)
    assert compare_with_halves(*sets, score=count, repeats=3).records == 15
    assert compare_with_halves(*sets, score=count, records=30, repeats=3).records == 30
    assert seen == 6 * [(15, 15)] + 6 * [(30, 30)]


# Tables, JSON, bounds and refusals.


def test_all_measures_come_with_their_reference(rng):
    features, signals = rng.normal(size=(40, 5)), rng.normal(size=(40, 8, 500))
    result = measure_fidelity(features, features + 1, signals, 2 * signals, 100, repeats=5)
    rows = distance_table(result).texts()
    assert {len(row) for row in rows} == {3}
    assert [row[0] for row in rows[1:6]] == [
        "Frechet distance",
        "precision",
        "recall",
        "density",
        "coverage",
    ]
    assert "Frechet distance" in str(result)
    assert result.frechet.records == 20
    louder = result.band_power["15-25 Hz"]
    assert louder.score.value == pytest.approx(np.log10(4), abs=0.05)
    assert louder.reference.low < 0 < louder.reference.high
    assert result.frechet.excess.value > 0
    assert result.prdc["coverage"].excess.value < 0
    assert result.spectral_distance["V2"].score.value == pytest.approx(20 * np.log10(2), abs=0.5)


def test_the_source_is_a_column_where_it_was_measured(of_hold_out):
    rows = distance_table(of_hold_out[0]).texts()
    assert rows[0] == ("measure", "generated", "target against target", "source against target")
    assert {len(row) for row in rows} == {4}
    assert all(all(row) for row in rows)
    assert of_hold_out[0].mmd.source.value > 0
    assert of_hold_out[0].per_class.keys() == set(CLASSES)


def test_a_result_is_read_back_from_its_card(of_hold_out):
    evaluation = FidelityEvaluation({"tgdp": of_hold_out[0]}, None)
    again = through_a_card(evaluation)
    assert again == evaluation
    assert again.methods["tgdp"].passed is True
    assert again.tests() == evaluation.tests()


def test_verdicts_say_the_whole_and_then_every_number(of_hold_out):
    result, _ = of_hold_out
    verdicts, rules = result.verdicts(), result.rules()
    assert [verdict.passed for verdict in verdicts] == 10 * [True] + [None, None]
    assert [rule.sentence for rule in rules] == [verdict.sentence for verdict in verdicts[1:]]
    assert str(result.frechet.score) in verdicts[1].sentence
    poor = replace(result, diversity=replace(result.diversity, score=result.mmd.score))
    assert poor.passed is False
    assert poor.verdicts()[0] == Verdict(False, "Fidelity fails 1 of 9 rules: diversity.")
    assert "breaks the rule" in poor.rules()[4].sentence


def test_few_records_have_no_two_sample_test_and_no_extrapolation_and_say_so(rng):
    features, signals = rng.normal(size=(18, 6)), rng.normal(size=(18, 8, 400))
    result = measure_fidelity(features, features, signals, signals, 100, repeats=2)
    assert result.two_sample == {}
    assert (
        "10 patients per side are needed in each repeat, got 9"
        in (result.not_measured["two-sample AUC"])
    )
    assert result.frechet_limit is None
    assert result.not_measured["Frechet, n = ∞"] == (
        "12 records per side are needed for 6 features, got 9"
    )
    assert through_a_card(result) == result


def test_large_sets_are_thinned_at_random(rng, monkeypatch):
    monkeypatch.setattr("ecgtransfer.evaluation.fidelity.records.LARGEST_SET", 50)
    features, signals = rng.normal(size=(90, 3)), rng.normal(size=(90, 8, 400))
    result = measure_fidelity(
        features, features[:40], signals, signals[:40], 100, np.arange(90), repeats=2
    )
    assert (result.real_records, result.generated_records) == (50, 40)
    assert result.frechet.records == 20


def test_the_diversity_rests_on_a_bounded_number_of_records(rng, monkeypatch):
    monkeypatch.setattr("ecgtransfer.evaluation.fidelity.repeats.DIVERSITY_RECORDS", 8)
    features, signals = rng.normal(size=(40, 3)), rng.normal(size=(40, 8, 400))
    result = measure_fidelity(features, features, signals, signals, 100, repeats=2)
    assert (result.diversity.records, result.frechet.records) == (8, 20)


def test_the_same_seed_gives_the_same_numbers(rng):
    features, signals = rng.normal(size=(40, 3)), rng.normal(size=(40, 8, 400))
    first, same, other = (
        measure_fidelity(features, features + 1, signals, signals, 100, repeats=2, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == same
    assert first.frechet != other.frechet


def test_patients_of_other_records_are_refused():
    features = np.zeros((4, 2))
    with pytest.raises(CorpusError, match="one patient per record"):
        compare_with_halves(features, features, [1, 2])
    with pytest.raises(CorpusError, match="only 4 are generated"):
        compare_with_halves(np.zeros((20, 2)), features, records=5)
    with pytest.raises(ConfigError, match="at least 2 repeats"):
        compare_with_halves(features, features, repeats=1)
    with pytest.raises(CorpusError, match="at least 2 records per set, got 4 and 1"):
        compare_with_halves(features, features[:1])


def test_features_and_signals_of_different_records_are_refused():
    features, signals = np.zeros((20, 2)), np.zeros((19, 8, 500))
    with pytest.raises(CorpusError, match="same records, got 20 and 19"):
        measure_fidelity(features, features, signals, np.zeros((20, 8, 500)), 100)


def test_what_does_not_belong_together_is_refused(rng):
    features, signals = rng.normal(size=(20, 2)), rng.normal(size=(20, 8, 400))
    sets = features, features, signals, signals, 100
    hot = np.ones((20, 1))
    for options, message in (
        ({"source_mv": signals}, "source or neither"),
        ({"labels": hot}, "labels, generated_labels and label_names or none"),
        ({"labels": hot, "generated_labels": hot}, "or none of them"),
        (
            {"labels": hot, "generated_labels": hot, "label_names": ("a", "b")},
            "one column for each name",
        ),
        ({"labels": hot[:9], "generated_labels": hot, "label_names": ("a",)}, "expected labels"),
        ({"patients": np.arange(3)}, "one patient per record"),
        ({"source_features": features[:, :1], "source_mv": signals}, "with one F"),
        ({"source_features": features, "source_mv": signals[:, :7]}, "same leads in every set"),
    ):
        with pytest.raises(CorpusError, match=message):
            measure_fidelity(*sets, **options)
    with pytest.raises(CorpusError, match="more than 12 records"):
        measure_fidelity(*sets, k=12)
    with pytest.raises(CorpusError, match="half of the pairs"):
        measure_fidelity(np.zeros((20, 2)), *sets[1:])
