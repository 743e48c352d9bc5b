import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, roc_auc_score

from ecgtransfer.corpus import stratified_folds
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.classifier import (
    ClassifierConfig,
    ClassifierTraining,
    LabelledRecords,
)
from ecgtransfer.evaluation.metrics import (
    apply_thresholds,
    challenge_scores,
    choose_thresholds,
    macro_auroc,
    macro_calibration_error,
    weighted_macro_auroc,
)
from ecgtransfer.evaluation.utility import (
    count_trainings,
    utility_study,
)
from ecgtransfer.evaluation.utility.arms import (
    RATIOS,
    TARGET_ONLY,
    Arm,
    default_arms,
    matched_records,
)
from ecgtransfer.evaluation.utility.figures import arm_table
from ecgtransfer.evaluation.utility.result import ArmDifference, UtilityEvaluation
from ecgtransfer.evaluation.utility.scores import (
    Outcome,
    ScoreTable,
    compare_arms,
    draw_seed_shares,
)
from ecgtransfer.statistics import (
    Estimate,
    draw_resamples,
    estimate,
    score_resamples,
)
from tests.evaluation.round_trip import through_a_card

NAMES = ("SLOW", "FAST", "TALL")
TINY = ClassifierConfig(
    widths=(16, 16),
    steps=40,
    batch_size=16,
    folds=2,
    learning_rate=5e-3,
    pretraining_steps=40,
    finetuning_rate=5e-3,
)
QUICK = dataclasses.replace(TINY, steps=2, pretraining_steps=3)
SEEDS = (0, 1, 2)


