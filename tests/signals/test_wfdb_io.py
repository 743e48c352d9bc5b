import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import wfdb
from numpy.testing import assert_allclose, assert_array_equal

from ecgtransfer.errors import SignalError, StorageError
from ecgtransfer.signals import (
    LEADS,
    Recording,
    limb_lead_disagreement_mv,
    read_comments,
    read_header,
    read_recording,
    write_recording,
)

SHUFFLED = ["V6", "AVF", "II", "I", "avr", "V1", "V3", "V2", "III", "V5", "aVL", "V4"]


def lead_mv(name, n=200):
    """A wave of its own for each lead, so that an exchange is seen."""
    k = LEADS.index(name)
    return 0.05 * (k + 1) + 0.1 * (k + 1) * np.sin(2 * np.pi * (k + 1) * np.arange(n) / n)


def canonical(spelling):
    return next(name for name in LEADS if name.lower() == spelling.lower())


def write_with_wfdb(folder, name="rec", leads=LEADS, units="mV", scale=1.0, fmt="16", **options):
    """A record as wfdb's own writer makes it; `scale` units are one millivolt."""
    signal = scale * np.stack([lead_mv(canonical(lead)) for lead in leads], axis=1)
    wfdb.wrsamp(
        name,
        fs=options.pop("fs", 100),
        units=[units] * len(leads),
        sig_name=list(leads),
        p_signal=options.pop("p_signal", signal),
        fmt=[fmt] * len(leads),
        adc_gain=[options.pop("gain", 1000.0 / scale)] * len(leads),
        baseline=[options.pop("baseline", 0)] * len(leads),
        write_dir=str(folder),
        **options,
    )
    return folder / name


def edit(record, old, new):
    """Replace words of a header."""
    header = record.with_suffix(".hea")
    text = header.read_text()
    assert old in text
    header.write_text(text.replace(old, new))


def challenge(folder, name="A0001", rate=500, n=400):
    """A record as the PhysioNet/CinC Challenges have it: MATLAB v4 `val` behind a WFDB header."""
    samples = np.stack([np.round(1000 * lead_mv(lead, n)) for lead in LEADS]).astype(np.int16)
    scipy.io.savemat(folder / f"{name}.mat", {"val": samples}, format="4")
    lines = [f"{name} 12 {rate} {n} 05-Feb-2020 11:39:16"]
    for lead, row in zip(LEADS, samples, strict=True):
        checksum = np.array(row.sum(dtype=np.int64)).astype(np.int16)
        lines.append(f"{name}.mat 16+24 1000/mV 16 0 {row[0]} {checksum} 0 {lead}")
    lines += ["#Age: 74", "#Sex: Male", "# Dx: 59118001,284470004"]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    return folder / name


@pytest.mark.parametrize("leads", [LEADS, SHUFFLED], ids=["in order", "shuffled"])
@pytest.mark.parametrize(
    ("units", "scale"), [("mV", 1.0), ("uV", 1000.0), ("V", 0.001), ("µV", 1000.0)]
)
@pytest.mark.parametrize("fmt", ["16", "24", "32"])
def test_leads_come_by_name_and_in_millivolts(tmp_path, leads, units, scale, fmt):
    record = write_with_wfdb(tmp_path, leads=leads, units="uV", scale=scale, fmt=fmt)
    header = record.with_suffix(".hea")
    # wfdb reads headers as ASCII, so that it is given the unit that it knows.
    header.write_text(header.read_text().replace("/uV", f"/{units}"), encoding="utf-8")
    recording = read_recording(record)
    assert recording.sampling_rate_hz == 100
    assert recording.signal_mv.dtype == np.float32
    expected = np.stack([lead_mv(name) for name in LEADS])
    assert_allclose(recording.signal_mv, expected, atol=0.000501)


def test_gain_and_baseline_are_undone(tmp_path):
    record = write_with_wfdb(tmp_path, gain=200.0, baseline=-512)
    expected = np.stack([lead_mv(name) for name in LEADS])
    assert_allclose(read_recording(record).signal_mv, expected, atol=0.00251)


def test_a_rate_that_is_no_whole_number_is_kept(tmp_path):
    assert read_recording(write_with_wfdb(tmp_path, fs=257.5)).sampling_rate_hz == 257.5


