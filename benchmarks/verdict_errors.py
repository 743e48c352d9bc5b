"""How often each verdict of `ecgtransfer evaluate` is wrong, on simulated studies of known truth.

    python benchmarks/verdict_errors.py [--label after] [--quick]

For 10, 26, 100 and 500 test records a side, the share of studies whose verdict is "passed" (helps),
"failed" (harms) or "open":

- utility: six arms with synthetic records that add nothing, in a strong and in a weak recipe (any
  "helps" or "harms" is an error; nominal 2.5 % each, adjusted for the arms), records that help, and
  how often the 95 % interval of one macro AUROC holds the true one ("passed");
- physiology: nine classes whose generated records obey their rules as the real ones do ("failed" is
  an error, nominal 2.5 % for all classes together), or less often ("passed" is one, nominal 2.5 %
  from the margin on), and a rule that says nothing of its class;
- fidelity: other patients of the same simulated hospital, their ECGs played backwards, and with the
  chest leads of other patients, in features of random filters;
- privacy: generators that know neither side, diverse or of few prototypes ("failed" is an error,
  nominal 2.5 % a test), and one that copies training patients in part;
- blind: readers who guess (exact probabilities).

Writes the rates, with their 95 % Wilson intervals, under the label into
`benchmarks/verdict_errors.json`. "before" is the code of commit f0108a4, on which this script ran
with PYTHONPATH pointing to a checkout of it. About 9 minutes of one thread; `--quick` takes one.
The committed rates are of `--share 0.5` (after) and `--share 0.25` (before).
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy import stats
from scipy.spatial.distance import cdist

from ecgtransfer.evaluation import Arm, LabelledRecords, measure_physiology
from ecgtransfer.evaluation.delineation import Intervals
from ecgtransfer.evaluation.fidelity import measure_fidelity
from ecgtransfer.evaluation.fidelity import study as fidelity
from ecgtransfer.evaluation.privacy.closeness import infer_membership, measure_closeness
from ecgtransfer.signals import LEADS, independent_leads
from ecgtransfer.simulation import TARGET_HOSPITAL, draw_label_names, simulate

HERE = Path(__file__).resolve().parent
SIZES = (10, 26, 100, 500)

#: Verdicts by what they say of a set.
PASSED, FAILED, OPEN = "passed", "failed", "open"
WORD = {True: PASSED, False: FAILED, None: OPEN}

#: One simulated study of a size: generator of random numbers, size -> its verdict.
Study = Callable[[np.random.Generator, int], str]


def rates(study: Study, studies: Sequence[int], seed: int) -> dict[str, Any]:
    """Shares of each verdict with Wilson intervals, by size."""
    found: dict[str, Any] = {}
    for size, number in zip(SIZES, studies, strict=True):
        if not number:
            continue
        rng = np.random.default_rng([seed, size])
        counts = Counter(study(rng, size) for _ in range(number))
        found[str(size)] = {"studies": number}
        for verdict in (PASSED, FAILED, OPEN):
            ends = stats.binomtest(counts[verdict], number).proportion_ci(method="wilson")
            share = counts[verdict] / number
            found[str(size)][verdict] = [round(float(x), 3) for x in (share, ends.low, ends.high)]
    return found


# Utility

#: The nine classes' shares, about those of ICBEB.
CLASS_MIX = np.array([0.25, 0.15, 0.12, 0.1, 0.1, 0.08, 0.08, 0.07, 0.05])
NAMES = tuple(f"class {number}" for number in range(9))
SEEDS, RESAMPLES = 5, 400

STRONG, WEAK = Arm("target only"), Arm("oversampled", balance=1.0)
ADDED = tuple(
    Arm(f"{name} x{ratio}", balance=balance, synthetic="set", ratio=ratio)
    for name, balance in (("target only", None), ("oversampled", 1.0))
    for ratio in (1.0, 2.0, 4.0)
)


def utility_study(weak: float, gain: float = 0.0) -> Study:
    """Test AUROC 0.85 with the strong and `weak` with the other recipe, `gain` more by additions.

    Arms differ by scores of their own on every record, which no more records change, and trainings
    of one arm by little: where seeds hardly differ, patients are all that an interval can go by.
    """

    def study(rng: np.random.Generator, size: int) -> str:
        areas = {
            arm.name: (0.85 if arm.balance is None else weak) + (gain if arm.synthetic else 0.0)
            for arm in (STRONG, WEAK, *ADDED)
        }
        simulated = simulated_arms(rng, size, areas)
        if simulated is None:
            return OPEN
        module, table, outcomes, scores = simulated
        if hasattr(module, "compare_arms"):
            arms = (STRONG, WEAK, *ADDED)
            changes = module.compare_arms(arms, outcomes, scores, table).differences
        else:  # f0108a4 held every arm against the best one without synthetic records
            changes = module._differences(ADDED, scores, scores[STRONG.name], STRONG.name, SEEDS)
        verdicts = Counter(change.verdict for change in changes)
        helping, harming = verdicts["helps"], verdicts["harms"]
        return OPEN if (helping > 0) == (harming > 0) else PASSED if helping else FAILED

    return study


def coverage_study(rng: np.random.Generator, size: int) -> str:
    """Whether the interval of one arm's macro AUROC holds the true one, 0.85 ("passed")."""
    simulated = simulated_arms(rng, size, {STRONG.name: 0.85})
    if simulated is None:
        return OPEN
    module, table, _, scores = simulated
    found = scores[STRONG.name]
    told = found.estimate("macro_auroc", *([table] if hasattr(module, "compare_arms") else []))
    return PASSED if told.low <= 0.85 <= told.high else FAILED


