"""Parse metadata and codes in header comments and tables, in all common spellings."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from ecgtransfer.corpus.labels import VOCABULARIES, resolve
from ecgtransfer.errors import CorpusError

#: `Dx: AF,RBBB`, `# Dx: 59118001`, `Age: 74`, `<age>: 63`, ... with any spaces and case.
_COMMENT = re.compile(r"^[#\s<]*(?P<key>[A-Za-z_ ]+?)>?\s*[:=]\s*(?P<value>.*?)\s*$")

#: Field of each spelling in header comments.
_KEYS = {
    "age": "age",
    "sex": "sex",
    "gender": "sex",
    "dx": "dx",
    "diagnosis": "dx",
    "diagnoses": "dx",
    "patient": "patient",
    "patient id": "patient",
    "patient_id": "patient",
    "patientid": "patient",
}

#: Minimum number of digits of a SNOMED CT identifier.
SNOMED_DIGITS = 6

#: Beginning of the header comment, and the device, of exported records that are synthetic.
SYNTHETIC_MARK = "SYNTHETIC"

#: Device that PTB-XL's layout states for synthetic records, by their origin.
SYNTHETIC_DEVICES = {"generated": SYNTHETIC_MARK, "simulated": f"{SYNTHETIC_MARK}, simulated"}

#: Texts that mean "unknown".
_UNKNOWN = frozenset({"", "unknown", "nan", "none", "n/a", "na", "-"})


def stated_in(comments: Iterable[str]) -> dict[str, str]:
    """Texts of `age`, `sex`, `dx` and `patient` in header comments.

    If a field occurs more than once, the last one counts; several diagnoses are joined.
    """
    stated: dict[str, str] = {}
    for comment in comments:
        match = _COMMENT.match(comment)
        key = _KEYS.get(match["key"].strip().casefold()) if match else None
        if match is None or key is None or match["value"].casefold() in _UNKNOWN:
            continue
        known = stated.get(key)
        stated[key] = f"{known},{match['value']}" if key == "dx" and known else match["value"]
    return stated


def origin_in(comments: Iterable[str]) -> str:
    """Origin that header comments state: `export` marks a synthetic record; else "recorded"."""
    for comment in comments:
        if comment.strip(" #").startswith(SYNTHETIC_MARK):
            return "simulated" if "simulated by" in comment else "generated"
    return "recorded"


def split_codes(text: str, separators: str = ",;|") -> tuple[str, ...]:
    """Split a list of codes, without repetitions and surrounding spaces."""
    parts = (part.strip() for part in re.split(f"[{re.escape(separators)}]", text))
    return tuple(dict.fromkeys(part for part in parts if part))


def parse_age(value: object) -> float | None:
    """Age in years; None for an unknown age: empty, NaN, a word, or negative."""
    try:
        age = float(str(value).strip())
    except ValueError:
        return None
    return age if math.isfinite(age) and age >= 0 else None


def parse_sex(value: object) -> Literal["male", "female"] | None:
    """Sex from `Male`, `F`, ... in any case; None for anything else."""
    word = str(value).strip().casefold()
    if word in ("male", "m"):
        return "male"
    if word in ("female", "f"):
        return "female"
    return None


def found_vocabularies(
    codes_of_records: Sequence[tuple[str, ...]], stated: str | None
) -> list[str]:
    """Vocabulary of each record's codes: as stated, or recognised from the codes.

    Long numbers are SNOMED CT, single digits ICBEB numbers. For words, the vocabulary that knows
    most words of the corpus is used. A record with numbers and words uses the vocabulary that knows
    more of its codes; its other codes are reported as unknown.

    Raises:
        CorpusError: the stated vocabulary does not exist.
    """
    if stated is not None:
        if stated not in VOCABULARIES:
            raise CorpusError(
                f"expected a vocabulary of {', '.join(VOCABULARIES)}, got {stated!r}; "
                "pass one of them, or none"
            )
        return [stated] * len(codes_of_records)
    words = Counter(code for codes in codes_of_records for code in codes if not code.isdigit())
    spoken = max(("scp", "abbreviation"), key=lambda name: _known(words, name))
    found = []
    for codes in codes_of_records:
        kinds = [_kind(code, spoken) for code in codes]
        likely = Counter(kinds).most_common()
        best = [kind for kind, count in likely if count == likely[0][1]]
        own = Counter(codes)
        found.append(max(best, key=lambda kind: _known(own, kind)) if best else spoken)
    return found


def _kind(code: str, spoken: str) -> str:
    if not code.isdigit():
        return spoken
    return "snomed" if len(code) >= SNOMED_DIGITS else "icbeb_number"


def _known(codes: Counter[str], vocabulary: str) -> int:
    return sum(count for code, count in codes.items() if resolve(code, (vocabulary,)) is not None)