def test_a_challenge_record_is_read(tmp_path):
    record = challenge(tmp_path)
    recording = read_recording(str(record))
    assert (recording.sampling_rate_hz, recording.n_samples) == (500, 400)
    expected = np.stack([lead_mv(name, 400) for name in LEADS])
    assert_allclose(recording.signal_mv, expected, atol=0.000501)
    assert read_comments(record) == ["Age: 74", "Sex: Male", "Dx: 59118001,284470004"]


def test_a_record_name_may_hold_dots(tmp_path):
    record = write_with_wfdb(tmp_path)
    os.rename(tmp_path / "rec.hea", tmp_path / "rec.v2.hea")
    assert read_recording(tmp_path / "rec.v2").n_samples == read_n(record.with_suffix(".dat"))


def read_n(dat):
    return dat.stat().st_size // 24


def test_a_record_is_found_from_the_current_folder(tmp_path, monkeypatch):
    write_with_wfdb(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert read_recording("rec").n_samples == 200


def test_a_header_without_length_or_checksums_is_read(tmp_path):
    record = write_with_wfdb(tmp_path)
    lines = record.with_suffix(".hea").read_text().splitlines()
    lines[0] = "rec 12 100"
    for k, lead in enumerate(LEADS, start=1):
        lines[k] = f"rec.dat 16 1000/mV 16 0 0 0 0 {lead}"
    record.with_suffix(".hea").write_text("\n".join(lines))
    assert read_recording(record).n_samples == 200


def test_a_challenge_header_without_length_is_read(tmp_path):
    record = challenge(tmp_path)
    edit(record, " 500 400 05-Feb-2020 11:39:16", " 500")
    assert read_recording(record).n_samples == 400


@pytest.mark.parametrize("n", [200, 201])
@pytest.mark.parametrize("fmt", ["16", "24", "32", "80", "212", "61", "160"])
def test_every_format_is_read_as_wfdb_reads_it(tmp_path, fmt, n):
    rng = np.random.default_rng(3)
    bits = {"24": 24, "32": 31, "80": 8, "212": 12}.get(fmt, 16)
    digital = rng.integers(2 - 2 ** (bits - 1), 2 ** (bits - 1) - 1, (n, 12))
    gain, base = 2.0 ** (bits - 4) + 0.3, 7
    wfdb.wrsamp(
        "rec",
        fs=250,
        units=["mV"] * 12,
        sig_name=SHUFFLED,
        d_signal=digital,
        fmt=[fmt if fmt not in {"61", "160"} else "16"] * 12,
        adc_gain=[gain] * 12,
        baseline=[base] * 12,
        write_dir=str(tmp_path),
    )
    if fmt in {"61", "160"}:  # big-endian and offset binary, which wfdb does not write
        words = np.fromfile(tmp_path / "rec.dat", "<i2").astype(np.int32)
        other = words.astype(">i2") if fmt == "61" else (words + 2**15).astype("<u2")
        other.tofile(tmp_path / "rec.dat")
        edit(tmp_path / "rec", ".dat 16 ", f".dat {fmt} ")
    order = [[canonical(name) for name in SHUFFLED].index(lead) for lead in LEADS]
    found = read_recording(tmp_path / "rec").signal_mv
    stated = float((tmp_path / "rec.hea").read_text().split("(")[0].split()[-1])
    assert_allclose(found, ((digital - base) / stated).T[order], rtol=1e-6, atol=1e-6)
    theirs = wfdb.rdrecord(str(tmp_path / "rec")).p_signal.T[order]
    assert_allclose(found, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fmt", ["310", "311"])
def test_rare_formats_are_left_to_wfdb(tmp_path, fmt):
    data = np.random.default_rng(3).integers(1, 254, 3200).astype(np.uint8)
    data.tofile(tmp_path / "rec.dat")
    lines = ["rec 12 100 200", *(f"rec.dat {fmt} 100(0)/mV 10 0 0 0 0 {name}" for name in LEADS)]
    (tmp_path / "rec.hea").write_text("\n".join(lines))
    theirs = wfdb.rdrecord(str(tmp_path / "rec"), physical=False).d_signal.T
    assert_allclose(read_recording(tmp_path / "rec").signal_mv, theirs / 100, rtol=1e-6)


def test_samples_are_those_of_wfdb_to_the_last_bit(real_data):
    for path in sorted(real_data.glob("icbeb/challenge/*.hea"))[:10]:
        theirs = wfdb.rdrecord(str(path.with_suffix("")), physical=False).dac(return_res=32).T
        assert_array_equal(read_recording(path.with_suffix("")).signal_mv, theirs)


def test_the_first_seconds_can_be_read_alone(tmp_path):
    record = write_with_wfdb(tmp_path, fmt="212", gain=200.0)
    whole = read_recording(record).signal_mv
    for samples in (1, 7, 100):
        part = read_recording(record, at_most_s=samples / 100)
        assert_array_equal(part.signal_mv, whole[:, :samples])
    assert read_recording(record, at_most_s=99).n_samples == 200


def several_segments(folder):
    whole = np.stack([lead_mv(name) for name in LEADS], axis=1)
    write_with_wfdb(folder, "s1", p_signal=whole[:80])
    write_with_wfdb(folder, "s2", leads=SHUFFLED, fmt="24", p_signal=shuffled(whole[80:]))
    (folder / "all.hea").write_text("all/2 12 100 200\ns1 80\ns2 120\n# Dx: AF\n")
    return folder / "all", whole.T


def shuffled(signal):
    return signal[:, [LEADS.index(canonical(name)) for name in SHUFFLED]]


def test_segments_are_put_together_by_the_names_of_their_leads(tmp_path):
    record, whole = several_segments(tmp_path)
    assert_allclose(read_recording(record).signal_mv, whole, atol=0.000501)
    assert_allclose(read_recording(record, at_most_s=1).signal_mv, whole[:, :100], atol=0.000501)
    assert read_comments(record) == ["Dx: AF"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("s1 80", "~ 80", "expected segments without gaps, got one of 80 samples"),
        ("s1 80", "s1 79", "expected 79 samples as all.hea states, got 80"),
        ("s1 80", "s3 80", "expected a WFDB header .*s3.hea, got no such file"),
        ("all/2 12 100", "all/2 12 200", "expected a plain segment at 200 Hz"),
        ("s1 80", "all 80", "expected a plain segment"),
        ("s1 80", "../s1 80", "'segment samples' for each of its 2 segments, got 1"),
    ],
)
def test_segments_that_do_not_fit_are_refused(tmp_path, old, new, sentence):
    record, _ = several_segments(tmp_path)
    edit(record, old, new)
    with pytest.raises(SignalError, match=sentence):
        read_recording(record)


MENDS = [
    ("rec 12 100", "rec.hea 12 100", r"the record name 'rec.hea' with its extension"),
    ("rec 12 100", "other 12 100", r"the record name 'other', which is not the file's"),
    ("rec 12 100", "re:c 12 100", r"the record name 're:c'"),
    ("12 100 200", "12 100 200 2020-02-05 11:39", r"the date or time '2020-02-05 11:39'"),
    ("12 100 200", "12 100 200 25:61:61", r"the date or time '25:61:61'"),
    (".dat 16 1000.0(0)/mV", ".dat 16 1000.0 (0) / mV", "blanks within a format or a gain"),
    (".dat 16 ", ".dat 16 +0 ", "blanks within a format or a gain"),
    ("rec 12", "\ufeffrec 12", "a byte order mark or null bytes"),
    ("rec.dat", "old.dat", "the signal file 'old.dat', which is 'rec.dat' here"),
]


@pytest.mark.parametrize(("old", "new", "told"), MENDS)
def test_a_header_that_is_bad_in_form_alone_is_read_and_told(tmp_path, old, new, told):
    record = write_with_wfdb(tmp_path)
    whole = read_recording(record).signal_mv
    assert read_header(record).repairs == ()
    edit(record, old, new)
    assert_array_equal(read_recording(record).signal_mv, whole)
    assert read_header(record).repairs == (told,)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: "\n  " + text.replace("\n", "  \n\t"),
        lambda text: text.replace(" ", "\t"),
        lambda text: text.replace(" ", "   "),
        lambda text: text.replace("\n", "\n# between\n"),
    ],
)
def test_line_ends_and_blanks_do_not_matter(tmp_path, spoil):
    record = write_with_wfdb(tmp_path)
    whole = read_recording(record).signal_mv
    header = record.with_suffix(".hea")
    header.write_bytes(spoil(header.read_text()).encode())
    assert_array_equal(read_recording(record).signal_mv, whole)
    assert read_header(record).repairs == ()