def simulated_arms(rng: np.random.Generator, size: int, areas: dict[str, float]) -> Any:
    """Outcomes and scores of arms with these AUROC, by the code that a study uses after training.

    Only macro AUROC, which verdicts go by: the other scores are left at 0. None where no class has
    positive and negative records.
    """
    labels = np.zeros((size, 9), np.float32)
    labels[np.arange(size), rng.choice(9, size, p=CLASS_MIX)] = 1
    labels[rng.random(labels.shape) < 0.03] = 1
    if not (labels.any(0) & ~labels.all(0)).any():
        return None
    common = rng.normal(size=labels.shape)
    # The deviation of all parts together is 1.0008.
    predictions = {}
    for name, area in areas.items():
        own = rng.normal(size=labels.shape)
        predictions[name] = [
            2**0.5 * 1.0008 * stats.norm.ppf(area) * labels
            + 0.6 * common
            + 0.8 * (own + 0.05 * rng.normal(size=labels.shape))
            for _ in range(SEEDS)
        ]
    records = LabelledRecords(np.zeros((size, 8, 1), np.float32), labels)

    def nothing(truth: np.ndarray, _: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.zeros((len(weights), np.shape(truth)[1]))

    from ecgtransfer.evaluation.utility import scores as module

    outcome, table_kind = module.Outcome, module.ScoreTable
    training_scores = np.linspace(0.9, 0.8, len(areas))
    outcomes = {
        name: [[outcome(1 / (1 + np.exp(-scores)), labels, on_training)] for scores in found]
        for (name, found), on_training in zip(predictions.items(), training_scores, strict=True)
    }
    unused = ("average_precision", "f2", "g2", "calibration_error")
    with patch.multiple(module, **{f"weighted_{name}": nothing for name in unused}):
        table = table_kind.of([records], NAMES, SEEDS, RESAMPLES)
        scores = {name: table.scores(found) for name, found in outcomes.items()}
    return module, table, outcomes, scores


# Physiology

#: A record of each class that obeys its rule and no other.
FLAT = (0.0,) * 12
OBEYING = {
    "NORM": Intervals(
        pr_ms=160.0, qrs_ms=90.0, rr_irregularity=0.02, p_wave_share=1.0, st_level_mv=FLAT
    ),
    "AFIB": Intervals(rr_irregularity=0.3, p_wave_share=0.0),
    "1AVB": Intervals(pr_ms=230.0),
    "CLBBB": Intervals(qrs_ms=150.0, late_qrs_v1_mv=-0.3, late_qrs_i_mv=0.3, late_qrs_v6_mv=0.3),
    "CRBBB": Intervals(qrs_ms=140.0, late_qrs_v1_mv=0.3, late_qrs_i_mv=-0.3, late_qrs_v6_mv=-0.3),
    "PAC": Intervals(early_beats=1, wide_early_beats=0),
    "PVC": Intervals(early_beats=1, wide_early_beats=1),
    "STD_": Intervals(st_level_mv=tuple(-0.1 if lead in ("V5", "V6") else 0.0 for lead in LEADS)),
    "STE_": Intervals(st_level_mv=tuple(0.3 if lead in ("V2", "V3") else 0.0 for lead in LEADS)),
}
CLASSES = tuple(OBEYING)
BREAKING = Intervals()


def physiology_study(
    real: float, generated: float, worse: int = 9, generated_a_real: int = 1, others: float = 0.0
) -> Study:
    """`real` of the real and `generated` of the generated records of `worse` classes obey.

    In the other classes as many as of the real ones. `others`: share of the records that obey the
    rule of STE_ whatever their class.
    """

    def study(rng: np.random.Generator, size: int) -> str:
        sides = []
        for origin, number in ((0, size), (1, size * generated_a_real)):
            records, labels = [], []
            for column, name in enumerate(CLASSES):
                share = generated if origin and column < worse else real
                obeys = rng.random(number) < share
                records += [OBEYING[name] if ok else BREAKING for ok in obeys]
                labels.append(np.repeat([np.eye(9)[column]], number, axis=0))
            hot = np.concatenate(labels)
            if others:
                records = [
                    OBEYING["STE_"] if ok else BREAKING for ok in rng.random(len(hot)) < others
                ]
                hot = hot[:, [CLASSES.index("STE_")]]
            sides.append((records, hot))
        result = measure_physiology(
            *sides[0],
            *sides[1],
            ("STE_",) if others else CLASSES,
            resamples=400,
            repeats=2,
            seed=int(rng.integers(2**31)),
        )
        return WORD[result.passed]

    return study


# Fidelity

#: Random filters of 0.4 s at 100 Hz over eight leads, and simulated records to draw from.
FILTERS, FILTER_SAMPLES, POOL = 32, 40, 1600


class Hospital:
    """Records of a simulated hospital, altered ones, and features of random filters of them."""

    def __init__(self, records: int) -> None:
        names = draw_label_names(TARGET_HOSPITAL, records, 1)
        recordings, _ = simulate(names, TARGET_HOSPITAL, 1)
        real = independent_leads(np.stack([r.signal_mv for r in recordings])).astype(np.float32)
        other = np.roll(np.random.default_rng(2).permutation(records), 1)
        chest = real.copy()
        chest[:, 2:] = real[other, 2:]
        self.signals = {"real": real, "backwards": real[..., ::-1].copy(), "chest": chest}
        self.features = {name: self._embedded(signals) for name, signals in self.signals.items()}
        known = self.features["real"]
        centre, spread = known.mean(axis=0), known.std(axis=0)
        self.features = {name: (f - centre) / spread for name, f in self.features.items()}

    @staticmethod
    def _embedded(signals: np.ndarray) -> np.ndarray:
        """Mean and largest of the rectified filter outputs over time: (n, 2 * FILTERS)."""
        rng = np.random.default_rng(3)
        weights = rng.normal(size=(FILTERS, signals.shape[1], FILTER_SAMPLES))
        transformed = np.fft.rfft(weights, 1024, axis=2)
        found = []
        for record in signals:
            spectrum = np.fft.rfft(record, 1024, axis=1)
            output = np.fft.irfft((spectrum * transformed).sum(axis=1), 1024, axis=1)
            rectified = np.maximum(output[:, FILTER_SAMPLES:1000], 0)
            found.append(np.concatenate([rectified.mean(axis=1), rectified.max(axis=1)]))
        return np.log1p(np.array(found))


def fidelity_study(hospital: Hospital, kind: str) -> Study:
    """Twice `size` real records against as many of other patients, as they are or altered."""

    def study(rng: np.random.Generator, size: int) -> str:
        order = rng.permutation(len(hospital.signals["real"]))
        real, made = order[: 2 * size], order[2 * size : min(4 * size, len(order))]
        signals, features = hospital.signals, hospital.features
        options: dict[str, Any] = {}
        if hasattr(fidelity, "negative_controls"):
            options["controls"] = {
                name: (features[name][real], signals[name][real]) for name in ("backwards", "chest")
            }
        with patch.object(fidelity, "KINDS", ()):
            result = measure_fidelity(
                features["real"][real],
                features[kind][made],
                signals["real"][real],
                signals[kind][made],
                100,
                records=min(size, len(made)),
                repeats=15,
                seed=int(rng.integers(2**31)),
                **options,
            )
        return WORD[result.passed]

    return study


# Privacy

#: Generated records, and dimensions of the space in which they are compared.
GENERATED, DIMENSIONS = 320, 8


def privacy_study(prototypes: int | None, copied: float = 0.0) -> Study:
    """`size` hold-out and three times as many training patients; closeness and membership.

    Generated records scatter around `prototypes` points that belong to neither side, or are all
    independent if `prototypes` is None. The fraction `copied` scatters around training patients.
    """

    def study(rng: np.random.Generator, size: int) -> str:
        kinds = rng.normal(size=(prototypes or GENERATED, DIMENSIONS))
        made = kinds[np.arange(GENERATED) % len(kinds)]
        made = made + (0.05 if prototypes else 0.0) * rng.normal(size=made.shape)
        training, others = (rng.normal(size=(n, DIMENSIONS)) for n in (3 * size, size))
        copies = round(copied * GENERATED)
        near = training[rng.integers(3 * size, size=copies)]
        made[:copies] = near + 0.05 * rng.normal(size=near.shape)
        to_training, to_others = cdist(made, training), cdist(made, others)
        tests = (
            measure_closeness(to_training, to_others, resamples=400),
            infer_membership(to_training.min(0), to_others.min(0), resamples=400),
        )
        return WORD[all(test.passed for test in tests)]

    return study


# Blind


def blind_rates() -> dict[str, Any]:
    """Exact probabilities of what is said of a reader who guesses, by ECGs of each kind."""
    from ecgtransfer.evaluation.blind.result import NEAR_CHANCE
    from ecgtransfer.statistics import (
        proportion,
    )

    found = {}
    for size in (10, 20, 26, 50, 100):
        told = {"could tell": 0.0, "could not tell": 0.0}
        for right in range(2 * size + 1):
            interval = proportion(right, 2 * size)
            assert interval is not None
            chance = float(stats.binom.pmf(right, 2 * size, 0.5))
            if interval.low > 0.5 or interval.high < 0.5:
                told["could tell"] += chance
            elif interval.high <= 0.5 + NEAR_CHANCE:
                told["could not tell"] += chance
        found[str(size)] = {word: round(chance, 3) for word, chance in told.items()}
    return found


def main() -> None:
    """Run the studies and write their rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--label", default="after")
    parser.add_argument("--only", nargs="*", default=[], help="questions, all of them by default")
    parser.add_argument("--quick", action="store_true", help="a tenth of the studies")
    parser.add_argument("--share", type=float, default=1.0, help="of the studies; 1 by default")
    parser.add_argument("--out", type=Path, default=HERE / "verdict_errors.json")
    given = parser.parse_args()

    def studies(*numbers: int) -> list[int]:
        share = 0.1 if given.quick else given.share
        return [max(1, int(number * share)) if number else 0 for number in numbers]

    on_utility = studies(200, 200, 80, 30)
    on_physiology = studies(200, 200, 100, 40)
    on_privacy = studies(200, 200, 100, 40)
    on_fidelity = studies(40, 40, 15, 0 if given.quick else 4)
    questions: dict[str, dict[str, tuple[Callable[[], Study], list[int]]]] = {
        "utility": {
            "useless, recipes of AUROC 0.85 and 0.85": (lambda: utility_study(0.85), on_utility),
            "useless, recipes of AUROC 0.85 and 0.75": (
                lambda: utility_study(0.75),
                studies(200, 1000, 80, 30),
            ),
            "useful by 0.05, recipes of 0.85 and 0.85": (
                lambda: utility_study(0.85, 0.05),
                on_utility,
            ),
            "interval of one macro AUROC holds the truth": (
                lambda: coverage_study,
                studies(400, 400, 200, 60),
            ),
        },
        "physiology": {
            "equal, 85 % obey": (lambda: physiology_study(0.85, 0.85), on_physiology),
            "equal, 85 % obey, four generated a real": (
                lambda: physiology_study(0.85, 0.85, generated_a_real=4),
                studies(200, 100, 30, 0),
            ),
            "85 % against 55 % in one class": (
                lambda: physiology_study(0.85, 0.55, worse=1),
                on_physiology,
            ),
            "85 % against 75 % in one class, the margin": (
                lambda: physiology_study(0.85, 0.75, worse=1),
                on_physiology,
            ),
            "80 % against 60 % in all nine": (lambda: physiology_study(0.80, 0.60), on_physiology),
            "a rule that 25 % of all records obey": (
                lambda: physiology_study(0.85, 0.85, others=0.25),
                on_physiology,
            ),
        },
        "fidelity": {},
        "privacy": {
            **{
                f"{name}, neither side known": (
                    lambda prototypes=prototypes: privacy_study(prototypes),
                    on_privacy,
                )
                for name, prototypes in (
                    ("3 prototypes", 3),
                    ("10 prototypes", 10),
                    ("40 prototypes", 40),
                    ("320 records", None),
                )
            },
            "320 records, half are training patients": (
                lambda: privacy_study(None, 0.5),
                on_privacy,
            ),
        },
    }
    asked = given.only or [*questions, "blind"]
    if "fidelity" in asked:
        hospital = Hospital(POOL // 4 if given.quick else POOL)
        for told, kind in (
            ("other patients", "real"),
            ("other patients, played backwards", "backwards"),
            ("other patients, chest leads of another", "chest"),
        ):
            questions["fidelity"][told] = (
                lambda kind=kind: fidelity_study(hospital, kind),
                on_fidelity,
            )
    held = json.loads(given.out.read_text()) if given.out.exists() else {}
    results = held.setdefault(given.label, {})
    for question in asked:
        if question == "blind":
            results["blind, a reader who guesses"] = blind_rates()
        for number, (told, (make, numbers)) in enumerate(questions.get(question, {}).items()):
            start = time.process_time()
            results.setdefault(question, {})[told] = found = rates(make(), numbers, number)
            print(f"{question}, {told} ({time.process_time() - start:.0f} s)", flush=True)
            for size, counts in found.items():
                print(
                    f"  {size:>4}: " + ", ".join(f"{k} {v}" for k, v in counts.items()), flush=True
                )
        given.out.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
