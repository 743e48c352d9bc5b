"""The reader and the arithmetic of benchmarks/delineation.py, on records with known marks."""

import json

import numpy as np
import pytest
import wfdb

from benchmarks import delineation as page
from ecgtransfer.signals import LEADS, limb_lead_disagreement_mv
from ecgtransfer.simulation import SOURCE_HOSPITAL, simulate

RATE_HZ = 500
P_MS, QRS_MS, QT_MS = 160, 90, 400


def write_ludb(folder, names=("1", "3"), late_ms=(), without_p=()):
    """Simulated records as LUDB has them, with marks at fixed distances from the true R peaks.

    Returns the R peaks by name. Lead k is marked `late_ms[k]` late; every lead spans 1 mV by the
    header's gain, as in LUDB.
    """
    data = folder / "ludb" / "data"
    data.mkdir(parents=True)
    recordings, truths = simulate([["NORM"]] * len(names), SOURCE_HOSPITAL, 4, RATE_HZ)
    peaks = {}
    for name, recording, truth in zip(names, recordings, truths, strict=True):
        digital = np.rint(1000 * recording.signal_mv).astype(np.int64)
        wfdb.wrsamp(
            name,
            fs=RATE_HZ,
            units=["mV"] * 12,
            sig_name=[lead.lower() for lead in LEADS],
            d_signal=digital.T,
            fmt=["16"] * 12,
            adc_gain=np.ptp(digital, axis=1).astype(float).tolist(),
            baseline=[3] * 12,
            comments=["Rhythm: Sinus rhythm."],
            write_dir=str(data),
        )
        inside = truth.beat_times_s[(truth.beat_times_s > 0.5) & (truth.beat_times_s < 9.3)]
        peaks[name] = inside
        for row, lead in enumerate(LEADS):
            late = late_ms[row] if len(late_ms) else 0
            marks = []
            for r in 1000 * inside + late:
                onset = r - 40
                if name not in without_p:
                    marks += [(onset - P_MS, "("), (onset - P_MS + 40, "p"), (onset - 80, ")")]
                marks += [(onset, "("), (r, "N"), (onset + QRS_MS, ")")]
                marks += [(r + 200, "("), (r + 280, "t"), (onset + QT_MS, ")")]
            samples = np.rint([ms * RATE_HZ / 1000 for ms, _ in marks]).astype(np.int64)
            # wfdb writes no extension with a digit.
            wfdb.wrann(name, "lead", samples, [kind for _, kind in marks], write_dir=str(data))
            (data / f"{name}.lead").rename(data / f"{name}.{lead.lower()}")
    return peaks


def test_marks_and_millivolts_are_read_as_written(tmp_path):
    peaks = write_ludb(tmp_path)
    patients = page.read_all(tmp_path)
    assert [patient.name for patient in patients] == ["1", "3"]
    for patient in patients:
        assert limb_lead_disagreement_mv(patient.recording.signal_mv) < 0.0021
        np.testing.assert_allclose(patient.marks.r_s, peaks[patient.name], atol=0.0011)
        assert not patient.paced
        for reading in page.READINGS:
            found = {name: each[reading] for name, each in patient.marks.intervals_ms().items()}
            assert found == pytest.approx({"pr": P_MS, "qrs": QRS_MS, "qt": QT_MS}, abs=2.1)


def test_global_intervals_reach_from_the_earliest_to_the_latest_lead(tmp_path):
    # Lead k is marked 2 k ms late: onsets span 22 ms, those of all but the outermost leads 18.
    write_ludb(tmp_path, names=("1",), late_ms=2 * np.arange(12))
    found = page.read_all(tmp_path)[0].marks.intervals_ms()
    assert found["qrs"] == pytest.approx(
        {"leads": QRS_MS, "second": QRS_MS + 18, "widest": QRS_MS + 22, "lead II": QRS_MS}, abs=2.1
    )
    assert found["pr"]["widest"] == pytest.approx(P_MS, abs=2.1)


def test_a_record_without_p_marks_has_no_pr(tmp_path):
    write_ludb(tmp_path, names=("1",), without_p=("1",))
    patients = page.read_all(tmp_path)
    found = patients[0].marks.intervals_ms()
    assert np.isnan(found["pr"]["leads"])
    assert np.isfinite(found["qt"]["leads"])
    assert page.unmarked_p(patients, RATE_HZ) == {"records": 1, "pr_stated": 1}


def test_a_mark_takes_the_nearest_peak_and_a_peak_one_mark():
    marks = np.array([1.0, 2.0, 3.0])
    # Before the first and after the last mark nothing counts; 2.04 belongs to 2.0 alone.
    count, errors = page.match(np.array([0.2, 0.98, 2.04, 2.5, 3.2, 3.9]), marks, 0.05)
    assert count == 3
    np.testing.assert_allclose(errors, [-0.02, 0.04])
    count, errors = page.match(np.array([1.03]), np.array([1.0, 1.06]), 0.05)
    assert (count, len(errors)) == (1, 1)
    assert page.match(np.array([1.0]), np.empty(0), 0.05)[0] == 0


def test_errors_are_summed_up_over_the_records_with_a_mark():
    found = np.array([10.0, 12.0, 14.0, np.nan, 20.0])
    marked = np.array([8.0, 8.0, 8.0, 8.0, np.nan])
    one = page.summary(found, marked)
    assert (one["records"], one["failed"]) == (4, 0.25)
    assert one["median_bias_ms"] == [4.0, 2.0, 6.0]
    assert one["p90_absolute_error_ms"] == pytest.approx(5.6)
    assert page.summary(np.array([np.nan]), np.array([8.0])) == {"records": 1, "failed": 1.0}


def test_our_detector_is_right_about_simulated_hearts_and_the_page_is_json(tmp_path):
    write_ludb(tmp_path)
    result = page.rounded(page.benchmark(page.read_all(tmp_path)))
    for row in result["r_peaks"]["ours"]:
        assert row["within 50 ms"] == {"sensitivity": 1.0, "ppv": 1.0}
        assert row["median_absolute_error_ms"] < 4
    for rate in ("500 Hz", "100 Hz"):
        ours = result["intervals"]["ours"][rate]
        assert ours["qt"]["leads"]["failed"] == 0
        assert abs(ours["qrs"]["leads"]["median_bias_ms"][0]) < 40
    assert set(result["intervals"]) == set(page.DELINEATORS)
    page.show(result)
    assert json.loads(json.dumps(result))["records"] == 2


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="expected records of LUDB"):
        page.read_all(tmp_path)


def test_our_r_peaks_are_those_of_cardiologists(real_data):
    if not (real_data / "ludb").is_dir():
        pytest.skip(f"no LUDB in {real_data}")
    patients = page.read_all(real_data)
    for rate_hz in page.RATES_HZ:
        everyone, unpaced = page.score_detector(patients, page.DETECTORS["ours"], rate_hz)
        assert everyone["within 150 ms"]["sensitivity"] >= 0.99
        assert everyone["within 150 ms"]["ppv"] >= 0.99
        assert unpaced["within 50 ms"]["sensitivity"] >= 0.995
        assert unpaced["within 50 ms"]["ppv"] >= 0.995
        assert everyone["median_absolute_error_ms"] <= 5