def test_names_with_blanks_and_dots_are_read(tmp_path):
    record = write_with_wfdb(tmp_path)
    whole = read_recording(record).signal_mv
    text = record.with_suffix(".hea").read_text().replace("rec", "my rec.v2")
    (tmp_path / "my rec.v2.hea").write_text(text)
    os.rename(tmp_path / "rec.dat", tmp_path / "my rec.v2.dat")
    assert_array_equal(read_recording(tmp_path / "my rec.v2").signal_mv, whole)
    assert read_header(tmp_path / "my rec.v2").repairs == (
        "the record name 'my rec.v2' with odd characters",
    )


def test_what_wfdb_refuses_is_what_is_mended(tmp_path):
    """Exactly the dates and names that wfdb cannot read are reported as repaired."""
    record = write_with_wfdb(tmp_path)
    before = record.with_suffix(".hea").read_text()
    for words in ("", " 11:39:16", " 05-Feb-2020 11:39:16", " 2020-02-05", " 11:39 05/13/2020"):
        record.with_suffix(".hea").write_text(before.replace("12 100 200", f"12 100 200{words}"))
        try:
            wfdb.rdheader(str(record))
        except ValueError:
            assert read_header(record).repairs, words
        else:
            assert not read_header(record).repairs, words


def test_signals_beside_the_twelve_leads_are_left_aside(tmp_path):
    whole = np.stack([lead_mv(name) for name in LEADS], axis=1)
    wfdb.wrsamp(
        "rec",
        fs=100,
        units=["mV"] * 14,
        sig_name=["vx", *LEADS, "vy"],
        p_signal=np.concatenate([whole[:, :1] + 1, whole, whole[:, :1] + 2], axis=1),
        fmt=["16"] * 14,
        adc_gain=[1000.0] * 14,
        baseline=[0] * 14,
        write_dir=str(tmp_path),
    )
    assert_allclose(read_recording(tmp_path / "rec").signal_mv, whole.T, atol=0.000501)


