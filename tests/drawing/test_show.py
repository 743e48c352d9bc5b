import json

import numpy as np
import pandas as pd
import pytest

from ecgtransfer.corpus import LabelSpace, write_ecgset
from ecgtransfer.drawing import show as module
from ecgtransfer.drawing import show_record, show_recording, show_set
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import Recording, expand_leads, write_recording

BPM = 75


@pytest.fixture
def signal_uv():
    """Eight leads with a narrow complex of 1 mV every 0.8 s: 75 beats a minute."""
    time_s = np.arange(1000) / 100
    beats = sum(np.exp(-0.5 * ((time_s - beat) / 0.02) ** 2) for beat in np.arange(0.4, 10, 0.8))
    gains = np.array([700, 1000, -800, -1200, 400, 1100, 1300, 900])
    return np.rint(gains[:, None] * beats).astype(np.int16)


@pytest.fixture
def clinic(tmp_path, signal_uv):
    """Four recorded records, of which one states nothing."""
    records = pd.DataFrame(
        {
            "name": ["a", "b", "c", "d"],
            "patient": ["p", "p", "q", "r"],
            "fold": [1, 1, 2, None],
            "age": [40.0, 47.0, 90.0, None],
            "sex": ["male", "male", "female", None],
            "device": ["AT-6", "AT-6", "CS", "CS"],
        }
    )
    labels = np.array([[1, 0], [1, 1], [1, 1], [0, 0]], np.float32)
    return write_ecgset(
        tmp_path / "clinic",
        np.stack([signal_uv] * 4),
        labels,
        records,
        LabelSpace(("CRBBB", "PAC")),
        100,
        "recorded",
        {"corpus": {"name": "own", "version": "", "licence": "CC BY 4.0", "url": ""}},
    )


