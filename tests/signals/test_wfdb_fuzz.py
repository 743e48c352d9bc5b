"""Headers that hypothesis spoils: read as `wfdb` reads them, or refused in one sentence.

`pytest tests/signals/test_wfdb_fuzz.py --hypothesis-profile=deep` tries 20,000 of them.
"""

import contextlib
import warnings

import numpy as np
import pytest
import wfdb
from hypothesis import example, given
from hypothesis import strategies as st

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import LEADS, MILLIVOLTS, canonical_lead, read_recording

SAMPLES = 300

#: A record of 300 samples, each lead with a gain and a baseline of its own.
GOOD = [
    f"rec 12 500 {SAMPLES} 11:39:16 05/02/2020",
    *(f"rec.dat 16 {900 + k}({k - 6})/mV 16 0 0 0 0 {lead}" for k, lead in enumerate(LEADS)),
    "# Age: 61",
    "# Dx: AF,RBBB",
]

WORDS = st.one_of(
    st.sampled_from(
        [
            *("", "~", "rec", "rec.dat", "rec.hea", "other.dat", "rec/2", "12", "500/1000", "0"),
            *("16", "24", "32", "212", "61", "80", "160", "310", "16+24", "16x2", "16:3", "1e3"),
            *(
                "/mV",
                "1000/mV",
                "1000(5)/mV",
                "1000 /mV",
                "-1000/mV",
                "0/mV",
                "1e3/uV",
                "200",
                "mV",
            ),
            *("I", "avr", "V7", "05-Feb-2020", "2020/02/05", "25:61:61", "#", "\ufeff", "\0"),
        ]
    ),
    st.integers(-(2**40), 2**40).map(str),
    st.floats(allow_nan=True, allow_infinity=True).map(str),
    st.text(max_size=12),
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "delete", "repeat line", "drop line", "swap line"]),
        st.integers(0, len(GOOD) - 1),
        st.integers(0, 9),
        WORDS,
    ),
    min_size=1,
    max_size=4,
)


def spoilt(changes, line_end):
    """The good header with some words or lines changed."""
    lines = [line.split(" ") for line in GOOD]
    for what, line, place, word in changes:
        words = lines[line % len(lines)]
        at = place % (len(words) + 1)
        match what:
            case "replace":
                words[at : at + 1] = [word]
            case "insert":
                words.insert(at, word)
            case "delete":
                del words[at : at + 1]
            case "repeat line":
                lines.insert(line % len(lines), list(words))
            case "drop line" if len(lines) > 1:
                lines.remove(words)
            case "swap line":
                lines[line % len(lines)], lines[0] = lines[0], words
    return line_end.join(" ".join(words) for words in lines) + line_end


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    samples = np.random.default_rng(3).integers(-2000, 2000, (SAMPLES, len(LEADS)))
    (folder / "rec.dat").write_bytes(samples.astype("<i2").tobytes())
    return folder


def read(record):
    """The recording, or the sentence that refuses it."""
    try:
        return read_recording(record)
    except SignalError as error:
        return str(error)


def by_wfdb(record):
    """Millivolts of each lead as wfdb has them, or None where it cannot read the record."""
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = wfdb.rdrecord(str(record))
        scale = [MILLIVOLTS[unit] for unit in found.units]
        named = zip(found.sig_name, (found.p_signal * scale).T, strict=True)
        return {canonical_lead(lead): row for lead, row in named}
    return None


@example(changes=[("replace", 0, 3, "1e3/uV")], line_end="\n")  # wfdb reads one sample
@given(changes=CHANGES, line_end=st.sampled_from(["\n", "\n", "\r\n"]))
def test_a_spoilt_header_is_read_as_wfdb_reads_it_or_refused_in_a_sentence(
    folder, changes, line_end
):
    text = spoilt(changes, line_end)
    (folder / "rec.hea").write_bytes(text.encode("utf-8", errors="replace"))
    recording = read(folder / "rec")
    if isinstance(recording, str):
        assert "\n" not in recording
        return
    assert recording.signal_mv.shape[0] == len(LEADS)
    assert np.isfinite(recording.signal_mv).all()
    expected = by_wfdb(folder / "rec")
    if expected is not None:
        for lead, row in zip(LEADS, recording.signal_mv, strict=True):
            np.testing.assert_allclose(row, expected[lead], rtol=1e-6, atol=1e-6, err_msg=text)
