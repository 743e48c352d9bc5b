"""Tables and recordings in csv that hypothesis spoils: read, or refused in one sentence.

`pytest tests/corpus/test_csv_fuzz.py --hypothesis-profile=deep` tries 20,000 of each.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgtransfer.corpus import label_space
from ecgtransfer.corpus.readers.array_files import ArrayLayout, ArrayPart, read_array
from ecgtransfer.corpus.readers.record_table import read_record_table
from ecgtransfer.errors import EcgTransferError
from ecgtransfer.signals import LEADS

TABLE = [
    ["record", "labels", "patient", "age", "sex", "fold"],
    ["r0", "AF;RBBB", "p1", "61", "female", "1"],
    ["r1", "PVC|PAC", "p2", "40", "male", "2"],
]
CODES = [
    ["label", "vocabulary", "code", "description"],
    ["AFIB", "snomed", "164889003", "atrial fibrillation"],
    ["block", "local", "B1", ""],
]
SIGNAL = [list(LEADS), *([f"{0.1 * k:.1f}" for k in range(12)] for _ in range(3))]

CELLS = st.one_of(
    st.sampled_from(
        [
            *("", '"', '""', "\n", "\r", ",", ";", "\t", "record", "labels", "fold", "I", "aVR"),
            *("nan", "inf", "-1", "1e400", "1_0", "0x1", "2.0", "snomed", "local", "label"),
            *("\ufeff", "\0"),
        ]
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.text(max_size=10),
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "delete", "repeat line", "drop line"]),
        st.integers(0, 9),
        st.integers(0, 13),
        CELLS,
    ),
    min_size=1,
    max_size=4,
)
DELIMITERS = st.sampled_from([",", ",", ";", "\t"])


def write_spoilt(path, rows, changes, delimiter):
    """A csv with some cells or lines changed."""
    lines = [list(row) for row in rows]
    for what, line, place, cell in changes:
        cells = lines[line % len(lines)]
        at = place % (len(cells) + 1)
        match what:
            case "replace":
                cells[at : at + 1] = [cell]
            case "insert":
                cells.insert(at, cell)
            case "delete":
                del cells[at : at + 1]
            case "repeat line":
                lines.append(list(cells))
            case "drop line" if len(lines) > 1:
                lines.remove(cells)
    text = "\n".join(delimiter.join(cells) for cells in lines)
    path.write_bytes(text.encode("utf-8", errors="replace"))


def read_or_sentence(read, *arguments):
    """What was read, or the sentence that refuses it."""
    try:
        return read(*arguments)
    except EcgTransferError as error:
        return str(error)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("csv") / "spoilt.csv"


@given(changes=CHANGES, delimiter=DELIMITERS)
def test_a_spoilt_table_of_records_has_rows_or_a_sentence(path, changes, delimiter):
    write_spoilt(path, TABLE, changes, delimiter)
    table = read_or_sentence(read_record_table, path)
    if isinstance(table, str):
        assert "\n" not in table
    else:
        assert table.rows
        assert all(row.record == name for name, row in table.rows.items())


@given(changes=CHANGES, delimiter=DELIMITERS)
def test_a_spoilt_label_space_has_classes_or_a_sentence(path, changes, delimiter):
    write_spoilt(path, CODES, changes, delimiter)
    space = read_or_sentence(label_space, path)
    if isinstance(space, str):
        assert "\n" not in space
    else:
        assert len(set(space.names)) == len(space) > 0
        assert {code.label for code in space.codes} == set(space.names)


@given(changes=CHANGES, delimiter=DELIMITERS)
def test_a_spoilt_recording_has_twelve_leads_or_a_sentence(path, changes, delimiter):
    write_spoilt(path, SIGNAL, changes, delimiter)
    recording = read_or_sentence(read_array, path, ArrayPart(ArrayLayout(100, "mV", LEADS)))
    if isinstance(recording, str):
        assert "\n" not in recording
    else:
        assert recording.signal_mv.shape[0] == len(LEADS)
        assert np.isfinite(recording.signal_mv).all()
