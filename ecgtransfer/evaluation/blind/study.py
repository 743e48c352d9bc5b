"""Score a blind reading: can a clinician distinguish generated from recorded ECGs?

`write_blind_test` writes a folder for the readers with ECGs on paper in random order, an empty
answer sheet, README.txt and a sealed key. README.txt states the SHA-256 of the key.
`score_blind_test` opens the key and scores the answer sheets.
"""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.blind.agreement import agreement
from ecgtransfer.evaluation.blind.kit import ANSWERS, COLUMNS, SealedECG, open_key
from ecgtransfer.evaluation.blind.result import BlindScore, ReaderScore
from ecgtransfer.evaluation.metrics import (
    weighted_macro_auroc,
)
from ecgtransfer.statistics import (
    BOOTSTRAP_RESAMPLES,
    bootstrap,
    proportion,
)

#: Words allowed in the column `synthetic`; an empty cell is no answer.
WORDS = {"yes": True, "no": False}

#: Values allowed in the column `confidence`, from a guess to certainty; an empty cell is no answer.
CONFIDENCES = tuple("12345")


def score_blind_test(
    folder: str | Path,
    answer_files: Sequence[str | Path] | None = None,
    *,
    seed: int = 0,
    resamples: int = BOOTSTRAP_RESAMPLES,
) -> BlindScore:
    """Score the answer sheets of a blind test against its key.

    Args:
        folder: folder that `write_blind_test` wrote.
        answer_files: one sheet per reader. The default is `answers-*.csv` of the folder, and
            `answers.csv` if it is not empty. The name of a reader is the file's name without
            `answers-`. A missing or empty row counts as unanswered.
        seed: seed of the bootstrap.
        resamples: number of bootstrap resamples.

    Raises:
        CorpusError: the folder has no blind test, the key does not match its SHA-256 in README.txt,
            there is no filled-in sheet, or a sheet lacks a column, has an unknown ECG or one ECG
            twice, or a value other than yes, no, or 1 to 5.
        ConfigError: there are fewer than 2 resamples.
    """
    folder = Path(folder)
    if resamples < 2:
        raise ConfigError(
            f"an interval needs at least 2 resamples, got {resamples}; raise resamples"
        )
    truth = open_key(folder)
    positions = {ecg.name: position for position, ecg in enumerate(truth)}
    sheets = {}
    for path in _sheets(folder) if answer_files is None else map(Path, answer_files):
        sheet = _read_sheet(path, positions)
        if answer_files is None and path.name == ANSWERS and not sheet.answered.any():
            continue
        reader = path.stem.removeprefix("answers-")
        if reader in sheets:
            raise CorpusError(
                f"expected one sheet per reader, got two sheets of a reader {reader}; rename one "
                "of the files"
            )
        if not sheet.answered.any():
            raise CorpusError(
                f"expected answers in {path}, got none; write yes or no into the column synthetic"
            )
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
    """Answers of one reader in the order of the key, (N,) each; confidence is 0 if not given."""

    answered: npt.NDArray[np.bool_]
    called_synthetic: npt.NDArray[np.bool_]
    confidence: npt.NDArray[np.int64]


def _sheets(folder: Path) -> list[Path]:
    """Existing files `answers.csv` and `answers-*.csv` of a folder."""
    own = folder / ANSWERS
    return [*([own] if own.is_file() else []), *sorted(folder.glob("answers-*.csv"))]


def _read_sheet(path: Path, positions: Mapping[str, int]) -> _Sheet:
    """Read an answer sheet; `positions` maps the name of an ECG to its position in the key."""
    try:
        # Only remarks, which are not scored, can contain bytes of another encoding.
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError:
        raise CorpusError(f"no such answer sheet: {path}; check its path") from None
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error.strerror}); check the file") from None
    first = text.split("\n", 1)[0]
    separator = next((sign for sign in ",;\t" if sign in first), ",")
    try:
        header, *rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator)) or [[]]
    except csv.Error as error:
        raise CorpusError(f"{path} is not a CSV file ({error}); export it again") from None
    header = [name.strip().casefold() for name in header]
    if missing := [name for name in COLUMNS[:2] if header.count(name) != 1]:
        raise CorpusError(
            f"{path} needs the columns {' and '.join(COLUMNS[:2])} once each, it has "
            f"{', '.join(header)[:120] or 'none'}; add {' and '.join(missing)}"
        )
    sheet = _Sheet(
        answered=np.zeros(len(positions), dtype=np.bool_),
        called_synthetic=np.zeros(len(positions), dtype=np.bool_),
        confidence=np.zeros(len(positions), dtype=np.int64),
    )
    seen = set()
    for line, row in enumerate(rows, start=2):
        cells = {name: cell.strip() for name, cell in zip(header, row, strict=False)}
        # Spreadsheet programs turn 001 into 1.
        ecg = cells.get("ecg", "").rjust(len(next(iter(positions))), "0")
        if not any(cells.values()):
            continue
        if ecg not in positions:
            raise CorpusError(
                f"{path}, row {line}: unknown ECG {cells.get('ecg', '')[:20]!r}; expected one of "
                f"{min(positions)} to {max(positions)}"
            )
        if ecg in seen:
            raise CorpusError(f"{path}, row {line}: ECG {ecg} comes twice; delete one of its rows")
        seen.add(ecg)
        word, confidence = cells.get("synthetic", "").casefold(), cells.get("confidence", "")
        if word and word not in WORDS:
            raise CorpusError(
                f"{path}, row {line}: expected yes, no or nothing in synthetic, got "
                f"{word[:20]!r}; change the answer"
            )
        if confidence and confidence not in CONFIDENCES:
            raise CorpusError(
                f"{path}, row {line}: expected 1 to 5 or nothing in confidence, got "
                f"{confidence[:20]!r}; change the answer"
            )
        if word:
            sheet.answered[positions[ecg]] = True
            sheet.called_synthetic[positions[ecg]] = WORDS[word]
            sheet.confidence[positions[ecg]] = int(confidence or 0)
    return sheet


def _reader_score(
    reader: str,
    sheet: _Sheet,
    ecgs: Sequence[SealedECG],
    seed: int,
    resamples: int,
) -> ReaderScore:
    answered = np.flatnonzero(sheet.answered)
    truth = np.array([ecgs[int(position)].synthetic for position in answered])
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
    for position, is_right in zip(answered, right, strict=True):
        for label in ecgs[int(position)].labels:
            by_label[label].append(bool(is_right))
    found = {label: proportion(sum(marks), len(marks)) for label, marks in by_label.items()}
    accuracy = proportion(int(right.sum()), len(right))
    if accuracy is None:
        raise CorpusError(
            f"expected answers of {reader}, got none; remove the sheet from the answer files"
        )
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
