"""What counts as a class in the words of the outside judge; none of it needs the judge itself."""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks import outside_judge
from benchmarks.outside_judge import (
    CANDIDATES,
    CHOSEN,
    CLASSES,
    NOTHING,
    Judged,
    LeadReading,
    Reading,
    Share,
    choose,
    compared,
    confusion,
    draw,
    late_level_mv,
    lead_reading,
    one_threaded_judge,
    patients_of,
    read,
    read_all,
    require_readable,
    verdict,
)
from ecgtransfer.corpus import ECGSet, label_space
from ecgtransfer.signals import Recording
from ecgtransfer.simulation import SOURCE_HOSPITAL, simulate
from ecgtransfer.statistics import (
    Estimate,
)

NAMES = label_space("icbeb9").names


def lead(rhythm="sinus", qrs=90.0, pr=160.0, ventricular=0):
    return LeadReading(rhythm, qrs, pr, ventricular)


def reading(ii=None, v1=None, late=-0.3):
    return Reading(ii or lead(), v1 or lead(), late)


def called(found):
    return {name for name in CLASSES if CANDIDATES[name][CHOSEN[name]](found)}


#: A reading that is called by exactly this class.
TYPICAL = {
    "NORM": reading(),
    "AFIB": reading(lead("afib", pr=None)),
    "1AVB": reading(lead("avb", pr=220.0)),
    "CLBBB": reading(lead("bbb", qrs=150.0), lead(qrs=160.0), late=-0.6),
    "CRBBB": reading(lead("bbb", qrs=130.0), lead(qrs=150.0), late=0.4),
    "PVC": reading(lead(ventricular=1)),
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_typical_reading_is_called_by_its_class_alone(name):
    assert called(TYPICAL[name]) == {name}


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (reading(lead(pr=200.0)), {"NORM"}),
        (reading(lead(pr=201.0)), {"NORM", "1AVB"}),
        (reading(lead("avb", pr=None)), {"1AVB"}),
        (reading(lead(qrs=119.0)), {"NORM"}),
        (reading(lead(qrs=120.0)), set()),
        (reading(lead(qrs=None, pr=None), lead(qrs=None, pr=None), late=None), {"NORM"}),
        (reading(v1=lead(ventricular=2)), {"NORM", "PVC"}),
        (reading(v1=lead("afib")), {"NORM"}),
        (reading(v1=lead(qrs=120.0), late=0.2), {"NORM", "CRBBB"}),
        (reading(v1=lead(qrs=119.0), late=0.2), {"NORM"}),
        (reading(v1=lead(qrs=150.0), late=-0.2), {"NORM"}),
        (reading(lead("bbb"), late=0.0), set()),
        (reading(lead("bbb"), late=None), set()),
        (reading(lead("paced")), set()),
        (reading(lead("unknown", qrs=None, pr=None)), set()),
    ],
)
def test_limits_of_the_criteria(found, names):
    assert called(found) == names


@pytest.mark.parametrize(
    ("name", "words", "found", "holds"),
    [
        ("AFIB", "rhythm afib in II or V1", reading(v1=lead("afib")), True),
        ("AFIB", "rhythm afib in II and V1", reading(v1=lead("afib")), False),
        ("AFIB", "rhythm afib in V1", reading(lead("afib")), False),
        ("PVC", "a ventricular beat in II and V1", reading(lead(ventricular=1)), False),
        ("PVC", "a ventricular beat in V1", reading(v1=lead(ventricular=1)), True),
    ],
)
def test_criteria_that_were_not_chosen_mean_what_they_say(name, words, found, holds):
    assert CANDIDATES[name][words](found) is holds


def test_every_class_has_a_chosen_criterion_among_its_candidates():
    assert tuple(CANDIDATES) == tuple(CHOSEN) == CLASSES
    assert all(CHOSEN[name] in CANDIDATES[name] for name in CLASSES)


