"""Interface of all evaluations: verdicts on the synthetic sets of several methods."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from ecgtransfer.statistics import Verdict

#: Progress callback of an evaluation: (steps done, steps in total).
StepsDone = Callable[[int, int], None]


class Judged(Protocol):
    """Result of an evaluation for one synthetic set."""

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return the verdict on the set, then the verdict of each test behind it."""
        ...


class Evaluation(Protocol):
    """Result of an evaluation: a frozen dataclass that `to_card` writes and `from_card` reads."""

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return one verdict per method."""
        ...

    def tests(self) -> tuple[Verdict, ...]:
        """Return the verdicts of the single tests behind them."""
        ...


def whole_verdicts(results: Mapping[str, Judged]) -> tuple[Verdict, ...]:
    """Return the verdict on the synthetic set of each method; its sentence names the method."""
    return tuple(_named(method, result.verdicts()[0]) for method, result in results.items())


def single_verdicts(results: Mapping[str, Judged]) -> tuple[Verdict, ...]:
    """Return the verdict of each test of each method; its sentence names the method."""
    return tuple(
        _named(method, verdict)
        for method, result in results.items()
        for verdict in result.verdicts()[1:]
    )


def count_parts(progress: StepsDone | None, parts: int) -> Iterator[StepsDone]:
    """Yield one progress callback for each of several equal parts of an evaluation."""
    for part in range(parts):

        def counted(done: int, total: int, part: int = part) -> None:
            if progress is not None:
                progress(part * total + done, parts * total)

        yield counted


def _named(method: str, verdict: Verdict) -> Verdict:
    return Verdict(verdict.passed, f"{method}: {verdict.sentence}")