def words_of(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures = []
    save = module.save_drawing
    monkeypatch.setattr(
        module, "save_drawing", lambda figure, path: (figures.append(figure), save(figure, path))
    )
    return figures


def test_a_record_is_told_in_words(clinic):
    shown = show_record(clinic, "b", None)
    assert (shown.labels, shown.age, shown.sex) == (("CRBBB", "PAC"), 47.0, "male")
    assert shown.heart_rate_bpm == pytest.approx(BPM, abs=1)
    assert (shown.seconds, shown.sampling_rate_hz, shown.origin) == (10.0, 100, "recorded")
    assert shown.lowest_mv == pytest.approx(-1.2, abs=0.001)
    assert shown.highest_mv == pytest.approx(1.3, abs=0.001)
    assert (shown.flat_leads, shown.saturated_leads) == ((), ())
    nothing = show_record(clinic, "d", None)
    assert (nothing.labels, nothing.age, nothing.sex, nothing.drawing) == ((), None, None, None)


def test_the_reported_disagreement_of_limb_leads_is_told(clinic):
    report = {"disagreements_uv": {"b": 812.5}}
    (clinic.folder / "report.json").write_text(json.dumps(report))
    assert show_record(clinic, "b", None).limb_lead_disagreement_uv == 812.5
    assert show_record(clinic, "a", None).limb_lead_disagreement_uv is None
    (clinic.folder / "report.json").write_text("[]")
    assert show_record(clinic, "b", None).limb_lead_disagreement_uv is None


def test_the_sheet_has_labels_rate_and_who_it_is(tmp_path, clinic, drawn):
    show_record(clinic, "b", tmp_path / "b.png")
    words = words_of(drawn[0])
    assert "b: CRBBB, PAC    75/min    47 years    male" in words
    assert "25 mm/s    10 mm/mV    100 Hz" in words
    assert module.SYNTHETIC not in words


def test_a_sheet_of_a_record_that_is_no_patients_says_so(tmp_path, ecgset, drawn):
    show_record(ecgset, str(ecgset.records.name[0]), tmp_path / "s.svg", layout="12x1")
    assert "SYNTHETIC, not for diagnosis" in words_of(drawn[0])


def test_a_set_is_told_in_numbers(clinic):
    shown = show_set(clinic)
    assert (shown.records, shown.patients, shown.unlabelled) == (4, 3, 1)
    assert (shown.samples, shown.seconds, shown.sampling_rate_hz) == (1000, 10.0, 100)
    assert shown.labels == {"CRBBB": 3, "PAC": 2}
    assert shown.combinations == {"CRBBB+PAC": 2, "CRBBB": 1}
    assert shown.folds == {"1": 2, "2": 1, "not stated": 1}
    assert shown.sexes == {"female": 1, "male": 2, "not stated": 1}
    assert shown.ages == {"40-49": 2, "90-99": 1, "not stated": 1}
    assert shown.median_age == 47
    assert shown.devices == {"AT-6": 2, "CS": 2}
    assert shown.source == "own, CC BY 4.0"


def test_a_set_that_states_little_is_told_too(tmp_path, signal_uv):
    bare = write_ecgset(
        tmp_path / "bare",
        signal_uv[None],
        np.zeros((1, 1), np.float32),
        pd.DataFrame({"name": ["x"]}),
        LabelSpace(("NORM",)),
        100,
        "simulated",
    )
    shown = show_set(bare, tmp_path / "bare.svg")
    assert (shown.folds, shown.sexes, shown.devices) == ({}, {}, {})
    assert (shown.ages, shown.median_age, shown.source) == ({"not stated": 1}, None, None)
    assert (shown.unlabelled, shown.labels) == (1, {"NORM": 0})
    assert shown.drawing.stat().st_size > 1000


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_a_set_is_one_page(tmp_path, clinic, drawn, ending):
    show_set(clinic, tmp_path / f"page{ending}")
    (figure,) = drawn
    bars, ages, *strips = figure.axes
    assert [bar.get_width() for bar in bars.patches] == [3, 2]
    assert [bar.get_height() for bar in ages.patches] == [2, 1, 1]
    # One record a label, the first that states it alone where there is one.
    assert [axes.get_title(loc="left") for axes in strips] == ["CRBBB   (a, II)", "PAC   (b, II)"]
    assert (tmp_path / f"page{ending}").stat().st_size > 1000


def test_strips_of_a_page_are_drawn_to_scale(tmp_path, clinic, drawn):
    show_set(clinic, tmp_path / "page.pdf")
    (figure,) = drawn
    strip = figure.axes[2]
    start, second, millivolt = strip.transData.transform([(0, 0), (1, 0), (0, 1)])
    assert (second - start)[0] / figure.dpi * 25.4 == pytest.approx(25)
    assert (millivolt - start)[1] / figure.dpi * 25.4 == pytest.approx(10)
    lead_ii = clinic.signals_mv(0)[0, 1, :481]
    assert strip.lines[0].get_ydata() == pytest.approx(lead_ii - np.median(lead_ii))


def test_a_page_of_a_synthetic_set_says_so(tmp_path, ecgset, drawn):
    show_set(ecgset, tmp_path / "page.png")
    assert "SYNTHETIC, not for diagnosis" in [text.get_text() for text in drawn[0].texts]


def test_a_page_that_cannot_be_written_is_told(tmp_path, clinic):
    with pytest.raises(CorpusError, match=r"could not be written .*; give a path ending in"):
        show_set(clinic, tmp_path / "page.txt")


# --- WFDB records as they were recorded ----------------------------------------------------------


@pytest.fixture
def recordings(tmp_path, signal_uv):
    """One record in a folder, two of one name in others."""
    twelve = expand_leads(signal_uv / 1000).astype(np.float32)
    twelve[5] += 0.25  # an aVF of another amplifier
    comments = ["Age: 74", "Sex: Female", "Dx: 59118001,284470004,999999"]
    for name in ("g1/A0001", "g1/A0002", "g2/A0002"):
        path = tmp_path / "wfdb" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_recording(path, Recording(twelve, 100), comments)
    return tmp_path / "wfdb"


@pytest.mark.parametrize("name", ["A0001", "g1/A0001"])
def test_a_wfdb_record_is_found_by_name_and_by_path(tmp_path, recordings, name, drawn):
    shown = show_recording(recordings, name, tmp_path / "a.pdf")
    assert shown.labels == ("CRBBB", "PAC", "999999")
    assert (shown.age, shown.sex, shown.origin) == (74.0, "female", "recorded")
    assert shown.heart_rate_bpm == pytest.approx(BPM, abs=1)
    assert shown.limb_lead_disagreement_uv == pytest.approx(250, abs=1)
    assert any(word.startswith(f"{name}: CRBBB, PAC, 999999") for word in words_of(drawn[0]))


def test_a_name_that_is_no_records_or_that_of_two_is_refused(tmp_path, recordings):
    with pytest.raises(
        CorpusError, match=r"one WFDB record 'nobody' below .* got 0; give its path"
    ):
        show_recording(recordings, "nobody", None)
    with pytest.raises(CorpusError, match=r"got 2 \(.*g1/A0002, .*g2/A0002\); give its path"):
        show_recording(recordings, "A0002", None)
    with pytest.raises(CorpusError, match=r"no folder .*; give a prepared set or a folder of WFDB"):
        show_recording(tmp_path / "none", "A0001", None)


def test_a_record_that_cannot_be_read_is_told(recordings):
    (recordings / "g1/A0001.dat").unlink()
    with pytest.raises(SignalError, match=r"A0001\.dat"):
        show_recording(recordings, "A0001", None)
