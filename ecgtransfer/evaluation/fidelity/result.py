"""Result of the fidelity evaluation: comparisons, rules, and verdicts on them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ecgtransfer.evaluation.answer import single_verdicts, whole_verdicts
from ecgtransfer.evaluation.fidelity.feature_map import FeatureMap
from ecgtransfer.evaluation.halves import Comparison
from ecgtransfer.statistics import (
    Verdict,
)

#: Largest Frechet distance, as a multiple of real against real; 1 is as close as another sample of
#: the same patients.
FRECHET_LIMIT = 2.0

#: Smallest precision, recall and coverage, as a share of real against real; below one half, most of
#: one set is missing in the other.
NEIGHBOUR_SHARE = 0.5

#: Smallest effective number of different records, as a share of real against real: a quarter of
#: the diversity may be missing.
DIVERSITY_SHARE = 0.75

#: Largest log spectral distance in dB; 3 dB are a factor of two in power.
SPECTRAL_LIMIT_DB = 3.0

#: Largest difference of mean lead correlations, which range from −1 to 1.
CORRELATION_LIMIT = 0.1

#: The last two limits are at least this multiple of real against real, which is large for few
#: records.
REFERENCE_FACTOR = 2.0


class Rule(NamedTuple):
    """Result of a rule of fidelity.

    Attributes:
        measure: name of the measure.
        kept: True if the whole interval is within the limit, False if it is beyond, else None.
        sentence: result in words.
        required: False for a measure that is reported without a limit.
        beyond: whether the value itself is beyond the limit.
    """

    measure: str
    kept: bool | None
    sentence: str
    required: bool = True
    beyond: bool = False


@dataclass(frozen=True)
class FidelityMeasures:
    """All measures of a generated set, each compared with real against real.

    Attributes:
        frechet: `frechet_distance`.
        prdc: precision, recall, density and coverage; see `prdc`.
        band_power: signed errors of `band_power_error` by band. The reference is around 0, and its
            spread shows which errors are noise.
        real_records: number of real records.
        generated_records: number of generated records.
        mmd: squared maximum mean discrepancy; see `mmd`.
        diversity: `vendi_score` of the generated records divided by that of the real half, with the
            kernel of `mmd`; below 1 for less diversity.
        mixing: `neighbour_mixing`.
        lead_correlation: `lead_correlation_difference`.
        spectral_distance: `log_spectral_distance` in dB by lead, "all leads" first.
        frechet_limit: `frechet_limit`, the Frechet distance extrapolated to infinitely many
            records. Unlike `frechet` it can be compared with values for other numbers of records.
            None for fewer than two records per side and feature.
        two_sample: AUC of `two_sample_test` by kind of classifier, which is fitted in every repeat.
            A value far below 1/2 reveals copies of real records: the classifier was trained on the
            original with one answer and is tested on its copy with the other.
        source_records: number of source records.
        not_measured: reason for each missing measure or class, by name.
    """

    frechet: Comparison
    prdc: dict[str, Comparison]
    band_power: dict[str, Comparison]
    real_records: int
    generated_records: int
    mmd: Comparison
    diversity: Comparison
    mixing: Comparison
    lead_correlation: Comparison
    spectral_distance: dict[str, Comparison]
    frechet_limit: Comparison | None = None
    two_sample: dict[str, Comparison] = field(default_factory=dict)
    source_records: int = 0
    not_measured: dict[str, str] = field(default_factory=dict)

    def ruled(self) -> dict[str, Comparison]:
        """Return the measures of the whole set that have a rule, by the names of the rules."""
        return {
            "Frechet distance": self.frechet,
            **{name: self.prdc[name] for name in ("precision", "recall", "coverage")},
            "diversity": self.diversity,
            "log spectral distance": self.spectral_distance["all leads"],
            "lead correlation": self.lead_correlation,
        }

    def rules_of_set(self) -> tuple[Rule, ...]:
        """Apply the rules for the whole set; see `FidelityResult.rules`."""
        spectrum = self.spectral_distance["all leads"]
        return (
            _at_most("Frechet distance", self.frechet, 0.0, FRECHET_LIMIT),
            *(
                _at_least(name, self.prdc[name], NEIGHBOUR_SHARE)
                for name in ("precision", "recall", "coverage")
            ),
            _at_least("diversity", self.diversity, DIVERSITY_SHARE),
            _at_most("log spectral distance", spectrum, SPECTRAL_LIMIT_DB, REFERENCE_FACTOR, " dB"),
            _at_most(
                "lead correlation", self.lead_correlation, CORRELATION_LIMIT, REFERENCE_FACTOR
            ),
        )

    def measures(self) -> dict[str, Comparison]:
        """Return all comparisons by name, in the order of the table."""
        limit = {} if self.frechet_limit is None else {"Frechet, n = ∞": self.frechet_limit}
        return {
            "Frechet distance": self.frechet,
            **self.prdc,
            **limit,
            MMD: self.mmd,
            "diversity": self.diversity,
            "neighbour mixing": self.mixing,
            **{f"two-sample AUC, {kind}": test for kind, test in self.two_sample.items()},
            "lead correlation difference": self.lead_correlation,
            **{f"spectrum in dB, {lead}": d for lead, d in self.spectral_distance.items()},
            **{f"log10 power error, {band}": error for band, error in self.band_power.items()},
        }


@dataclass(frozen=True)
class FidelityResult(FidelityMeasures):
    """Fidelity of a generated set.

    Attributes:
        per_class: measures of the records of each class, by label, without the boosted two-sample
            test, which needs more records.
        controls: negative controls, by name: measures of one half of the real records against the
            other half, altered in a way that a sound evaluation must detect.
    """

    per_class: dict[str, FidelityMeasures] = field(default_factory=dict)
    controls: dict[str, FidelityMeasures] = field(default_factory=dict)

    @property
    def passed(self) -> bool | None:
        """False if one of `rules` is broken, True if all are kept, else None.

        None also if a negative control is `unseen`: then there are too few records for a verdict.
        """
        kept = [rule.kept for rule in self.rules() if rule.required]
        if False in kept:
            return False
        return None if None in kept or self.unseen else True

    @property
    def unseen(self) -> tuple[str, ...]:
        """Negative controls that are not detected: their values are within all limits."""
        return tuple(
            name
            for name, control in self.controls.items()
            if not any(rule.beyond for rule in control.rules_of_set())
        )

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return the verdict on the set, then those on each rule and on each negative control."""
        rules = self.rules()
        required = [rule for rule in rules if rule.required]
        broken = [rule.measure for rule in required if rule.kept is False]
        undecided = [rule.measure for rule in required if rule.kept is None]
        records = f"{self.frechet.records} records per side"
        if broken:
            whole = f"Fidelity fails {len(broken)} of {len(required)} rules: {', '.join(broken)}."
        elif self.unseen or undecided:
            reasons = []
            if undecided:
                reasons.append(f"{', '.join(undecided)} undecided")
            if self.unseen:
                controls = " and ".join(self.unseen)
                reasons.append(f"{controls} would pass as records of the target with {records}")
            whole = f"Fidelity is open: {'; '.join(reasons)}; test on more records."
        else:
            whole = f"Fidelity passes: all {len(required)} rules are kept with {records}"
            controls = " and ".join(self.controls)
            whole += f", and negative controls ({controls}) are detected." if controls else "."
        return (
            Verdict(self.passed, whole),
            *(Verdict(rule.kept, rule.sentence) for rule in rules),
            *(
                Verdict(name not in self.unseen or None, self._on_control(name))
                for name in self.controls
            ),
        )

    def __str__(self) -> str:
        return "\n".join(verdict.sentence for verdict in self.verdicts())

    def _on_control(self, name: str) -> str:
        """Return a sentence on the rules that detect a negative control."""
        beyond = [rule.measure for rule in self.controls[name].rules_of_set() if rule.beyond]
        records = f"{self.controls[name].frechet.records} records per side"
        if not beyond:
            return (
                f"Negative control, {name}: not detected with {records}; it is within the limits "
                "of all rules."
            )
        return f"Negative control, {name}: detected with {records} by {', '.join(beyond)}."

    def rules(self) -> tuple[Rule, ...]:
        """Apply all rules; measures without a limit follow at the end.

        Rules compare scores with `FRECHET_LIMIT`, `NEIGHBOUR_SHARE`, `DIVERSITY_SHARE`,
        `SPECTRAL_LIMIT_DB` and `CORRELATION_LIMIT`. They require a set that can replace real
        records, not one that is indistinguishable from them; so the AUC of the two-sample test has
        no limit. A rule for the classes is broken if the whole interval of a class is beyond the
        limit, and undecided if only a value is.
        """
        rules = [*self.rules_of_set()]
        if self.per_class:
            rules += [
                _of_classes(
                    "Frechet distance of classes",
                    {name: result.frechet for name, result in self.per_class.items()},
                    lambda value, own: value > FRECHET_LIMIT * own.reference.value,
                    lambda own: own.score.low,
                    f"above {FRECHET_LIMIT:g} times target against target",
                ),
                _of_classes(
                    "diversity of classes",
                    {name: result.diversity for name, result in self.per_class.items()},
                    lambda value, own: value < DIVERSITY_SHARE * own.reference.value,
                    lambda own: own.score.high,
                    f"below {DIVERSITY_SHARE:g} of target against target",
                ),
            ]
        reported = [
            Rule(
                f"two-sample AUC, {kind}",
                None,
                f"A {kind} classifier distinguishes generated from target records with an AUC of "
                f"{test.score}, and two halves of the target's records with {test.reference}; 0.5 "
                "is chance, and there is no limit.",
                required=False,
            )
            for kind, test in self.two_sample.items()
        ]
        return *rules, *reported