def test_skew_and_paths_out_of_the_folder_are_refused(tmp_path):
    record = write_with_wfdb(tmp_path)
    edit(record, ".dat 16 ", ".dat 16:3 ")
    with pytest.raises(SignalError, match="expected leads without skew, got 3 samples"):
        read_recording(record)
    edit(record, "rec.dat 16:3 ", "../rec.dat 16 ")
    with pytest.raises(SignalError, match="expected the name of a signal file next to the header"):
        read_recording(record)


def test_one_file_in_two_formats_is_refused(tmp_path):
    record = write_with_wfdb(tmp_path)
    text = record.with_suffix(".hea").read_text()
    record.with_suffix(".hea").write_text(text.replace(".dat 16 ", ".dat 24 ", 1))
    with pytest.raises(SignalError, match="expected one format and offset for all leads of rec"):
        read_recording(record)


# --- refusals -------------------------------------------------------------------------------------


def test_a_missing_record_is_refused(tmp_path):
    with pytest.raises(SignalError, match=r"expected a WFDB header .*none\.hea, got no such file"):
        read_recording(tmp_path / "none")
    with pytest.raises(SignalError, match=r"expected a WFDB header .*none\.hea, got no such file"):
        read_comments(tmp_path / "none")


@pytest.mark.parametrize("suffix", [".hea", ".dat"])
def test_a_record_with_extension_is_refused_with_the_remedy(tmp_path, suffix):
    record = write_with_wfdb(tmp_path)
    with pytest.raises(SignalError, match=r"give the record without extension, .*rec$"):
        read_recording(record.with_suffix(suffix))


def test_a_header_that_cannot_be_opened_is_refused(tmp_path):
    (tmp_path / "rec.hea").mkdir()
    with pytest.raises(SignalError, match=r"expected a readable WFDB header .*rec\.hea, got"):
        read_recording(tmp_path / "rec")