def toy_records(seed, n, signals=None):
    """Noisy oscillations (n, 8, 128): slow or fast, and sometimes with one tall spike.

    With `signals` "noise" there is nothing to see in them.
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros((n, 3), np.float32)
    fast, tall = rng.random(n) < 0.5, rng.random(n) < 0.4
    labels[np.arange(n), fast.astype(int)] = 1
    labels[tall, 2] = 1
    time = np.arange(128) / 128
    cycles = np.where(fast, 9, 6)[:, None, None]
    phase = rng.uniform(0, 2 * np.pi, (n, 8, 1))
    shown = np.sin(2 * np.pi * cycles * time + phase) + rng.normal(size=(n, 8, 128))
    for record in np.flatnonzero(tall):
        at = rng.integers(10, 118)
        shown[record, :, at : at + 3] += 2.0
    if signals == "noise":
        shown = rng.normal(size=shown.shape)
    patients = np.array([f"{seed}-{i}" for i in range(n)])
    return LabelledRecords(shown.astype(np.float32), labels, patients)


FRESH, NOISE, SHUFFLED = "+ fresh x16", "+ noise x16", "+ shuffled fresh x16"
ARMS = (
    Arm(TARGET_ONLY),
    Arm("pre-trained", source="pretrained"),
    Arm("source only", target=False, source="pretrained"),
    Arm(FRESH, synthetic="fresh", ratio=16.0),
    Arm(NOISE, synthetic="noise", ratio=16.0),
    Arm(SHUFFLED, synthetic="fresh", ratio=16.0, shuffled=True),
    Arm("fresh only", target=False, synthetic="fresh"),
    Arm("tested on fresh", tested_on="fresh"),
)


@pytest.fixture(scope="module")
def given():
    """14 target records; fresh true ones and noise as synthetic sets; a source of noise."""
    return {
        "target": toy_records(1, 14),
        "test": toy_records(4, 250),
        "label_names": NAMES,
        "config": TINY,
        "source": toy_records(5, 40, signals="noise"),
        "synthetic": {"fresh": toy_records(2, 400), "noise": toy_records(3, 400, signals="noise")},
        "seeds": SEEDS,
        "resamples": 500,
    }


@pytest.fixture(scope="module")
def study(given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    reports = []
    result = utility_study(
        **given,
        arms=ARMS,
        folder=folder,
        progress=lambda done, total: reports.append((done, total)),
    )
    return folder, result, reports


def change(result, name):
    return next(one for one in result.differences if one.name == name)


# Known answers


def test_true_fresh_records_help(study):
    _, result, _ = study
    assert change(result, FRESH).verdict == "helps"
    assert change(result, FRESH).macro_auroc.value > 0.1
    assert change(result, FRESH).f2.value > 0


def test_noise_and_shuffled_labels_do_not_help(study):
    _, result, _ = study
    assert change(result, NOISE).verdict in ("harms", "no evidence")
    assert change(result, SHUFFLED).verdict in ("harms", "no evidence")
    assert change(result, SHUFFLED).control
    assert not change(result, FRESH).control
    assert abs(result.arm(SHUFFLED).macro_auroc.value - 0.5) < 0.15


def test_true_fresh_records_alone_are_as_good_as_with_the_few_of_the_target(study):
    _, result, _ = study
    alone, together = result.arm("fresh only"), result.arm(FRESH)
    assert alone.macro_auroc.value > result.arm(TARGET_ONLY).macro_auroc.value + 0.1
    assert abs(alone.macro_auroc.value - together.macro_auroc.value) < 0.1
    assert (alone.target_records, alone.synthetic_records) == (0, 400)


def test_a_source_of_noise_alone_teaches_nothing(study):
    _, result, _ = study
    assert abs(result.arm("source only").macro_auroc.value - 0.5) < 0.1


def test_tested_on_true_fresh_records_the_target_arm_is_as_good_as_on_test_records(study):
    _, result, _ = study
    reverse, straight = result.arm("tested on fresh"), result.arm(TARGET_ONLY)
    assert reverse.test_records == 400
    assert reverse.macro_auroc.value == pytest.approx(straight.macro_auroc.value, abs=0.06)
    assert "tested on fresh" not in {one.name for one in result.differences}


# Scores


def test_scores_are_means_over_seeds_of_the_classifiers_in_the_folder(study, given, monkeypatch):
    folder, result, _ = study
    monkeypatch.setattr("ecgtransfer.evaluation.classifier.fit", None)
    target, test = given["target"], given["test"]
    scores, training_scores = [], []
    for seed in SEEDS:
        fold_of = stratified_folds(target.labels, target.patients, 2, seed)
        held_out = np.empty(target.labels.shape)
        for fold in (0, 1):
            part = ClassifierTraining(
                target.select(np.flatnonzero(fold_of != fold)), NAMES, TINY, seed=seed
            )
            inside = fold_of == fold
            held_out[inside] = part.run(folder / part.key)(target.signals_mv[inside])
        whole = ClassifierTraining(target, NAMES, TINY, seed=seed)
        given_scores = whole.run(folder / whole.key)(test.signals_mv)
        predicted = apply_thresholds(given_scores, choose_thresholds(target.labels, held_out))
        training_scores.append(macro_auroc(target.labels, held_out))
        scores.append(
            (
                roc_auc_score(test.labels, given_scores, average="macro"),
                average_precision_score(test.labels, given_scores, average="macro"),
                *challenge_scores(test.labels, predicted),
                macro_calibration_error(test.labels, given_scores),
            )
        )
    arm = result.arm(TARGET_ONLY)
    found = (arm.macro_auroc, arm.macro_average_precision, arm.f2, arm.g2, arm.calibration_error)
    assert_allclose([one.value for one in found], np.mean(scores, axis=0), atol=1e-9)
    assert_allclose(arm.macro_auroc_by_seed, [one[0] for one in scores], atol=1e-9)
    assert arm.training_score == pytest.approx(np.mean(training_scores))


def test_scores_of_classes_average_to_the_macro_score(study):
    _, result, _ = study
    for arm in result.arms:
        for macro, classes in (
            (arm.macro_auroc, arm.per_class_auroc),
            (arm.macro_average_precision, arm.per_class_average_precision),
        ):
            assert list(classes) == list(NAMES)
            assert macro.value == pytest.approx(np.mean([one.value for one in classes.values()]))
        assert 0 <= arm.macro_auroc.low <= arm.macro_auroc.value <= arm.macro_auroc.high <= 1


def test_differences_are_between_scores_and_adjusted_intervals_contain_the_plain(study):
    _, result, _ = study
    best = result.arm(TARGET_ONLY)
    assert [one.name for one in result.differences] == [FRESH, NOISE, SHUFFLED, "fresh only"]
    for one in result.differences:
        assert one.against == best.name
        assert one.compared == 4
        score = result.arm(one.name).macro_auroc.value
        assert one.macro_auroc.value == pytest.approx(score - best.macro_auroc.value)
        assert one.adjusted.value == one.macro_auroc.value
        assert one.adjusted.low <= one.macro_auroc.low
        assert one.adjusted.high >= one.macro_auroc.high
        of_arm = result.arm(one.name).per_class_auroc
        assert list(one.per_class_auroc) == list(NAMES)
        for label, change in one.per_class_auroc.items():
            expected = of_arm[label].value - best.per_class_auroc[label].value
            assert change.value == pytest.approx(expected)
            assert -1 <= change.low <= change.value <= change.high <= 1
    for one in result.differences_to_target_only:
        score = result.arm(one.name).f2.value - result.arm(TARGET_ONLY).f2.value
        assert one.f2.value == pytest.approx(score)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.01, 0.03, "helps"), (-0.01, 0.03, "no evidence"), (-0.03, -0.01, "harms")],
)
def test_the_verdict_is_where_the_adjusted_interval_lies(low, high, verdict):
    plain, adjusted = Estimate(0.02, 0.015, 0.025), Estimate((low + high) / 2, low, high)
    one = ArmDifference("more", "less", 3, 2, plain, adjusted, plain, plain, plain, plain)
    assert one.verdict == verdict
    assert dataclasses.replace(one, seeds=1).verdict == "no evidence"


def test_seeds_are_resampled_as_students_t_says():
    values = np.random.default_rng(0).normal(size=5)
    shares = draw_seed_shares(5, 400_000)
    assert_allclose(shares.sum(axis=1), 1)
    standard_error = values.std(ddof=1) / np.sqrt(5)
    found = (shares @ values - values.mean()) / standard_error
    levels = [0.025, 0.25, 0.75, 0.975]
    assert_allclose(np.quantile(found, levels), student(4).ppf(levels), atol=0.05)
    assert_array_equal(draw_seed_shares(1, 3), np.ones((3, 1)))


def test_intervals_over_patients_and_seeds_cover_at_their_nominal_rate():
    """As in the study: scores N(d + seed effect, 1) of positives against N(0, 1), five trainings.

    The seed effects have variance 0.04, so the mean area over trainings is Φ(d / √2.04). Crossing
    patients with seeds errs on the wide side.
    """
    rng = np.random.default_rng(0)
    true = norm.cdf(1.5 / 2.04**0.5) - norm.cdf(1 / 2.04**0.5)
    covered = 0
    for number in range(1000):
        y_true = (rng.random((60, 1)) < 0.4).astype(float)
        drawn = draw_resamples(y_true, resamples=200, seed=number)
        shares = draw_seed_shares(5, 200, seed=number)
        found, draws = [], np.zeros(200)
        common = rng.normal(size=y_true.shape)
        for shift, sign in ((1.0, -1), (1.5, 1)):
            own = rng.normal(size=y_true.shape)
            for seed in range(5):
                mean = shift + 0.2 * rng.normal()
                again = rng.normal(size=y_true.shape)
                scores = mean * y_true + 0.6 * common + 0.6 * own + 0.28**0.5 * again
                found.append(sign * macro_auroc(y_true, scores))
                resampled = score_resamples(weighted_macro_auroc, y_true, scores, drawn)
                draws += sign * shares[:, seed] * resampled
        interval = estimate(np.sum(found) / 5, draws)
        covered += interval.low <= true <= interval.high
    assert 0.93 <= covered / 1000 <= 0.99


# The best arm without synthetic records


def test_the_best_arm_is_chosen_by_training_records_and_never_by_test_labels(study, given):
    folder, result, _ = study
    baselines = ARMS[:3]
    by_training = {arm.name: result.arm(arm.name).training_score for arm in baselines}
    assert result.best == (max(by_training, key=by_training.get),)
    winners = set()
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(250)
        test = dataclasses.replace(given["test"], labels=given["test"].labels[order])
        other = utility_study(
            **{**given, "test": test, "resamples": 2}, arms=baselines, folder=folder
        )
        assert other.best == result.best
        assert {arm.name: arm.training_score for arm in other.arms} == by_training
        winners.add(max(other.arms, key=lambda arm: arm.macro_auroc.value).name)
    assert len(winners) > 1


def test_a_verdict_names_what_the_arm_is_held_against(study):
    _, result, _ = study
    helped, _, control, alone = result.verdicts()
    assert helped.startswith(f"{FRESH} helps: macro AUROC 0.")
    assert " with target only, difference +0." in helped
    assert "adjusted for 4 comparisons [+0." in helped
    assert helped.endswith("over 3 training seeds and 250 test patients.")
    assert control.startswith(f"{SHUFFLED}, a control with shuffled labels, ")
    assert alone.startswith("fresh only, without target records, ")
    lucky = dataclasses.replace(
        result, differences=(dataclasses.replace(result.differences[0], seeds=1),)
    )
    assert lucky.verdicts()[0].endswith("use 2 seeds or more.")


# What is compared with what: simulated predictions


def simulated(arms, areas, n, seed=0, training=None, seeds=3):
    """Outcomes of arms whose scores have these areas under the curve, apart by little noise.

    Arms of one area differ by nothing: their records add no information.
    """
    rng = np.random.default_rng(seed)
    labels = np.eye(3)[rng.integers(3, size=n)]
    common, outcomes = rng.normal(size=labels.shape), {}
    for arm in arms:
        shift = 2**0.5 * norm.ppf(areas[arm.name])
        own = rng.normal(size=labels.shape)
        outcomes[arm.name] = []
        for _ in range(seeds):
            scores = shift * labels + 0.95 * common + 0.3 * own + 0.1 * rng.normal(size=own.shape)
            score = (training or areas)[arm.name]
            outcome = Outcome(1 / (1 + np.exp(-scores)), labels, score)
            outcomes[arm.name].append([outcome])
    records = LabelledRecords(np.zeros((n, 8, 1), np.float32), labels)
    table = ScoreTable.of([records], NAMES, seeds, 400)
    scores = {name: table.scores(found) for name, found in outcomes.items()}
    return compare_arms(arms, outcomes, scores, table)


STRONG, WEAK = Arm(TARGET_ONLY), Arm("oversampled", balance=1.0)
MORE = tuple(
    dataclasses.replace(arm, name=f"{arm.name} + set", synthetic="set", ratio=1.0)
    for arm in (STRONG, WEAK)
)


def test_useless_records_in_a_weaker_recipe_do_not_harm():
    arms = (STRONG, WEAK, *MORE)
    areas = dict(zip([arm.name for arm in arms], [0.88, 0.72, 0.88, 0.72], strict=True))
    found = simulated(arms, areas, 500)
    assert found.best == (TARGET_ONLY,)
    assert [(one.name, one.against) for one in found.differences] == [
        ("target only + set", "target only"),
        ("oversampled + set", "oversampled"),
    ]
    assert [one.verdict for one in found.differences] == ["no evidence", "no evidence"]
    (overall,) = found.overall
    assert overall.chosen == ("target only + set",)
    assert [(one.against, one.verdict) for one in overall.differences] == [
        ("target only", "no evidence"),
        ("oversampled", "helps"),
    ]
    assert overall.sentence().startswith(
        "The best of 2 arms with set records by its training score, target only + set, has a macro "
        "AUROC of 0."
    )
    assert ": better than oversampled (+0." in overall.sentence()
    assert "; no evidence of a difference from target only (" in overall.sentence()


def test_useful_records_in_a_weaker_recipe_help_without_being_the_best_way():
    arms = (STRONG, WEAK, *MORE)
    areas = dict(zip([arm.name for arm in arms], [0.90, 0.70, 0.90, 0.80], strict=True))
    training = areas | {"target only + set": 0.5}
    found = simulated(arms, areas, 500, training=training)
    assert [one.verdict for one in found.differences] == ["no evidence", "helps"]
    (overall,) = found.overall
    assert overall.chosen == ("oversampled + set",)
    assert [one.verdict for one in overall.differences] == ["harms", "helps"]
    assert through_a_card(overall) == overall


def test_an_arm_without_target_records_is_no_candidate_for_the_best_way():
    """Its training score is about synthetic records, and may be as high as these are easy."""
    arms = (STRONG, MORE[0], Arm("set only", target=False, synthetic="set"))
    areas = {TARGET_ONLY: 0.8, "target only + set": 0.8, "set only": 0.7}
    found = simulated(arms, areas, 300, training=areas | {"set only": 0.99})
    assert found.overall[0].chosen == ("target only + set",)
    alone = found.differences[1]
    assert (alone.name, alone.against, alone.alone) == ("set only", TARGET_ONLY, True)
    assert not found.differences[0].alone
    only = simulated((arms[0], arms[2]), areas, 300)
    assert only.overall == ()


def test_a_score_table_spreads_intervals_for_few_patients():
    arms = (STRONG, MORE[0])
    areas = {arm.name: 0.8 for arm in arms}
    ratios = []
    for n in (12, 800):
        (one,) = simulated(arms, areas, n).differences
        ratios.append((one.macro_auroc.high - one.macro_auroc.low) * n**0.5)
    assert ratios[0] > 1.15 * ratios[1]


def test_the_difference_of_the_only_class_is_that_of_the_macro_score():
    arms, names = (STRONG, MORE[0]), NAMES[:1]
    rng = np.random.default_rng(0)
    labels = (np.arange(60) % 3 == 0)[:, None].astype(np.float64)
    outcomes = {
        arm.name: [
            [Outcome(1 / (1 + np.exp(-labels * area - rng.normal(size=(60, 1)))), labels, area)]
            for _ in range(3)
        ]
        for arm, area in zip(arms, (1.0, 1.5), strict=True)
    }
    records = LabelledRecords(np.zeros((60, 8, 1), np.float32), labels)
    table = ScoreTable.of([records], names, 3, 400)
    scores = {name: table.scores(found) for name, found in outcomes.items()}
    (one,) = compare_arms(arms, outcomes, scores, table).differences
    found, expected = one.per_class_auroc[names[0]], one.macro_auroc
    assert_allclose(
        [found.value, found.low, found.high], [expected.value, expected.low, expected.high]
    )


def test_fewer_than_50_test_patients_are_warned_about(study):
    _, result, _ = study
    assert result.warnings() == ()
    few = dataclasses.replace(result, test_patients=49)
    assert few.warnings()[0].startswith("49 test patients are few: with fewer than 50, ")
    assert str(few).endswith(few.warnings()[0])


# What arms are trained on


def test_synthetic_only_never_sees_the_target(study, given, tmp_path):
    _, result, _ = study
    target = given["target"]
    poisoned = LabelledRecords(1e3 * (7 - target.signals_mv), 1 - target.labels, target.patients)
    arms = (Arm(TARGET_ONLY), Arm("fresh only", target=False, synthetic="fresh"))
    other = utility_study(**{**given, "target": poisoned}, arms=arms, folder=tmp_path)
    assert other.arm("fresh only") == result.arm("fresh only")
    assert other.arm(TARGET_ONLY).macro_auroc != result.arm(TARGET_ONLY).macro_auroc


def test_pretraining_is_where_training_on_the_target_starts(study, given):
    folder, _, _ = study
    cards = [json.loads(path.read_text()) for path in folder.glob("*/card.json")]
    source = given["source"].fingerprint()
    pretrained = [card for card in cards if card["records"]["real"] == source]
    assert sorted(card["train"]["seed"] for card in pretrained) == list(SEEDS)
    for seed in SEEDS:
        training = ClassifierTraining(given["source"], NAMES, TINY.pretraining(), seed=seed)
        start = training.run(folder / training.key).fingerprint()
        finetuned = [card for card in cards if card["start"] == start]
        assert len(finetuned) == 3
        assert all(card["train"]["seed"] == seed for card in finetuned)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0, 2.3])
def test_ratios_give_exact_counts_and_the_class_mix_of_the_target(ratio):
    target, pool = toy_records(1, 37).labels, toy_records(2, 600).labels
    chosen = matched_records(pool, target, ratio, 0, NAMES)
    assert len(chosen) == int(np.floor(ratio * 37 + 0.5))
    assert len(np.unique(chosen)) == len(chosen)
    for row in np.unique(target, axis=0):
        wanted = ratio * (target == row).all(axis=1).sum()
        assert abs((pool[chosen] == row).all(axis=1).sum() - wanted) < 1
    assert not np.array_equal(chosen, matched_records(pool, target, ratio, 1, NAMES))


def test_whole_ratios_give_every_combination_exactly_as_often():
    target, pool = toy_records(1, 37).labels, toy_records(2, 600).labels
    for few, more in pairwise([1.0, 2.0, 4.0]):
        small, large = (matched_records(pool, target, ratio, 0, NAMES) for ratio in (few, more))
        assert set(small) < set(large)
        assert_array_equal(pool[large].sum(axis=0), more * target.sum(axis=0))


def test_a_combination_that_a_set_lacks_is_stood_in_for_by_its_rarest_label():
    target = np.array([[1, 0, 0]] * 6 + [[1, 0, 1]] * 2)
    singles = np.repeat(np.eye(3), 20, axis=0)
    chosen = singles[matched_records(singles, target, 1.0, 0, NAMES)]
    assert_array_equal(chosen.sum(axis=0), [6, 0, 2])
    pool = np.concatenate([singles, [[1, 0, 1], [0, 1, 1]]])
    chosen = pool[matched_records(pool, target, 2.0, 0, NAMES)]
    assert_array_equal(chosen.sum(axis=0), [12 + 1, 0, 4])


def test_a_set_with_too_few_records_of_a_class_is_refused():
    pool = np.repeat(np.eye(3), [10, 10, 3], axis=0)
    with pytest.raises(
        ConfigError, match=r"a ratio of 2 needs 4 synthetic records of TALL.* lacks 1"
    ):
        matched_records(pool, np.eye(3)[[0, 0, 2, 2]], 2.0, 0, NAMES)
    with pytest.raises(ConfigError, match="no label"):
        matched_records(pool, np.zeros((1, 3)), 1.0, 0, NAMES)


def test_shuffled_labels_keep_their_mix_and_lose_their_records(given, tmp_path, monkeypatch):
    seen = []
    run = ClassifierTraining.run
    monkeypatch.setattr(
        ClassifierTraining, "run", lambda self, *rest: seen.append(self) or run(self, *rest)
    )
    arms = (Arm(TARGET_ONLY), ARMS[3], ARMS[5])
    asked = {**given, "config": QUICK, "seeds": (0,), "resamples": 2}

    utility_study(**asked, arms=arms, folder=tmp_path)
    plain, shuffled = (one.records for one in seen if len(one.records) == 14 + 16 * 14)
    assert_array_equal(plain.signals_mv, shuffled.signals_mv)
    assert_array_equal(plain.labels[:14], shuffled.labels[:14])
    assert_array_equal(plain.labels.sum(axis=0), shuffled.labels.sum(axis=0))
    assert (plain.labels[14:] != shuffled.labels[14:]).any(axis=1).mean() > 0.4


def test_the_default_arms_are_those_of_a_whole_study():
    arms = default_arms(("tgdp",))
    names = [arm.name for arm in arms]
    baselines = ["target only", "oversampled", "augmented", "source pooled", "pre-trained"]
    assert names[:6] == [*baselines, "source only"]
    assert set(names[6:26]) == {f"{one} + tgdp x{r:g}" for one in baselines for r in RATIOS}
    assert names[26:] == [
        "tgdp only",
        "target only, tested on tgdp",
        "target only + shuffled tgdp x1",
    ]
    for base in arms[:5]:
        more = next(arm for arm in arms if arm.name == f"{base.name} + tgdp x2")
        assert dataclasses.replace(more, name=base.name, synthetic=None, ratio=None) == base
    assert [arm.name for arm in arms if arm.baseline] == names[:6]


def test_nobody_trains_what_is_not_asked_for():
    few = default_arms(
        ("tgdp",),
        ratios=(1.0,),
        oversampled=False,
        augmented=False,
        source=False,
        synthetic_only=False,
        control=False,
    )
    assert [arm.name for arm in few] == ["target only", "target only + tgdp x1"]
    assert count_trainings(few, ClassifierConfig()) == 2 * 4 * 5
    half = default_arms(("tgdp",), ratios=(0.5,), every_baseline=False)
    assert [arm.name for arm in half][-4:] == [
        "target only + tgdp x0.5",
        "tgdp only",
        "target only, tested on tgdp",
        "target only + shuffled tgdp x0.5",
    ]
    whole = default_arms(("tgdp",))
    # Five baselines alone and at four ratios, synthetic only, control; four trainings of each.
    assert count_trainings(whole, ClassifierConfig(), (0,)) == (5 * 5 + 2) * 4 + 1


# Trainings and their folder


def test_arms_that_train_the_same_share_it(study):
    folder, _, _ = study
    assert len(list(folder.glob("*/weights.safetensors"))) == count_trainings(ARMS, TINY, SEEDS)
    assert count_trainings(ARMS, TINY, SEEDS) == 3 * (6 * 3 + 1)


def test_progress_counts_the_steps_of_all_trainings(study):
    _, _, reports = study
    done, total = zip(*reports, strict=True)
    assert set(total) == {3 * (6 * 3 + 1) * 40}
    assert done == tuple(sorted(done))
    assert done[-1] == total[0]


def test_a_finished_study_is_read_and_gives_the_same_result(study, given, monkeypatch):
    folder, result, _ = study
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr("ecgtransfer.evaluation.classifier.fit", None)
    assert utility_study(**given, arms=ARMS, folder=folder) == result
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == written


def test_an_interrupted_study_goes_on_to_the_same_result(given, tmp_path):
    pytest.importorskip("ecg_augmentations", reason="ecg-augmentations is not installed")
    arms = (Arm(TARGET_ONLY), Arm("augmented", augmented=True), *ARMS[1:2])
    config = dataclasses.replace(QUICK, steps=5)
    asked = {**given, "config": config, "seeds": (0, 1), "arms": arms, "sampling_rate_hz": 100}

    def stop(done, total):
        if done == 28:
            raise KeyboardInterrupt

    whole = utility_study(**asked, folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        utility_study(**asked, folder=tmp_path / "stopped", progress=stop)
    assert utility_study(**asked, folder=tmp_path / "stopped") == whole
    plain, augmented, _ = whole.arms
    assert plain.macro_auroc_by_seed != augmented.macro_auroc_by_seed


# Tables, the small study, and what is refused


def test_a_result_is_a_table_and_read_back_from_its_card(study):
    _, result, _ = study
    down = arm_table(result).texts()
    assert [row[0] for row in down] == ["arm", *(arm.name for arm in ARMS)]
    assert {len(row) for row in down} == {len(down[0])}
    assert down[4][1:4] == ("14", "0", "224")
    assert down[4][-1] == "helps"
    evaluation = UtilityEvaluation(("fresh", "noise"), result)
    again = through_a_card(evaluation)
    assert again == evaluation
    assert again.result.arm(TARGET_ONLY).macro_auroc == result.arms[0].macro_auroc
    assert again.result.differences[0].verdict == "helps"
    assert again.verdicts() == evaluation.verdicts()
    assert result.verdicts()[0] in str(result)


def test_a_small_study_compares_the_target_with_additions(given, tmp_path):
    target, test, sets = given["target"], given["test"], given["synthetic"]
    arms = (Arm(TARGET_ONLY), *(Arm(f"target + {name}", synthetic=name) for name in sets))
    result = utility_study(
        target, test, NAMES, QUICK, tmp_path, synthetic=sets, arms=arms, seeds=(0, 1)
    )
    assert [arm.name for arm in result.arms] == [arm.name for arm in arms]
    assert [arm.synthetic_records for arm in result.arms] == [0, 400, 400]
    assert result.best == (TARGET_ONLY,)
    assert result.verdicts()[0].startswith("target + fresh ")
    training = ClassifierTraining(target, NAMES, QUICK, added=sets["fresh"])
    assert (tmp_path / training.key / "weights.safetensors").exists()


def test_a_class_without_test_records_is_left_out_and_named(given, tmp_path):
    test = given["test"]
    without = test.select(np.flatnonzero(test.labels[:, 2] == 0))
    alone = {"arms": (Arm(TARGET_ONLY),), "seeds": (0,), "resamples": 20}
    result = utility_study(given["target"], without, NAMES, QUICK, tmp_path, **alone)
    assert result.left_out == ("TALL",)
    assert list(result.arms[0].per_class_auroc) == ["SLOW", "FAST"]
    assert result.differences == ()
    assert result.verdicts() == ()
    assert result.test_patients == len(without)
    with pytest.raises(ConfigError, match="expected an arm of target only, got 'more'"):
        result.arm("more")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "expected a name for each arm"),
        ({"balance": 2.0}, "balance in"),
        ({"source": "mixed"}, 'expected source "pooled"'),
        ({"synthetic": "s", "ratio": 0.0}, "positive ratio"),
        ({"ratio": 1.0}, "no synthetic set"),
        ({"shuffled": True}, "no synthetic set"),
        ({"target": False}, "no records to be trained on"),
        ({"synthetic": "s", "tested_on": "s"}, "trained and tested on synthetic"),
        ({"synthetic": "s", "source": "pooled"}, "pools the source with a synthetic set"),
    ],
)
def test_arms_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Arm(**{"name": "arm", **changes})


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ((Arm("a"), Arm("a")), "different names"),
        ((Arm("a", synthetic="fresh"),), "at least one arm without synthetic records"),
        ((Arm("a"), Arm("b", synthetic="gan")), "needs the synthetic set 'gan', got fresh, noise"),
        ((Arm("a"), Arm("b", tested_on="gan")), "needs the synthetic set 'gan'"),
        (
            (Arm("a"), Arm("b", balance=1.0, synthetic="fresh", ratio=1.0)),
            "no arm has the same recipe without them",
        ),
        ((Arm("a", source="pooled"),), "needs source records"),
        ((Arm("a", augmented=True),), "needs sampling_rate_hz"),
        (
            (Arm("a"), Arm("b", synthetic="fresh", ratio=99.0)),
            "lacks [0-9]+ of them; generate more",
        ),
    ],
)
def test_arms_without_their_records_are_refused(given, tmp_path, arms, message):
    with pytest.raises(ConfigError, match=message):
        utility_study(**{**given, "source": None}, arms=arms, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bad_studies_are_refused(given, tmp_path):
    target, test, alone = given["target"], given["test"], (Arm(TARGET_ONLY),)
    with pytest.raises(CorpusError, match="in both target and test"):
        utility_study(target, target, NAMES, TINY, tmp_path, arms=alone)
    with pytest.raises(CorpusError, match="in both test and source"):
        utility_study(**{**given, "source": test}, arms=ARMS, folder=tmp_path)
    with pytest.raises(CorpusError, match="one LabelSpace"):
        utility_study(target, test, NAMES[:2], TINY, tmp_path, arms=alone)
    twelve = LabelledRecords(np.zeros((2, 12, 128), np.float32), np.eye(2, 3))
    more = {"synthetic": {"more": twelve}, "arms": (*alone, Arm("b", synthetic="more"))}
    with pytest.raises(CorpusError, match="8 leads in every set"):
        utility_study(target, test, NAMES, TINY, tmp_path, **more)
    with pytest.raises(ConfigError, match="different seeds"):
        utility_study(target, test, NAMES, TINY, tmp_path, arms=alone, seeds=(1, 1))
    with pytest.raises(CorpusError, match="positive and negative test records"):
        utility_study(target, test.select(np.array([0])), NAMES, TINY, tmp_path, arms=alone)
    assert list(tmp_path.iterdir()) == []


def test_training_records_by_which_no_arm_can_be_chosen_are_refused(given, tmp_path):
    target = given["target"].select(np.flatnonzero(given["target"].labels[:, 0] == 1)[:4])
    same = LabelledRecords(target.signals_mv, np.eye(3, dtype=np.float32)[[0] * 4])
    arms = (Arm(TARGET_ONLY), Arm("oversampled", balance=1.0))
    asked = {**given, "target": same, "config": QUICK, "seeds": (0,), "resamples": 2}
    with pytest.raises(CorpusError, match="the best arm cannot be chosen"):
        utility_study(**asked, arms=arms, folder=tmp_path)
    alone = utility_study(**asked, arms=arms[:1], folder=tmp_path)
    assert alone.arms[0].training_score is None
    assert through_a_card(alone) == alone
