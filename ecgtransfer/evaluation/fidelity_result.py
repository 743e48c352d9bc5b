"""What a measure of fidelity came to: comparisons, rules, tables, verdicts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ecgtransfer.evaluation.metrics import Estimate
from ecgtransfer.evaluation.verdict import Verdict

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

#: What an interval is: of confidence, or the spread over the repeats alone.
Interval = Literal["confidence", "spread"]


@dataclass(frozen=True)
class Comparison:
    """One measure, generated against real, beside real against real, at equal record counts.

    Attributes:
        score: mean over the repeated halves. Its interval is of 95 % confidence for the expected
            value at `records` a side where `interval` is "confidence"; where less than two
            times `records` were generated it is the central 95 % of the repeats, "spread", which
            leaves out what another generated set would change.
        reference: the same of two patient-disjoint real halves: mean, and the central 95 % of the
            repeats, which says what chance alone does.
        excess: score − mean reference, with the interval of the score.
        records: of each side. repeats: drawn.
        source: the same as score for real records of the source, or None where none or fewer than
            `records` were given; `source_interval` is the kind of its interval.
    """

    score: Estimate
    reference: Estimate
    excess: Estimate
    records: int
    repeats: int
    interval: Interval = "confidence"
    source: Estimate | None = None
    source_interval: Interval | None = None

    def __str__(self) -> str:
        return f"{self.score} (real against real {self.reference}, {self.records} records each)"

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {
            "score": self.score.to_dict(),
            "real_versus_real": self.reference.to_dict(),
            "excess": self.excess.to_dict(),
            "source_versus_target": None if self.source is None else self.source.to_dict(),
            "interval": self.interval,
            "source_interval": self.source_interval,
            "records": self.records,
            "repeats": self.repeats,
        }


class Rule(NamedTuple):
    """A rule of fidelity: which measure, whether it is kept, and a sentence with the numbers.

    `kept` is None for what is reported without a rule.
    """

    measure: str
    kept: bool | None
    sentence: str


@dataclass(frozen=True)
class FidelityResult:
    """Fidelity of a generated set, each number beside what real records score.

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
        per_class: the same for the records of one class, by name, but without the
            boosted test, which needs more of them.
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
    per_class: dict[str, "FidelityResult"] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every one of `rules` is kept."""
        return all(rule.kept for rule in self.rules() if rule.kept is not None)

    def verdicts(self) -> tuple[Verdict, ...]:
        """The whole first, then each of `rules`."""
        rules = self.rules()
        broken = [rule.measure for rule in rules if rule.kept is False]
        asked = sum(rule.kept is not None for rule in rules)
        whole = f"Fidelity passes: all {asked} rules are kept."
        if broken:
            whole = f"Fidelity fails {len(broken)} of {asked} rules: {', '.join(broken)}."
        return Verdict(not broken, whole), *(Verdict(rule.kept, rule.sentence) for rule in rules)

    def rules(self) -> tuple[Rule, ...]:
        """Every rule with its numbers, then what has none.

        Rules compare scores to the constants `FRECHET_LIMIT`, `NEIGHBOUR_SHARE`,
        `DIVERSITY_SHARE`, `SPECTRAL_LIMIT_DB` and `CORRELATION_LIMIT` of this module. They ask for
        a set that could stand in for real records, not for one that nobody can tell apart: the AUC
        of the two-sample test is reported without a rule. Classes break a rule by an interval that
        lies wholly on the wrong side, for of many small classes some are poor by chance.
        """
        rules = [_at_most("Frechet distance", self.frechet, 0.0, FRECHET_LIMIT)]
        rules += [
            _at_least(name, self.prdc[name], NEIGHBOUR_SHARE)
            for name in ("precision", "recall", "coverage")
        ]
        spectrum = self.spectral_distance["all leads"]
        rules += [
            _at_least("diversity", self.diversity, DIVERSITY_SHARE),
            _at_most("log spectral distance", spectrum, SPECTRAL_LIMIT_DB, REFERENCE_FACTOR, " dB"),
            _at_most(
                "lead correlation", self.lead_correlation, CORRELATION_LIMIT, REFERENCE_FACTOR
            ),
        ]
        if self.per_class:
            rules += [
                _of_classes(
                    "Frechet distance of classes",
                    {name: result.frechet for name, result in self.per_class.items()},
                    lambda own: own.score.low > FRECHET_LIMIT * own.reference.value,
                    f"above {FRECHET_LIMIT:g} times real against real",
                ),
                _of_classes(
                    "diversity of classes",
                    {name: result.diversity for name, result in self.per_class.items()},
                    lambda own: own.score.high < DIVERSITY_SHARE * own.reference.value,
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
            )
            for kind, test in self.two_sample.items()
        ]
        return *rules, *reported

    def measures(self) -> dict[str, Comparison]:
        """Every comparison by the name it has in a table, in its order."""
        limit = {} if self.frechet_limit is None else {"Frechet, n = ∞": self.frechet_limit}
        return {
            "Frechet distance": self.frechet,
            **self.prdc,
            **limit,
            _MMD: self.mmd,
            "diversity": self.diversity,
            "neighbour mixing": self.mixing,
            **{f"two-sample AUC, {kind}": test for kind, test in self.two_sample.items()},
            "lead correlation difference": self.lead_correlation,
            **{f"spectrum in dB, {lead}": d for lead, d in self.spectral_distance.items()},
            **{f"log10 power error, {band}": error for band, error in self.band_power.items()},
        }

    def rows(self) -> list[tuple[str, ...]]:
        """(measure, generated, real against real) for a table, header first.

        A fourth column, source against target, where source records were given. An interval that
        is not of confidence is followed by "(spread)"; that of real against real never is one.
        """
        compared = self.measures()
        with_source = any(measure.source is not None for measure in compared.values())
        rows: list[tuple[str, ...]] = [
            ("measure", "generated", "real against real", "source against target")
        ]
        for name, measure in compared.items():
            written = _signed if name.startswith("log10") else _thousandths if name == _MMD else str
            score = written(measure.score) + _marked(measure.interval)
            source = ""
            if measure.source is not None:
                source = written(measure.source) + _marked(measure.source_interval)
            rows.append((name, score, written(measure.reference), source))
        return rows if with_source else [row[:3] for row in rows]

    def per_class_rows(self) -> list[tuple[str, ...]]:
        """Classes down, header first: records a side, then generated (real against real).

        `not_measured` says how many a class that has too few would need.
        """
        shown = ("Frechet distance", "precision", "recall", "coverage", "diversity")
        rows: list[tuple[str, ...]] = [("class", "records a side", *shown)]
        for name, result in self.per_class.items():
            compared = result.measures()
            cells = [
                f"{compared[key].score} ({compared[key].reference.value:.3f})" for key in shown
            ]
            rows.append((name, str(result.frechet.records), *cells))
        for name in self.not_measured:
            if name.startswith(CLASS):
                rows.append((name.removeprefix(CLASS), "too few", *[""] * len(shown)))
        return rows

    def __str__(self) -> str:
        return "\n".join("  ".join(row) for row in self.rows())

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {
            "frechet_distance": self.frechet.to_dict(),
            **{name: comparison.to_dict() for name, comparison in self.prdc.items()},
            "frechet_distance_limit": (
                None if self.frechet_limit is None else self.frechet_limit.to_dict()
            ),
            "mmd_squared": self.mmd.to_dict(),
            "diversity": self.diversity.to_dict(),
            "neighbour_mixing": self.mixing.to_dict(),
            "two_sample_auc": {k: test.to_dict() for k, test in self.two_sample.items()},
            "lead_correlation_difference": self.lead_correlation.to_dict(),
            "log_spectral_distance_db": {
                k: distance.to_dict() for k, distance in self.spectral_distance.items()
            },
            "log10_power_error": {k: error.to_dict() for k, error in self.band_power.items()},
            "real_records": self.real_records,
            "generated_records": self.generated_records,
            "source_records": self.source_records,
            "passed": self.passed,
            "per_class": {name: result.to_dict() for name, result in self.per_class.items()},
            "not_measured": dict(self.not_measured),
        }


#: What the name of a class in `FidelityResult.not_measured` begins with.
CLASS = "class "

#: The row of the mean discrepancy, whose interesting values are thousandths.
_MMD = "MMD² × 1000"


def _at_most(name: str, measure: Comparison, floor: float, factor: float, unit: str = "") -> Rule:
    limit = max(floor, factor * measure.reference.value)
    kept = measure.score.value <= limit
    return Rule(
        name, kept, f"{_told(name, measure, kept, unit)}; at most {limit:.3f}{unit} is asked."
    )


def _at_least(name: str, measure: Comparison, share: float) -> Rule:
    limit = share * measure.reference.value
    kept = measure.score.value >= limit
    return Rule(name, kept, f"{_told(name, measure, kept, '')}; at least {limit:.3f} is asked.")


def _of_classes(
    name: str,
    measures: Mapping[str, Comparison],
    is_broken: Callable[[Comparison], bool],
    where: str,
) -> Rule:
    broken = [label for label, measure in measures.items() if is_broken(measure)]
    named = name[0].upper() + name[1:]
    if not broken:
        told = f"keeps the rule: in none of {len(measures)} the whole interval is {where}."
    else:
        told = f"breaks the rule: the whole interval is {where} in " + ", ".join(
            f"{label} ({measures[label].score}, real against real {measures[label].reference})"
            for label in broken
        )
        told += "."
    return Rule(name, not broken, f"{named} {told}")


def _told(name: str, measure: Comparison, kept: bool, unit: str) -> str:
    named = name[0].upper() + name[1:]
    return (
        f"{named} {'keeps' if kept else 'breaks'} the rule: {measure.score}{unit}, real against "
        f"real {measure.reference}{unit}"
    )


def _marked(interval: Interval | None) -> str:
    return " (spread)" if interval == "spread" else ""


def _signed(error: Estimate) -> str:
    return f"{error.value:+.2f} [{error.low:+.2f}, {error.high:+.2f}]"


def _thousandths(discrepancy: Estimate) -> str:
    value, low, high = (1000 * x for x in (discrepancy.value, discrepancy.low, discrepancy.high))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"