@pytest.mark.parametrize(
    "content", [b"", b"\n\n# only a comment\n", b"\x89PNG\r\n\x1a\n\x00\xff", b"<html>404</html>"]
)
def test_a_header_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "rec.hea").write_bytes(content)
    with pytest.raises(SignalError, match=r"rec\.hea: expected a WFDB header that begins with"):
        read_recording(tmp_path / "rec")


def test_a_header_of_eleven_leads_is_refused_with_the_missing_one(tmp_path):
    record = write_with_wfdb(tmp_path, leads=LEADS[:-1])
    with pytest.raises(SignalError, match=r"rec\.hea: expected 12 leads, got 11: V6 missing"):
        read_recording(record)


@pytest.mark.parametrize("stated", [11, 13])
def test_a_header_that_counts_wrong_is_refused(tmp_path, stated):
    record = write_with_wfdb(tmp_path)
    edit(record, "rec 12 100", f"rec {stated} 100")
    with pytest.raises(SignalError, match=rf"one line for each of the {stated} leads .* got 12"):
        read_recording(record)


def test_an_unknown_lead_is_refused(tmp_path):
    record = write_with_wfdb(tmp_path)
    edit(record, " V3\n", " RESP\n")
    with pytest.raises(SignalError, match=r"rec\.hea: unknown lead 'RESP': expected one of I, II"):
        read_recording(record)


def test_a_lead_twice_is_refused(tmp_path):
    record = write_with_wfdb(tmp_path)
    edit(record, " V3\n", " V2\n")
    with pytest.raises(
        SignalError, match=r"rec\.hea: expected each of the 12 leads once, got V2 more"
    ):
        read_recording(record)


def test_a_lead_without_a_name_is_refused(tmp_path):
    record = write_with_wfdb(tmp_path)
    edit(record, " V3\n", "\n")
    with pytest.raises(SignalError, match=r"rec\.hea: unknown lead ''"):
        read_recording(record)


@pytest.mark.parametrize("first", ["rec 12", "rec 12 -500 200", "rec 12 abc 200", "rec 12 . 200"])
def test_an_absent_rate_is_refused_and_not_guessed(tmp_path, first):
    record = write_with_wfdb(tmp_path)
    edit(record, "rec 12 100 200", first)
    with pytest.raises(SignalError, match=r"rec\.hea: expected a sampling rate .*, got 'rec 12"):
        read_recording(record)


@pytest.mark.parametrize("rate", ["0", "0.0", "1", "500000"])
def test_an_impossible_rate_is_refused(tmp_path, rate):
    record = write_with_wfdb(tmp_path)
    edit(record, "rec 12 100 200", f"rec 12 {rate} 200")
    with pytest.raises(SignalError, match=r"rec\.hea: expected a sampling rate from 50 to 32000"):
        read_recording(record)


@pytest.mark.parametrize("unit", ["mmHg", "adu", "nV", "MV"])
def test_an_unknown_unit_is_refused(tmp_path, unit):
    record = write_with_wfdb(tmp_path)
    edit(record, "/mV", f"/{unit}")
    with pytest.raises(
        SignalError, match=rf"rec\.hea: expected the unit mV, uV or V, got '{unit}'"
    ):
        read_recording(record)


@pytest.mark.parametrize("gain", ["", "0/mV", "0(0)/mV", "1000"])
def test_a_lead_without_calibration_is_refused(tmp_path, gain):
    record = write_with_wfdb(tmp_path)
    edit(record, "1000.0(0)/mV", gain)
    with pytest.raises(SignalError, match=r"rec\.hea: expected a gain and a unit, .* lead I, got"):
        read_recording(record)


def test_a_line_that_describes_no_signal_is_refused(tmp_path):
    record = write_with_wfdb(tmp_path)
    header = record.with_suffix(".hea")
    header.write_text("\n".join([*header.read_text().splitlines()[:-1], "what is this"]))
    with pytest.raises(
        SignalError, match=r"rec\.hea: expected a line 'file format gain.*got 'what"
    ):
        read_recording(record)


def test_several_samples_a_frame_are_refused_and_not_averaged(tmp_path):
    record = write_with_wfdb(tmp_path)
    edit(record, "rec.dat 16 ", "rec.dat 16x2 ")
    with pytest.raises(
        SignalError, match=r"rec\.hea: expected one sample per frame, got 2 for lead I"
    ):
        read_recording(record)