def test_the_late_level_is_that_of_the_second_half_of_qrs_against_the_level_before():
    signal = np.full(200, 0.2)
    signal[100:110], signal[110:120] = 1.2, -0.3
    assert late_level_mv(signal, [(100, 120)], 500) == pytest.approx(-0.5)
    assert late_level_mv(signal + 3, [(100, 120)], 500) == pytest.approx(-0.5)
    assert late_level_mv(-signal, [(100, 120)], 500) == pytest.approx(0.5)


def test_the_late_level_is_the_median_beat_and_leaves_out_beats_at_the_ends():
    signal = np.zeros(400)
    spans = [(5, 25), (100, 120), (200, 220), (300, 320), (380, 400)]
    for (start, end), level in zip(spans, (9.0, 1.0, 2.0, 7.0, 9.0), strict=True):
        signal[start:end] = level
    assert late_level_mv(signal, spans, 500) == pytest.approx(2.0)
    assert late_level_mv(signal, [spans[0], spans[-1]], 500) is None
    assert late_level_mv(signal, [], 500) is None


REPORT = {
    "rhythm": {"label": "afib"},
    "intervals_ms": {"qrs_duration": 92.0, "pr": None},
    "beats": {"vpc_count": 3},
    "flags": ["tachycardia"],
}


def test_a_report_is_read():
    assert lead_reading(REPORT) == LeadReading("afib", 92.0, None, 3)
    assert lead_reading(REPORT | {"intervals_ms": {}}) == LeadReading("afib", None, None, 3)


@pytest.mark.parametrize("flag", ["codec_error:RuntimeError", "codec_unavailable"])
def test_a_report_whose_network_failed_stops(flag):
    with pytest.raises(RuntimeError, match=f"the judge's network failed: {flag}"):
        lead_reading(REPORT | {"flags": ["tachycardia", flag]})


def test_records_are_drawn_by_class_and_norm_alone():
    labels = np.zeros((40, 9), dtype=bool)
    labels[:30, NAMES.index("NORM")] = True
    labels[20:40, NAMES.index("PVC")] = True
    drawn = draw(labels, NAMES, CLASSES, most=15, seed=0)
    assert [len(drawn[name]) for name in CLASSES] == [15, 0, 0, 0, 0, 15]
    assert drawn["NORM"].max() < 20
    assert drawn["PVC"].min() >= 20
    assert all(np.array_equal(rows, np.unique(rows)) for rows in drawn.values())
    everyone = draw(labels, NAMES, CLASSES, most=300, seed=0)
    assert everyone["NORM"].tolist() == list(range(20))


def test_draws_depend_on_the_seed_and_not_on_other_classes():
    labels = np.ones((200, 9), dtype=bool)
    both = draw(labels, NAMES, ("AFIB", "PVC"), most=20, seed=3)
    assert np.array_equal(both["PVC"], draw(labels, NAMES, ("PVC",), most=20, seed=3)["PVC"])
    assert not np.array_equal(both["PVC"], draw(labels, NAMES, ("PVC",), most=20, seed=4)["PVC"])
    assert not np.array_equal(both["PVC"], both["AFIB"])


def test_a_set_without_the_classes_or_of_another_length_is_refused():
    with pytest.raises(SystemExit, match="got one without CLBBB, PVC; prepare it with --labels"):
        require_readable(("NORM", "AFIB", "1AVB", "CRBBB"), 10.0)
    with pytest.raises(SystemExit, match=r"expected records of 10 s.*, got 8 s; prepare"):
        require_readable(NAMES, 8.0)
    require_readable(NAMES, 10.0)


def test_a_share_of_all_has_wilsons_interval_in_closed_form():
    z2 = 1.959963985**2
    told = Share(10, 10, 10.0).to_dict()
    assert told["share"] == {"value": 1.0, "low": round(1 / (1 + z2 / 10), 3), "high": 1.0}
    assert (told["called"], told["records"]) == (10, 10)
    # Two records of each patient: an interval of five.
    assert Share(10, 10, 5.0).to_dict()["share"]["low"] == round(1 / (1 + z2 / 5), 3)


