"""Result of the fidelity question: comparisons, rules, and verdicts on them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ecgtransfer.evaluation.answer import single_verdicts, whole_verdicts
from ecgtransfer.evaluation.fidelity.feature_map import FeatureMap
from ecgtransfer.evaluation.halves import Comparison
from ecgtransfer.statistics import (
    Verdict,
)

#: Frechet distance at most this multiple of real against real. 1 is as close as another sample of
#: the same patients comes; twice that is as much again.
FRECHET_LIMIT = 2.0

#: Precision, recall and coverage at least this share of real against real: below one half, most of
#: what one side has is missing on the other.
NEIGHBOUR_SHARE = 0.5

#: Effective number of different records at least this share of real against real: a quarter of the
#: variety is as much as may be missing.
DIVERSITY_SHARE = 0.75

#: Log spectral distance at most this many dB, a factor of two in power ...
SPECTRAL_LIMIT_DB = 3.0

#: ... difference of mean lead correlations at most this, of a scale from −1 to 1 ...
CORRELATION_LIMIT = 0.1

#: ... or, for both, this multiple of real against real where few records make that large.
REFERENCE_FACTOR = 2.0


class Rule(NamedTuple):
    """A rule of fidelity: which measure, whether it is kept, and a sentence with the numbers.

    kept: True where the whole interval is within the limit, False where the whole interval is
        beyond it, else None. asked: False for what is reported without a rule. beyond: whether the
        value itself is beyond the limit.
    """

    measure: str
    kept: bool | None
    sentence: str
    asked: bool = True
    beyond: bool = False


@dataclass(frozen=True)
class FidelityMeasures:
    """Every measure of a generated set, each number beside what real records score.

    Attributes:
        frechet, prdc, mmd: distances of features; see the functions of those names.
        band_power: the errors of `band_power_error`, signed, by band; its reference lies around 0
            and tells by its spread which errors are noise.
        frechet_limit: `frechet_limit`, the Frechet distance extrapolated to infinitely many
            records: unlike `frechet` it can be set beside a value from other numbers of records.
            None for fewer than two records a side for each feature.
        diversity: `vendi_score` of the generated over that of the real half, with the kernel of
            `mmd`; 0 to 1 for less variety, real against real 1.
        mixing: `neighbour_mixing`.
        two_sample: AUC of `two_sample_test` by kind of classifier, refitted in every repeat. Far
            below 1/2 it betrays copies of real records: the twin of a record that is asked about
            was learned with the other answer.
        lead_correlation: `lead_correlation_difference`.
        spectral_distance: `log_spectral_distance` in dB by lead, "all leads" first.
        real_records, generated_records, source_records: that took part.
        not_measured: for measures and classes that are missing, by name, the reason.
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
        """The measures of the whole set that have a rule, by the names of the rules."""
        return {
            "Frechet distance": self.frechet,
            **{name: self.prdc[name] for name in ("precision", "recall", "coverage")},
            "diversity": self.diversity,
            "log spectral distance": self.spectral_distance["all leads"],
            "lead correlation": self.lead_correlation,
        }

    def rules_of_set(self) -> tuple[Rule, ...]:
        """The rules of the set as a whole, see `FidelityResult.rules`."""
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
        """Every comparison by the name it has in a table, in its order."""
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
        per_class: the measures of the records of one class, by name, but without the boosted test,
            which needs more of them.
        controls: negative controls by name: the measures of one half of the real records against
            the other half altered in a way that a sound test must see.
    """

    per_class: dict[str, FidelityMeasures] = field(default_factory=dict)
    controls: dict[str, FidelityMeasures] = field(default_factory=dict)

    @property
    def passed(self) -> bool | None:
        """False where one of `rules` is broken, True where all are kept, else None.

        None too where a negative control is `unseen`: what so few records let pass proves nothing.
        """
        kept = [rule.kept for rule in self.rules() if rule.asked]
        if False in kept:
            return False
        return None if None in kept or self.unseen else True

    @property
    def unseen(self) -> tuple[str, ...]:
        """The negative controls whose values are within the limit of every rule."""
        return tuple(
            name
            for name, control in self.controls.items()
            if not any(rule.beyond for rule in control.rules_of_set())
        )

    def verdicts(self) -> tuple[Verdict, ...]:
        """The whole first, then each of `rules`, then the negative controls."""
        rules = self.rules()
        asked = [rule for rule in rules if rule.asked]
        broken = [rule.measure for rule in asked if rule.kept is False]
        undecided = [rule.measure for rule in asked if rule.kept is None]
        records = f"at {self.frechet.records} records a side"
        if broken:
            whole = f"Fidelity fails {len(broken)} of {len(asked)} rules: {', '.join(broken)}."
        elif self.unseen or undecided:
            reasons = []
            if undecided:
                reasons.append(f"{', '.join(undecided)} undecided")
            if self.unseen:
                reasons.append(f"{' and '.join(self.unseen)} would be taken for real {records}")
            whole = f"Fidelity is open: {'; '.join(reasons)}; test on more records."
        else:
            whole = f"Fidelity passes: all {len(asked)} rules are kept {records}"
            whole += f", which {' and '.join(self.controls)} are not." if self.controls else "."
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
        """Which rules show that a negative control is not real."""
        beyond = [rule.measure for rule in self.controls[name].rules_of_set() if rule.beyond]
        records = f"at {self.controls[name].frechet.records} records a side"
        if not beyond:
            return f"Negative control, {name}: within the limits of all rules {records}."
        return f"Negative control, {name}: seen {records} by {', '.join(beyond)}."

    def rules(self) -> tuple[Rule, ...]:
        """Every rule with its numbers, then what has none.

        Rules compare scores to the constants `FRECHET_LIMIT`, `NEIGHBOUR_SHARE`,
        `DIVERSITY_SHARE`, `SPECTRAL_LIMIT_DB` and `CORRELATION_LIMIT` of this module. They ask for
        a set that could stand in for real records, not for one that nobody can tell apart: the AUC
        of the two-sample test is reported without a rule. A rule of the classes is broken where
        the interval of one of them lies wholly beyond the limit, and undecided where a value does.
        """
        rules = [*self.rules_of_set()]
        if self.per_class:
            rules += [
                _of_classes(
                    "Frechet distance of classes",
                    {name: result.frechet for name, result in self.per_class.items()},
                    lambda value, own: value > FRECHET_LIMIT * own.reference.value,
                    lambda own: own.score.low,
                    f"above {FRECHET_LIMIT:g} times real against real",
                ),
                _of_classes(
                    "diversity of classes",
                    {name: result.diversity for name, result in self.per_class.items()},
                    lambda value, own: value < DIVERSITY_SHARE * own.reference.value,
                    lambda own: own.score.high,
                    f"below {DIVERSITY_SHARE:g} of real against real",
                ),
            ]
        reported = [
            Rule(
                f"two-sample AUC, {kind}",
                None,
                f"A {kind} classifier tells generated from real records with an AUC of "
                f"{test.score}, real from real with {test.reference}; 0.5 is chance, and no rule "
                "is set.",
                asked=False,
            )
            for kind, test in self.two_sample.items()
        ]
        return *rules, *reported


#: What the name of a class in `FidelityResult.not_measured` begins with.
CLASS = "class "

#: The row of the mean discrepancy, whose interesting values are thousandths.
MMD = "MMD² × 1000"


def _at_most(name: str, measure: Comparison, floor: float, factor: float, unit: str = "") -> Rule:
    limit = max(floor, factor * measure.reference.value)
    score = measure.score
    kept = True if score.high <= limit else False if score.low > limit else None
    told = f"{_told(name, measure, kept, unit)}; at most {limit:.3f}{unit} is asked."
    return Rule(name, kept, told, beyond=score.value > limit)


def _at_least(name: str, measure: Comparison, share: float) -> Rule:
    limit = share * measure.reference.value
    score = measure.score
    kept = True if score.low >= limit else False if score.high < limit else None
    told = f"{_told(name, measure, kept, '')}; at least {limit:.3f} is asked."
    return Rule(name, kept, told, beyond=score.value < limit)


def _of_classes(
    name: str,
    measures: Mapping[str, Comparison],
    is_beyond: Callable[[float, Comparison], bool],
    better_end: Callable[[Comparison], float],
    where: str,
) -> Rule:
    """`better_end`: the end of an interval that is farther from the limit on its good side."""
    broken = [
        label for label, measure in measures.items() if is_beyond(better_end(measure), measure)
    ]
    beyond = [
        label for label, measure in measures.items() if is_beyond(measure.score.value, measure)
    ]
    named = name[0].upper() + name[1:]
    kept = False if broken else None if beyond else True
    if kept:
        told = f"keeps the rule: none of {len(measures)} values is {where}."
    else:
        told = (
            f"breaks the rule: the whole interval is {where} in "
            if broken
            else f"is undecided: the value, but not the whole interval, is {where} in "
        )
        told += ", ".join(
            f"{label} ({measures[label].score}, real against real {measures[label].reference})"
            for label in broken or beyond
        )
        told += "."
    return Rule(name, kept, f"{named} {told}", beyond=bool(beyond))


def _told(name: str, measure: Comparison, kept: bool | None, unit: str) -> str:
    named = name[0].upper() + name[1:]
    found = {True: "keeps the rule", False: "breaks the rule", None: "is undecided"}[kept]
    return f"{named} {found}: {measure.score}{unit}, real against real {measure.reference}{unit}"


@dataclass(frozen=True)
class FidelityEvaluation:
    """Fidelity of the synthetic sets of a run, by the method that made them.

    feature_map: of all sets together; None where there are too few records for one.
    """

    methods: dict[str, FidelityResult]
    feature_map: FeatureMap | None

    def verdicts(self) -> tuple[Verdict, ...]:
        """One a method."""
        return whole_verdicts(self.methods)

    def tests(self) -> tuple[Verdict, ...]:
        """What the verdicts rest on."""
        return single_verdicts(self.methods)