def test_a_count_of_segments_without_their_lines_is_refused(tmp_path):
    record = write_with_wfdb(tmp_path)
    edit(record, "rec 12 100", "rec/2 12 100")
    with pytest.raises(SignalError, match="'segment samples' for each of its 2 segments, got 12"):
        read_recording(record)


def test_a_record_of_length_zero_is_refused(tmp_path):
    record = write_with_wfdb(tmp_path)
    edit(record, "rec 12 100 200", "rec 12 100 0")
    with pytest.raises(SignalError, match=r"rec\.hea: expected samples, got a record of length 0"):
        read_recording(record)


@pytest.mark.parametrize("bytes_lost", [1, 2, 24, 2400, 4799])
def test_a_truncated_dat_is_refused(tmp_path, bytes_lost):
    record = write_with_wfdb(tmp_path)
    dat = record.with_suffix(".dat")
    os.truncate(dat, dat.stat().st_size - bytes_lost)
    with pytest.raises(
        SignalError, match=rf"rec\.dat: expected 4800 bytes .* got {4800 - bytes_lost}, .*truncated"
    ):
        read_recording(record)


@pytest.mark.parametrize(("fmt", "needed"), [("24", 7200), ("32", 9600), ("212", 3600)])
def test_a_truncated_file_of_another_format_is_refused(tmp_path, fmt, needed):
    record = write_with_wfdb(tmp_path, fmt=fmt, gain=200.0)
    os.truncate(record.with_suffix(".dat"), needed - 1)
    with pytest.raises(SignalError, match=rf"expected {needed} bytes .*, the file is truncated"):
        read_recording(record)


@pytest.mark.parametrize("kind", ["absent", "directory"])
def test_a_missing_signal_file_is_refused(tmp_path, kind):
    record = challenge(tmp_path)
    record.with_suffix(".mat").unlink()
    if kind == "directory":
        record.with_suffix(".mat").mkdir()
    with pytest.raises(SignalError, match=r"signal file .*A0001\.mat that A0001\.hea names, got"):
        read_recording(record)


def test_an_unknown_storage_format_is_refused(tmp_path):
    record = write_with_wfdb(tmp_path)
    edit(record, ".dat 16 ", ".dat 999 ")
    with pytest.raises(SignalError, match=r"rec\.hea: expected samples as the header .* from wfdb"):
        read_recording(record)


def not_a_matlab_file(path):
    path.write_bytes(b"hello")


def an_empty_file(path):
    path.write_bytes(b"")


def a_matlab_5_file(path):
    scipy.io.savemat(path, {"val": np.zeros((12, 400), dtype=np.int16)})


def a_matrix_of_doubles(path):
    scipy.io.savemat(path, {"val": np.zeros((12, 400))}, format="4")


def a_transposed_matrix(path):
    scipy.io.savemat(path, {"val": np.zeros((400, 12), dtype=np.int16)}, format="4")


def a_shorter_recording(path):
    scipy.io.savemat(path, {"val": np.zeros((12, 300), dtype=np.int16)}, format="4")


@pytest.mark.parametrize(
    ("spoil", "got"),
    [
        (not_a_matlab_file, "another file"),
        (an_empty_file, "another file"),
        (a_matlab_5_file, "a MATLAB 5 file"),
        (a_matrix_of_doubles, "another file"),
        (a_transposed_matrix, "another file"),
        (a_shorter_recording, "another file"),
    ],
)
def test_a_mat_file_that_is_no_ecg_is_refused(tmp_path, spoil, got):
    record = challenge(tmp_path)
    spoil(record.with_suffix(".mat"))
    with pytest.raises(
        SignalError, match=rf"A0001\.mat: expected an ECG as a MATLAB v4 matrix .* got {got}"
    ):
        read_recording(record)


def test_a_truncated_mat_is_refused(tmp_path):
    record = challenge(tmp_path)
    os.truncate(record.with_suffix(".mat"), 5000)
    with pytest.raises(SignalError, match=r"A0001\.mat: expected 9624 bytes .* truncated"):
        read_recording(record)