#: Prefix of a class in `FidelityResult.not_measured`.
CLASS = "class "

#: Name of the maximum mean discrepancy in a table; its typical values are thousandths.
MMD = "MMD² × 1000"


def _at_most(name: str, measure: Comparison, floor: float, factor: float, unit: str = "") -> Rule:
    limit = max(floor, factor * measure.reference.value)
    score = measure.score
    kept = True if score.high <= limit else False if score.low > limit else None
    sentence = f"{_outcome(name, measure, kept, unit)}; it must be at most {limit:.3f}{unit}."
    return Rule(name, kept, sentence, beyond=score.value > limit)


def _at_least(name: str, measure: Comparison, share: float) -> Rule:
    limit = share * measure.reference.value
    score = measure.score
    kept = True if score.low >= limit else False if score.high < limit else None
    sentence = f"{_outcome(name, measure, kept, '')}; it must be at least {limit:.3f}."
    return Rule(name, kept, sentence, beyond=score.value < limit)


def _of_classes(
    name: str,
    measures: Mapping[str, Comparison],
    is_beyond: Callable[[float, Comparison], bool],
    better_end: Callable[[Comparison], float],
    where: str,
) -> Rule:
    """Apply a rule to all classes.

    Args:
        name: name of the rule.
        measures: the measure of each class.
        is_beyond: whether a value of a class is beyond the limit.
        better_end: end of the interval that is on the good side of the value.
        where: "beyond the limit" in words, for the sentence.
    """
    broken = [
        label for label, measure in measures.items() if is_beyond(better_end(measure), measure)
    ]
    beyond = [
        label for label, measure in measures.items() if is_beyond(measure.score.value, measure)
    ]
    named = name[0].upper() + name[1:]
    kept = False if broken else None if beyond else True
    if kept:
        outcome = f"keeps the rule: none of {len(measures)} values is {where}."
    else:
        outcome = (
            f"breaks the rule: the whole interval is {where} in "
            if broken
            else f"is undecided: the value, but not the whole interval, is {where} in "
        )
        outcome += ", ".join(
            f"{label} ({measures[label].score}, target against target {measures[label].reference})"
            for label in broken or beyond
        )
        outcome += "."
    return Rule(name, kept, f"{named} {outcome}", beyond=bool(beyond))


def _outcome(name: str, measure: Comparison, kept: bool | None, unit: str) -> str:
    named = name[0].upper() + name[1:]
    found = {True: "keeps the rule", False: "breaks the rule", None: "is undecided"}[kept]
    return (
        f"{named} {found}: {measure.score}{unit}, target against target {measure.reference}{unit}"
    )


@dataclass(frozen=True)
class FidelityEvaluation:
    """Fidelity of the synthetic sets of a run.

    Attributes:
        methods: result by transfer method.
        feature_map: map of all sets together; None if a set has too few records.
    """

    methods: dict[str, FidelityResult]
    feature_map: FeatureMap | None

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return one verdict per method."""
        return whole_verdicts(self.methods)

    def tests(self) -> tuple[Verdict, ...]:
        """Return the verdicts of the single tests behind them."""
        return single_verdicts(self.methods)