def test_a_difference_is_newcombes_published_one():
    # Newcombe 1998, table II, method 10: 56/70 - 48/80.
    found = Share(56, 70, 70.0).minus(Share(48, 80, 80.0))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    wider = Share(56, 70, 70.0).minus(Share(48, 80, 80.0), comparisons=6)
    assert wider.low < found.low < found.high < wider.high


@pytest.mark.parametrize(
    ("difference", "adjusted", "words"),
    [
        ((0.0, -0.09, 0.09), (0.0, -0.12, 0.12), "within 10 points"),
        ((0.0, -0.10, 0.05), (0.0, -0.12, 0.08), "undecided"),
        ((0.0, -0.05, 0.10), (0.0, -0.08, 0.12), "undecided"),
        ((-0.2, -0.28, -0.12), (-0.2, -0.31, -0.09), "undecided"),
        ((-0.3, -0.38, -0.22), (-0.3, -0.41, -0.19), "beyond 10 points"),
        ((0.3, 0.22, 0.38), (0.3, 0.19, 0.41), "beyond 10 points"),
    ],
)
def test_the_verdict_is_of_the_whole_interval(difference, adjusted, words):
    assert verdict(Estimate(*difference), Estimate(*adjusted)) == words


def side(share_called, records=40, patients=None):
    """`records` records of each class alone, of which that share looks typical of its class.

    The others of each class look like NORM, those of NORM like AFIB.
    """
    labels, readings, drawn = [], [], {}
    for name in CLASSES:
        drawn[name] = np.arange(len(labels), len(labels) + records)
        for number in range(records):
            labels.append([each == name for each in NAMES])
            typical = number < round(share_called * records)
            other = "AFIB" if name == "NORM" else "NORM"
            readings.append(TYPICAL[name if typical else other])
    names = np.arange(len(labels)) if patients is None else patients
    return Judged(np.array(labels), NAMES, names, readings, drawn)


def test_generated_records_are_compared_with_real_ones_class_by_class():
    found = compared(side(0.9), side(0.4))
    assert tuple(found) == CLASSES
    for name in CLASSES:
        told = found[name]
        assert told["criterion"] == CHOSEN[name]
        assert (told["real"]["called"], told["real"]["records"]) == (36, 40)
        assert (told["generated"]["called"], told["generated"]["records"]) == (16, 40)
        assert told["generated minus real"]["value"] == -0.5
        assert told["verdict"] == "beyond 10 points"
    # 4 of 40 of each of the five other classes look like NORM, 4 NORM records like AFIB.
    assert found["NORM"]["real others"]["called"] == 20
    assert found["AFIB"]["real others"]["called"] == 4
    assert found["PVC"]["real others"]["called"] == 0
    assert found["NORM"]["real others"]["records"] == 200
    assert found["NORM"]["real minus real others"]["value"] == 0.8


def test_records_that_look_alike_are_within_ten_points_once_there_are_enough():
    few, many = (compared(side(0.9, n), side(0.9, n)) for n in (40, 300))
    assert {told["verdict"] for told in few.values()} == {"undecided"}
    assert {told["verdict"] for told in many.values()} == {"within 10 points"}