def test_samples_that_are_not_the_headers_are_refused(tmp_path):
    record = write_with_wfdb(tmp_path)
    samples = np.fromfile(record.with_suffix(".dat"), "<i2").reshape(-1, 12)
    samples[5, 2] += 1
    samples.tofile(record.with_suffix(".dat"))
    with pytest.raises(SignalError, match=r"add up to the header's checksums, got others in III"):
        read_recording(record)


def test_missing_samples_are_refused(tmp_path):
    signal = np.stack([lead_mv(name) for name in LEADS], axis=1)
    signal[10:13, 7] = np.nan
    record = write_with_wfdb(tmp_path, p_signal=signal)
    assert (np.fromfile(record.with_suffix(".dat"), "<i2") == -32768).sum() == 3
    with pytest.raises(
        SignalError, match=r"rec\.hea: expected finite samples, got 3 missing .* in V2"
    ):
        read_recording(record)


# --- writing --------------------------------------------------------------------------------------


@pytest.fixture
def recording():
    rng = np.random.default_rng(5)
    return Recording(rng.uniform(-4, 4, (12, 500)).astype(np.float32), 100)


def test_a_recording_comes_back_within_half_a_microvolt(tmp_path, recording):
    write_recording(tmp_path / "rec", recording, ["Dx: 59118001", "SYNTHETIC", "Größe: 1"])
    again = read_recording(tmp_path / "rec")
    assert np.abs(again.signal_mv - recording.signal_mv).max() <= 0.000501
    assert again.sampling_rate_hz == 100
    assert read_comments(tmp_path / "rec") == ["Dx: 59118001", "SYNTHETIC", "Größe: 1"]
    write_recording(tmp_path / "twice", again)
    assert_array_equal(read_recording(tmp_path / "twice").signal_mv, again.signal_mv)


def test_wfdb_reads_what_was_written(tmp_path, recording):
    write_recording(tmp_path / "rec", recording, ["Dx: 59118001"])
    record = wfdb.rdrecord(str(tmp_path / "rec"))
    assert tuple(record.sig_name) == LEADS
    assert set(record.fmt) == {"16"}
    assert set(record.adc_gain) == {1000.0}
    assert set(record.baseline) == {0}
    assert set(record.units) == {"mV"}
    assert (record.fs, record.sig_len, record.comments) == (100, 500, ["Dx: 59118001"])
    assert_allclose(record.p_signal.T, recording.signal_mv, atol=0.000501)


@pytest.mark.parametrize("rate", [257.5, 500])
def test_the_rate_comes_back(tmp_path, rate):
    write_recording(tmp_path / "rec", Recording(np.zeros((12, 100)), rate))
    assert read_recording(tmp_path / "rec").sampling_rate_hz == rate


def test_the_extreme_amplitudes_come_back(tmp_path):
    signal = np.zeros((12, 10))
    signal[3, 2], signal[4, 5] = 32.767, -32.767
    write_recording(tmp_path / "rec", Recording(signal, 100))
    assert_allclose(read_recording(tmp_path / "rec").signal_mv, signal, atol=1e-5)


def test_an_older_record_is_replaced(tmp_path, recording):
    write_recording(tmp_path / "rec", Recording(np.zeros((12, 9)), 500), ["old"])
    write_recording(tmp_path / "rec", recording)
    assert read_recording(tmp_path / "rec").n_samples == 500
    assert read_comments(tmp_path / "rec") == []
    assert sorted(os.listdir(tmp_path)) == ["rec.dat", "rec.hea"]


