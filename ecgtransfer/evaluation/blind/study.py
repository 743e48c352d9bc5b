"""Can a clinician tell generated ECGs from recorded ones? A blind reading on paper, and its score.

`write_blind_test` makes a folder for the readers: ECGs on paper in an order of chance, an answer
sheet to be filled in, README.txt, and a sealed key with the truth, which nobody reads by accident
and whose SHA-256 stands in README.txt. `score_blind_test` opens the key and scores the sheets.
"""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.metrics import (
    weighted_macro_auroc,
)
from ecgtransfer.statistics import (
    BOOTSTRAP_RESAMPLES,
    bootstrap,
    proportion,
)

if TYPE_CHECKING:
    pass


from ecgtransfer.evaluation.blind.agreement import agreement
from ecgtransfer.evaluation.blind.kit import ANSWERS, COLUMNS, SealedECG, open_key
from ecgtransfer.evaluation.blind.result import BlindScore, ReaderScore

#: Answers in the column `synthetic`; an empty one is no answer.
WORDS = {"yes": True, "no": False}

#: Answers in the column `confidence`, from a guess to certainty; an empty one is no answer.
CONFIDENCES = tuple("12345")


def score_blind_test(
    folder: str | Path,
    answer_files: Sequence[str | Path] | None = None,
    *,
    seed: int = 0,
    resamples: int = BOOTSTRAP_RESAMPLES,
) -> BlindScore:
    """Score the answer sheets of a blind test against its key.

    answer_files: one sheet a reader; none takes `answers.csv`, where anything is filled in, and
    `answers-*.csv` of the folder. A reader is called as the file is, without `answers-`. Rows that
    are missing or empty count as unanswered.

    Raises:
        CorpusError: no test in the folder, a key that README.txt does not state the SHA-256 of, no
            filled-in sheet, one that lacks a column, names an unknown ECG or one twice, or has
            another word than yes, no, or 1 to 5.
        ConfigError: fewer than 2 resamples.
    """
    folder = Path(folder)
    if resamples < 2:
        raise ConfigError(f"an interval needs at least 2 resamples, got {resamples}")
    truth = open_key(folder)
    numbers = {ecg.name: number for number, ecg in enumerate(truth)}
    sheets = {}
    for path in _sheets(folder) if answer_files is None else map(Path, answer_files):
        sheet = _read_sheet(path, numbers)
        if answer_files is None and path.name == ANSWERS and not sheet.answered.any():
            continue
        reader = path.stem.removeprefix("answers-")
        if reader in sheets:
            raise CorpusError(f"two sheets of a reader {reader}; give each file a name of its own")
        if not sheet.answered.any():
            raise CorpusError(f"{path} has no answer; write yes or no into the column synthetic")
        sheets[reader] = sheet
    if not sheets:
        raise CorpusError(
            f"no filled-in answer sheet in {folder}; fill in {ANSWERS}, or a copy answers-NAME.csv "
            "for each reader"
        )
    together = np.all([sheet.answered for sheet in sheets.values()], axis=0)
    answers = np.array([sheet.called_synthetic[together] for sheet in sheets.values()])
    return BlindScore(
        readers=tuple(
            _reader_score(reader, sheet, truth, seed, resamples) for reader, sheet in sheets.items()
        ),
        agreement=agreement(answers, seed, resamples) if len(sheets) > 1 else None,
        compared=int(together.sum()),
        records=sum(ecg.synthetic for ecg in truth),
    )


@dataclass(frozen=True, eq=False)
class _Sheet:
    """Answers of one reader in the order of the key, (N,) each; confidence 0 where not stated."""

    answered: npt.NDArray[np.bool_]
    called_synthetic: npt.NDArray[np.bool_]
    confidence: npt.NDArray[np.int64]


def _sheets(folder: Path) -> list[Path]:
    """`answers.csv` and `answers-*.csv` of a folder, as far as they are there."""
    own = folder / ANSWERS
    return [*([own] if own.is_file() else []), *sorted(folder.glob("answers-*.csv"))]


def _read_sheet(path: Path, numbers: Mapping[str, int]) -> _Sheet:
    """An answer sheet; `numbers` places each ECG."""
    try:
        # What a spreadsheet writes in another encoding can only be a remark, which is not scored.
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError:
        raise CorpusError(f"no such answer sheet: {path}; check its path") from None
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error.strerror}); check it") from None
    first = text.split("\n", 1)[0]
    separator = next((sign for sign in ",;\t" if sign in first), ",")
    try:
        header, *rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator)) or [[]]
    except csv.Error as error:
        raise CorpusError(f"{path} is no csv ({error}); export it again") from None
    header = [name.strip().casefold() for name in header]
    if missing := [name for name in COLUMNS[:2] if header.count(name) != 1]:
        raise CorpusError(
            f"{path} needs the columns {' and '.join(COLUMNS[:2])} once each, and it has "
            f"{', '.join(header)[:120] or 'none'}; add {' and '.join(missing)}"
        )
    sheet = _Sheet(
        answered=np.zeros(len(numbers), dtype=np.bool_),
        called_synthetic=np.zeros(len(numbers), dtype=np.bool_),
        confidence=np.zeros(len(numbers), dtype=np.int64),
    )
    seen = set()
    for line, row in enumerate(rows, start=2):
        cells = {name: cell.strip() for name, cell in zip(header, row, strict=False)}
        # Spreadsheets make the number 1 of 001.
        ecg = cells.get("ecg", "").rjust(len(next(iter(numbers))), "0")
        if not any(cells.values()):
            continue
        if ecg not in numbers:
            raise CorpusError(
                f"{path}, row {line}: unknown ECG {cells.get('ecg', '')[:20]!r}; expected one of "
                f"{min(numbers)} to {max(numbers)}"
            )
        if ecg in seen:
            raise CorpusError(f"{path}, row {line}: ECG {ecg} comes twice; keep one row of it")
        seen.add(ecg)
        word, confidence = cells.get("synthetic", "").casefold(), cells.get("confidence", "")
        if word and word not in WORDS:
            raise CorpusError(
                f"{path}, row {line}: expected yes, no or nothing in synthetic, got {word[:20]!r}"
            )
        if confidence and confidence not in CONFIDENCES:
            raise CorpusError(
                f"{path}, row {line}: expected 1 to 5 or nothing in confidence, got "
                f"{confidence[:20]!r}"
            )
        if word:
            sheet.answered[numbers[ecg]] = True
            sheet.called_synthetic[numbers[ecg]] = WORDS[word]
            sheet.confidence[numbers[ecg]] = int(confidence or 0)
    return sheet


def _reader_score(
    reader: str,
    sheet: _Sheet,
    ecgs: Sequence[SealedECG],
    seed: int,
    resamples: int,
) -> ReaderScore:
    answered = np.flatnonzero(sheet.answered)
    truth = np.array([ecgs[int(number)].synthetic for number in answered])
    called = sheet.called_synthetic[answered]
    right = truth == called
    confidence = sheet.confidence[answered]
    auroc = None
    if confidence.all() and 0 < truth.sum() < len(truth):
        auroc = bootstrap(
            weighted_macro_auroc,
            truth[:, None],
            np.where(called, confidence, -confidence)[:, None],
            resamples=resamples,
            seed=seed,
        )
    by_label: dict[str, list[bool]] = defaultdict(list)
    for number, is_right in zip(answered, right, strict=True):
        for label in ecgs[int(number)].labels:
            by_label[label].append(bool(is_right))
    found = {label: proportion(sum(marks), len(marks)) for label, marks in by_label.items()}
    accuracy = proportion(int(right.sum()), len(right))
    if accuracy is None:
        raise CorpusError(f"{reader} has answered nothing; leave the sheet out")
    return ReaderScore(
        reader=reader,
        sensitivity=proportion(int(called[truth].sum()), int(truth.sum())),
        specificity=proportion(int((~called[~truth]).sum()), int((~truth).sum())),
        accuracy=accuracy,
        auroc=auroc,
        by_label={label: score for label, score in sorted(found.items()) if score is not None},
        answered=len(answered),
        unanswered=len(ecgs) - len(answered),
        chance=max(Counter(truth.tolist()).values()) / len(truth),
    )