def test_records_of_one_patient_count_as_one():
    apart, shared = (
        compared(side(0.9, 40, patients), side(0.9))["PVC"]["real"]["share"]
        for patients in (None, np.arange(240) // 4)
    )
    assert apart["value"] == shared["value"]
    assert shared["high"] - shared["low"] > 1.5 * (apart["high"] - apart["low"])


def test_a_class_of_fewer_than_ten_records_is_not_tested():
    few = compared(side(0.9), side(0.9, 9))["CLBBB"]
    assert few["verdict"] == "not tested: fewer than 10 records"
    assert few["generated"] is None
    assert "generated minus real" not in few
    assert few["real"]["records"] == 40


def test_what_else_records_are_called():
    told = confusion(side(0.75))
    assert told["CLBBB"] == dict.fromkeys(CLASSES, 0.0) | {"CLBBB": 0.75, "NORM": 0.25}
    assert told["NORM"] == dict.fromkeys(CLASSES, 0.0) | {"NORM": 0.75, "AFIB": 0.25}


def test_the_criterion_that_separates_best_is_taken_and_of_equals_the_first():
    found = choose(side(0.8))
    afib = found["AFIB"]["own, others, own minus others"]
    # Eight NORM records look like AFIB; no record does so in V1.
    assert afib["rhythm afib in II"] == [0.8, 0.04, 0.76]
    assert afib["rhythm afib in V1"] == [0.0, 0.0, 0.0]
    assert afib["rhythm afib in II or V1"] == [0.8, 0.04, 0.76]
    assert found["AFIB"]["taken"] == "rhythm afib in II"
    assert found["CRBBB"]["taken"].startswith("rhythm bbb in II, second half of QRS in V1 positive")
    assert (found["PVC"]["records"], found["PVC"]["others"]) == (40, 200)


def test_too_few_records_choose_no_criterion():
    with pytest.raises(SystemExit, match="expected 10 records with and without NORM, got fewer"):
        choose(side(0.9, 9))


@pytest.mark.parametrize("package", ["onnxruntime", "openecg"])
def test_a_missing_package_is_named_in_a_sentence(package, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=rf"needs the package {package}.*not installed.*\[bench"):
        one_threaded_judge()


def test_the_judge_runs_in_one_thread(monkeypatch):
    runtime, deploy = ModuleType("onnxruntime"), ModuleType("openecg.deploy")
    runtime.SessionOptions = lambda: SimpleNamespace(intra_op_num_threads=0, inter_op_num_threads=0)
    session = runtime.InferenceSession = lambda path, sess_options=None: (path, sess_options)
    deploy.OnnxCodec = lambda: runtime.InferenceSession("network")
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setitem(sys.modules, "openecg", ModuleType("openecg"))
    monkeypatch.setitem(sys.modules, "openecg.deploy", deploy)
    path, settings = one_threaded_judge()
    assert path == "network"
    assert (settings.intra_op_num_threads, settings.inter_op_num_threads) == (1, 1)
    assert runtime.InferenceSession is session


def set_of(*recordings):
    """What `read` needs of a set."""
    return SimpleNamespace(recording=lambda number: recordings[number])


FLAT = Recording(np.zeros((12, 1000), np.float32), 100)


def test_a_record_is_read_in_its_leads_at_the_rate_of_the_judge(monkeypatch):
    (recording,), _ = simulate([("CRBBB",)], SOURCE_HOSPITAL, seed=0)
    seen = []

    class Network:
        def encode(self, signal, fs):
            seen.append(signal)
            assert fs == 500
            spans = [(0, 100, 0), (100, 150, 2), (150, 300, 3), (1000, 1050, 4)]
            return SimpleNamespace(events=lambda layer: spans if layer == "frame" else None)

    def report(signal, fs, model):
        model.encode(signal, fs=fs)
        told = REPORT | {"beats": {"vpc_count": len(seen)}}
        return SimpleNamespace(to_dict=lambda: told)

    package, evaluation = ModuleType("openecg"), ModuleType("openecg.eval")
    package.report = report
    package.detect_qrs = lambda signal, fs: [0] if np.ptp(signal) else []
    evaluation.ALL_SUPER_QRS_CLASSES = (2, 4)
    monkeypatch.setitem(sys.modules, "openecg", package)
    monkeypatch.setitem(sys.modules, "openecg.eval", evaluation)
    found = read(set_of(recording), 0, Network())
    assert (found.ii.ventricular_beats, found.v1.ventricular_beats) == (1, 2)
    for signal, name in zip(seen, ("II", "V1"), strict=True):
        assert len(signal) == 5000
        assert np.corrcoef(signal[::5][50:-50], recording.lead_mv(name)[50:-50])[0, 1] > 0.99
    expected = late_level_mv(seen[1], [(100, 150), (1000, 1050)], 500)
    assert found.late_qrs_v1_mv == pytest.approx(expected)
    assert read(set_of(FLAT), 0, Network()) == Reading(NOTHING, NOTHING, None)


def test_a_record_without_a_patient_is_one_of_its_own():
    table = pd.DataFrame({"name": ["a", "b", "c", "d"], "patient": ["7", None, "7", np.nan]})
    assert patients_of(table).tolist() == ["7", "b", "7", "d"]
    assert patients_of(table.assign(patient=None)).tolist() == ["a", "b", "c", "d"]


def test_readings_that_are_kept_are_not_made_again(ecgset, tmp_path, monkeypatch):
    monkeypatch.setattr(outside_judge, "version", lambda name: "0")
    made = []

    def counted(opened, number, judge):
        made.append(number)
        return TYPICAL[CLASSES[number % 6]]

    monkeypatch.setattr(outside_judge, "read", counted)
    first = read_all(ecgset, [3, 1], "judge", tmp_path / "work")
    again = read_all(ecgset, [1, 2, 3], "judge", tmp_path / "work")
    assert made == [3, 1, 2]
    assert first == [TYPICAL[CLASSES[number]] for number in (3, 1)]
    assert again == [TYPICAL[CLASSES[number]] for number in (1, 2, 3)]
    read_all(ecgset, [1], "judge", None)
    monkeypatch.setattr(outside_judge, "version", lambda name: "1")
    read_all(ecgset, [1], "judge", tmp_path / "work")
    assert made == [3, 1, 2, 1, 1]


def test_the_program_reads_what_it_draws_and_writes_what_it_found(
    ecgset, tmp_path, monkeypatch, capsys
):
    ours = [NAMES.index(name) for name in CLASSES]

    def by_label(opened: ECGSet, number: int, judge: object) -> Reading:
        assert judge == "judge"
        stated = [NAMES[column] for column in ours if opened.labels[number][column]]
        return TYPICAL[stated[0]] if stated else reading(lead("unknown"))

    monkeypatch.setattr(outside_judge, "one_threaded_judge", lambda: "judge")
    monkeypatch.setattr(outside_judge, "read", by_label)
    monkeypatch.setattr(outside_judge, "version", lambda name: "0")
    monkeypatch.setattr(outside_judge, "FEWEST", 1)
    to = tmp_path / "found.json"
    folder = str(ecgset.folder)
    monkeypatch.setattr(
        sys, "argv", ["outside_judge.py", "--real", folder, "--generated", folder, "--to", str(to)]
    )
    outside_judge.main()
    found = json.loads(to.read_text())
    assert json.loads(capsys.readouterr().out) == found
    assert found["real"]["set"] == ecgset.folder.name
    assert folder not in to.read_text()
    (generated,) = found["generated"]
    labels = np.asarray(ecgset.labels)
    told = generated["classes"]["AFIB"]
    with_it = int(labels[:, NAMES.index("AFIB")].sum())
    assert told["real"] == told["generated"]
    assert told["real"]["records"] == told["real"]["called"] == with_it > 0
    assert told["real others"]["called"] == 0
    assert told["real others"]["records"] == len(labels) - with_it


@pytest.mark.parametrize("more", [[], ["--choose", "--generated", "set"]])
def test_the_program_wants_a_generated_set_or_a_choice(more, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["outside_judge.py", "--real", "set", *more])
    with pytest.raises(SystemExit, match="2"):
        outside_judge.main()
    assert "give either --generated or --choose" in capsys.readouterr().err


def test_the_judge_itself_finds_simulated_bundle_branch_blocks():
    for package in ("onnxruntime", "openecg"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    judge = one_threaded_judge()
    recordings, _ = simulate([("CLBBB",), ("CRBBB",)] * 2, SOURCE_HOSPITAL, seed=0)
    found = [read(set_of(*recordings), number, judge) for number in range(4)]
    assert all(each.late_qrs_v1_mv < 0 for each in found[::2])
    assert all(each.late_qrs_v1_mv > 0 for each in found[1::2])
    assert all(each.ii.qrs_ms is not None and each.v1.qrs_ms > 100 for each in found)
    assert read(set_of(FLAT), 0, judge) == Reading(NOTHING, NOTHING, None)