@pytest.mark.parametrize("full_at", ["dat", "hea"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, recording, monkeypatch, full_at):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    name = {"dat": "wfdb.io._signal.wr_dat_file", "hea": "wfdb.io.util.lines_to_file"}[full_at]
    monkeypatch.setattr(name, full)
    with pytest.raises(StorageError, match=r"rec\.hea could not be written \(No space left on"):
        write_recording(tmp_path / "rec", recording)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_the_older_record(tmp_path, recording, monkeypatch):
    write_recording(tmp_path / "rec", recording, ["old"])

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("wfdb.io.util.lines_to_file", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_recording(tmp_path / "rec", Recording(np.zeros((12, 9)), 500))
    assert read_comments(tmp_path / "rec") == ["old"]
    assert read_recording(tmp_path / "rec").n_samples == 500
    assert sorted(os.listdir(tmp_path)) == ["rec.dat", "rec.hea"]


def test_samples_are_there_before_the_header_that_describes_them(tmp_path, recording, monkeypatch):
    seen = []
    replace = os.replace

    def watched(source, target):
        replace(source, target)
        seen.append(sorted(path.name for path in tmp_path.glob("rec.*")))

    monkeypatch.setattr(os, "replace", watched)
    write_recording(tmp_path / "rec", recording)
    assert seen == [["rec.dat"], ["rec.dat", "rec.hea"]]


def test_a_missing_folder_is_refused(tmp_path, recording):
    with pytest.raises(StorageError, match=r"none/rec\.hea could not be written \(No such file"):
        write_recording(tmp_path / "none" / "rec", recording)


@pytest.mark.parametrize("name", ["rec.dat", "a b", "é", "a:b"])
def test_a_name_that_wfdb_does_not_allow_is_refused(tmp_path, recording, name):
    with pytest.raises(SignalError, match="expected a record name of letters, digits"):
        write_recording(tmp_path / name, recording)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("comment", ["two\nlines", "rec\r12 100", "# Dx: 1", " blank", "tab\t"])
def test_a_comment_that_would_not_come_back_is_refused(tmp_path, recording, comment):
    with pytest.raises(SignalError, match="expected comments of one printable line"):
        write_recording(tmp_path / "rec", recording, ["good", comment])
    assert os.listdir(tmp_path) == []


def test_an_amplitude_that_sixteen_bits_do_not_hold_is_refused(tmp_path):
    signal = np.zeros((12, 10))
    signal[7, 3] = -40
    with pytest.raises(SignalError, match=r"up to 32.767 mV, got 40 mV in lead V2; check the unit"):
        write_recording(tmp_path / "rec", Recording(signal, 100))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("rate", [10, 100_000])
def test_a_rate_that_would_not_be_read_is_not_written(tmp_path, rate):
    with pytest.raises(SignalError, match="rec: expected a sampling rate from 50 to 32000 Hz"):
        write_recording(tmp_path / "rec", Recording(np.zeros((12, 5)), rate))


# --- real files -----------------------------------------------------------------------------------


def test_ptbxl_is_read_as_its_files_say(real_data):
    paths = sorted(real_data.glob("ptbxl/records100/00000/*.hea"))[:40]
    assert paths
    for path in paths:
        recording = read_recording(path.with_suffix(""))
        # The files hold microvolts, leads in our order: no reader is needed to know them.
        microvolts = np.fromfile(path.with_suffix(".dat"), "<i2").reshape(-1, 12).T
        assert_allclose(recording.signal_mv, microvolts / 1000, atol=1e-6)
        assert (recording.sampling_rate_hz, recording.n_samples) == (100, 1000)
        assert limb_lead_disagreement_mv(recording.signal_mv) < 0.003


def test_the_challenge_layout_is_read_as_scipy_reads_it(real_data):
    paths = sorted(real_data.glob("icbeb/challenge/*.hea"))[:20]
    assert paths
    for path in paths:
        recording = read_recording(path.with_suffix(""))
        microvolts = scipy.io.loadmat(path.with_suffix(".mat"))["val"]
        assert_allclose(recording.signal_mv, microvolts / 1000, atol=2e-6)
        assert recording.sampling_rate_hz == 500
        assert any(comment.startswith("Dx:") for comment in read_comments(path.with_suffix("")))


def test_a_real_recording_survives_writing(real_data, tmp_path):
    path = sorted(real_data.glob("icbeb/challenge/*.hea"))[0]
    recording = read_recording(path.with_suffix(""))
    write_recording(tmp_path / "copy", recording, read_comments(path.with_suffix("")))
    assert_allclose(read_recording(tmp_path / "copy").signal_mv, recording.signal_mv, atol=1e-6)


def test_the_room_imports_no_reader_and_no_plotter_until_asked():
    heavy = {"wfdb", "neurokit2", "matplotlib", "torch"}
    code = f"import sys, ecgtransfer.signals; print(*({heavy!r} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == []
