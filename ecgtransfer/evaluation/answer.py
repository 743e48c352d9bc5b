"""What every question answers: verdicts on the synthetic sets of several methods."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from ecgtransfer.statistics import Verdict

#: (done, total), called as a question proceeds.
StepsDone = Callable[[int, int], None]


class Judged(Protocol):
    """The result for one synthetic set."""

    def verdicts(self) -> tuple[Verdict, ...]:
        """The set as a whole first, then each test behind it."""
        ...


class Evaluation(Protocol):
    """The answer to a question: a frozen dataclass that `to_card` writes and `from_card` reads."""

    def verdicts(self) -> tuple[Verdict, ...]:
        """One a method."""
        ...

    def tests(self) -> tuple[Verdict, ...]:
        """What the verdicts rest on."""
        ...


def whole_verdicts(results: Mapping[str, Judged]) -> tuple[Verdict, ...]:
    """The verdict on the set of each method as a whole, which names the method."""
    return tuple(_named(method, result.verdicts()[0]) for method, result in results.items())


def single_verdicts(results: Mapping[str, Judged]) -> tuple[Verdict, ...]:
    """The verdict of each test of each method, which names the method."""
    return tuple(
        _named(method, verdict)
        for method, result in results.items()
        for verdict in result.verdicts()[1:]
    )


def count_parts(progress: StepsDone | None, parts: int) -> Iterator[StepsDone]:
    """One progress callback for each of several equal parts of a question."""
    for part in range(parts):

        def counted(done: int, total: int, part: int = part) -> None:
            if progress is not None:
                progress(part * total + done, parts * total)

        yield counted


def _named(method: str, verdict: Verdict) -> Verdict:
    return Verdict(verdict.passed, f"{method}: {verdict.sentence}")
