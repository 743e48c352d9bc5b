import base64
import csv
import hashlib
import json
import struct
import zlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, binomtest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from ecgtransfer.corpus import (
    LabelSpace,
    SetPart,
    join_sets,
    label_space,
    microvolts,
    write_ecgset,
)
from ecgtransfer.drawing import draw_recording, save_drawing
from ecgtransfer.errors import ConfigError, CorpusError, RunError, StorageError
from ecgtransfer.evaluation.blind import (
    BlindTest,
    ReaderScore,
    kit,
    score_blind_test,
    write_blind_test,
)
from ecgtransfer.evaluation.blind.agreement import cohen_kappa, fleiss_kappa
from ecgtransfer.evaluation.blind.figures import describe_blind_test, reader_table
from ecgtransfer.evaluation.blind.result import (
    CLEAR,
    ENOUGH_RECORDS,
    NEAR_CHANCE,
    chance_of_no_difference,
)
from ecgtransfer.simulation import SOURCE_HOSPITAL, TARGET_HOSPITAL, simulate_ecgset
from ecgtransfer.statistics import (
    proportion,
)
from ecgtransfer.storage import exclusive_lock
from tests.evaluation.round_trip import through_a_card

N = 3


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Simulated records of two hospitals that stand for recorded and for generated ones."""
    folder = tmp_path_factory.mktemp("sets")
    space = label_space("icbeb9")
    return [
        simulate_ecgset(folder / hospital.name, hospital, n, 4, space)
        for hospital, n in ((SOURCE_HOSPITAL, 60), (TARGET_HOSPITAL, 80))
    ]


@pytest.fixture(scope="module")
def drawn(sets, tmp_path_factory):
    """A blind test with its drawings."""
    folder = tmp_path_factory.mktemp("blind") / "test"
    return write_blind_test(*sets, folder, N, seed=5)


@pytest.fixture
def undrawn(monkeypatch):
    """Empty files in place of drawings, for tests of all the rest."""
    monkeypatch.setattr(kit, "draw_recording", lambda *args, **kwargs: None)
    monkeypatch.setattr(kit, "save_drawing", lambda figure, path: path.write_bytes(b""))


@pytest.fixture
def large(sets, undrawn, tmp_path):
    """A blind test of 40 and 40 ECGs."""
    return write_blind_test(*sets, tmp_path / "large", 40, seed=6)


def unsealed(folder):
    return zlib.decompress(base64.b64decode((folder / "key.sealed").read_bytes()))


def truth_of(folder):
    return {ecg.name: ecg for ecg in kit.open_key(folder)}


def fill_in(folder, answer, name="answers.csv", **columns):
    """Write a sheet: `answer` and each column map the name of an ECG to a cell."""
    columns = {"synthetic": answer, **columns}
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        sheet = csv.writer(file)
        sheet.writerow(["ecg", *columns])
        for ecg in truth_of(folder):
            sheet.writerow([ecg, *(cell(ecg) for cell in columns.values())])
    return folder / name


def all_knowing(folder):
    truth = truth_of(folder)
    return lambda ecg: "yes" if truth[ecg].synthetic else "no"


def coin(folder, seed, chance=0.5):
    rng = np.random.default_rng(seed)
    faces = {ecg: "yes" if rng.random() < chance else "no" for ecg in truth_of(folder)}
    return faces.__getitem__


def chunks(png):
    """(kind, bytes) of each part of a PNG file."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    place, found = 8, []
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        found.append((png[place + 4 : place + 8], png[place + 8 : place + 8 + length]))
        place += length + 12
    return found


# The folder


def test_the_folder_holds_drawings_a_sheet_a_key_and_a_page_for_the_reader(drawn):
    names = [f"{number:03d}" for number in range(1, 2 * N + 1)]
    assert {path.name for path in drawn.folder.iterdir()} == {
        *(f"{name}.png" for name in names),
        "answers.csv",
        "key.sealed",
        "README.txt",
    }
    with (drawn.folder / "answers.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["ecg", "synthetic", "confidence", "remarks"]
    assert rows == [[name, "", "", ""] for name in names]
    readme = (drawn.folder / "README.txt").read_text()
    for words in ("001.png to 006.png", "real patients", "Do not pass", "Do not use any of them"):
        assert words in readme
    assert list(drawn.folder.parent.iterdir()) == [drawn.folder]


def test_nothing_but_the_trace_tells_a_generated_ecg_from_a_recorded_one(drawn, sets):
    parts = {path: chunks(path.read_bytes()) for path in drawn.folder.glob("*.png")}
    assert len(parts) == 2 * N
    headers = {json.dumps([(str(k), str(v)) for k, v in p if k != b"IDAT"]) for p in parts.values()}
    assert len(headers) == 1  # size, colours, resolution and the name of the drawing program
    assert len({path.stat().st_mtime for path in drawn.folder.iterdir()}) == 1
    names = {str(name) for ecgset in sets for name in ecgset.records.name}
    for path in drawn.folder.iterdir():
        written = path.read_bytes()
        assert not any(name.encode() in written for name in names)
        if path.suffix == ".png":
            assert b"SYNTHETIC" not in written
        else:
            assert b"seed" not in written


def test_drawings_are_of_the_records_that_the_key_names(drawn, sets):
    key = kit.open_key(drawn.folder)
    record = json.loads(unsealed(drawn.folder))["ecgs"][0]
    source = sets[1] if record["synthetic"] else sets[0]
    number = int(source.records.index[source.records.name == record["record"]][0])
    again = drawn.folder.parent / "again.png"
    save_drawing(draw_recording(source.recording(number), "ECG 001"), again)
    assert again.read_bytes() == (drawn.folder / "001.png").read_bytes()
    again.unlink()
    assert key[0].labels == source.label_space.decode(source.labels[number])


def test_the_key_opens_to_the_truth_and_is_not_read_by_accident(large, sets):
    truth = json.loads(unsealed(large.folder))["ecgs"]
    assert Counter(ecg["synthetic"] for ecg in truth) == {True: 40, False: 40}
    for ecg in truth:
        source = sets[1] if ecg["synthetic"] else sets[0]
        (number,) = source.records.index[source.records.name == ecg["record"]]
        assert ecg["labels"] == list(source.label_space.decode(source.labels[number]))
    assert len({ecg["record"] for ecg in truth}) == 80
    sealed = (large.folder / "key.sealed").read_bytes()
    assert not any(word in sealed for word in (b"synthetic", b"true", b"source", b"AFIB"))
    sha256 = hashlib.sha256(sealed).hexdigest()
    assert large.key_sha256 == sha256
    assert f"SHA-256 of key.sealed: {sha256}" in (large.folder / "README.txt").read_text()


def test_order_is_by_chance_and_by_the_seed(sets, undrawn, tmp_path):
    orders = [
        [ecg.synthetic for ecg in kit.open_key(test.folder)]
        for test in (
            write_blind_test(*sets, tmp_path / str(place), 20, seed=seed)
            for place, seed in enumerate((1, 1, 2))
        )
    ]
    assert orders[0] == orders[1] != orders[2]
    assert 0 < sum(orders[0][:20]) < 20


def test_generated_ecgs_have_the_labels_of_recorded_ones(large):
    labels = {True: Counter(), False: Counter()}
    for ecg in truth_of(large.folder).values():
        labels[ecg.synthetic][ecg.labels] += 1
    assert large.matched >= 30
    assert sum((labels[True] & labels[False]).values()) >= large.matched


def other_set(folder, ecgset, names, n=6, patients=None, origin="simulated", rate=100, labels=None):
    """Records of a set under another label space."""
    space = ecgset.label_space if labels is None else labels
    return write_ecgset(
        folder,
        microvolts(ecgset.independent_mv(slice(n))),
        np.stack([space.encode(row) for row in names]),
        pd.DataFrame(
            {
                "name": [f"r{i}" for i in range(n)],
                "patient": patients or [f"p{i}" for i in range(n)],
            }
        ),
        space,
        rate,
        origin,
    )


def test_labels_are_matched_by_name_then_by_a_shared_one_then_not_at_all(sets, undrawn, tmp_path):
    reordered = LabelSpace(tuple(reversed(label_space("icbeb9").names)))
    mine = [["AFIB"], ["PVC"], ["NORM"], ["NORM"], ["CRBBB"], ["STD_"]]
    real = other_set(tmp_path / "real", sets[0], mine)
    theirs = [["AFIB"], ["PVC", "STD_"], ["NORM"], ["CLBBB"], ["PAC"], ["STE_"]]
    made = other_set(tmp_path / "made", sets[1], theirs, labels=reordered)
    test = write_blind_test(real, made, tmp_path / "test", 2, seed=1)
    assert test.matched == 2
    ecgs = truth_of(test.folder).values()
    assert {ecg.labels for ecg in ecgs} == {("AFIB",), ("NORM",)}
    test = write_blind_test(real, made, tmp_path / "more", 3, seed=1)
    assert test.matched == 2
    assert ("STD_", "PVC") in {ecg.labels for ecg in truth_of(test.folder).values()}
    test = write_blind_test(real, made, tmp_path / "all", 6, seed=1)
    assert test.matched == 2


def test_a_patient_is_drawn_once(sets, undrawn, tmp_path):
    real = other_set(
        tmp_path / "real", sets[0], [["NORM"]] * 6, patients=["a", "a", "a", "b", "b", "c"]
    )
    test = write_blind_test(real, sets[1], tmp_path / "test", 3, seed=1)
    records = [e["record"] for e in json.loads(unsealed(test.folder))["ecgs"] if not e["synthetic"]]
    assert {("aaabbc")[int(record[1:])] for record in records} == {"a", "b", "c"}
    with pytest.raises(CorpusError, match="there are 3 patients"):
        write_blind_test(real, sets[1], tmp_path / "more", 4, seed=1)


def test_recorded_ecgs_are_drawn_among_those_that_may_be(sets, undrawn, tmp_path):
    among = [3, 9, 27, 41]
    test = write_blind_test(*sets, tmp_path / "test", 4, seed=1, among=among)
    ecgs = [ecg for ecg in json.loads(unsealed(test.folder))["ecgs"] if not ecg["synthetic"]]
    assert {ecg["record"] for ecg in ecgs} == set(sets[0].records.name[among])
    with pytest.raises(CorpusError, match="there are 4 patients"):
        write_blind_test(*sets, tmp_path / "more", 5, seed=1, among=among)
    for outside in ([0, 60], [-1, 3], [0.5, 2], []):
        with pytest.raises(CorpusError, match=r"record indices of .* from 0 to 59"):
            write_blind_test(*sets, tmp_path / "more", 1, seed=1, among=outside)


def test_progress_is_told(sets, undrawn, tmp_path):
    told = []
    write_blind_test(
        *sets, tmp_path / "test", 2, seed=1, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_broken_off_folder_is_not_there(sets, undrawn, tmp_path, monkeypatch):
    def stop(figure, path):
        if path.name == "003.png":
            raise KeyboardInterrupt
        path.write_bytes(b"")

    monkeypatch.setattr(kit, "save_drawing", stop)
    with pytest.raises(KeyboardInterrupt):
        write_blind_test(*sets, tmp_path / "test", 2, seed=1)
    assert list(tmp_path.iterdir()) == []

    def full(figure, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kit, "save_drawing", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_blind_test(*sets, tmp_path / "test", 2, seed=1)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_a_blind_test_is_refused(sets, undrawn, tmp_path):
    real, made = sets
    with pytest.raises(ConfigError, match="at least 1 ECG of each kind, got 0"):
        write_blind_test(real, made, tmp_path / "test", 0, seed=1)
    with pytest.raises(ConfigError, match="layout of 3x4, 12x1, got '6x2'"):
        write_blind_test(real, made, tmp_path / "test", 1, seed=1, layout="6x2")
    with pytest.raises(CorpusError, match=r"asked for 61 .* 60 patients and 80 generated"):
        write_blind_test(real, made, tmp_path / "test", 61, seed=1)
    recorded = other_set(tmp_path / "recorded", real, [["NORM"]] * 6, origin="recorded")
    generated = other_set(tmp_path / "generated", made, [["NORM"]] * 6, origin="generated")
    both = [SetPart(real, np.array([0])), SetPart(generated, np.array([0]))]
    mixed = join_sets(tmp_path / "mixed", both, real.label_space)
    swapped = ((generated, made), (real, recorded), (generated, recorded), (mixed, made))
    for first, second in (*swapped, (real, mixed)):
        with pytest.raises(CorpusError, match="expected a recorded and then a generated set"):
            write_blind_test(first, second, tmp_path / "test", 1, seed=1)
    faster = other_set(tmp_path / "faster", made, [["NORM"]] * 6, rate=200)
    with pytest.raises(CorpusError, match="1000 samples at 100 Hz and 1000 at 200 Hz"):
        write_blind_test(real, faster, tmp_path / "test", 1, seed=1)
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="taken exists already; choose another folder"):
        write_blind_test(real, made, tmp_path / "taken", 1, seed=1)
    with exclusive_lock(tmp_path / "test"), pytest.raises(RunError, match="another process"):
        write_blind_test(real, made, tmp_path / "test", 1, seed=1)
    assert not (tmp_path / "test").exists()


# The score


def test_an_all_knowing_reader_is_always_right(drawn):
    sheet = fill_in(drawn.folder, all_knowing(drawn.folder), "answers-anna.csv")
    (reader,) = score_blind_test(drawn.folder).readers
    sheet.unlink()
    assert reader.reader == "anna"
    assert (reader.sensitivity.value, reader.specificity.value, reader.accuracy.value) == (1, 1, 1)
    assert reader.sentence().startswith(
        "anna could tell generated from recorded ECGs: accuracy 1.00 "
    )


def test_sensitivity_is_of_the_generated_and_specificity_of_the_recorded(large):
    """Says yes to all but 10 recorded ones; intervals are the exact ones of scipy."""
    truth = truth_of(large.folder)
    spared = [name for name, ecg in truth.items() if not ecg.synthetic][:10]
    fill_in(large.folder, lambda ecg: "no" if ecg in spared else "yes")
    score = score_blind_test(large.folder)
    (reader,) = score.readers
    assert reader.reader == "answers"
    for found, hits, total in (
        (reader.sensitivity, 40, 40),
        (reader.specificity, 10, 40),
        (reader.accuracy, 50, 80),
    ):
        exact = binomtest(hits, total).proportion_ci(0.95, method="exact")
        assert (found.value, found.low, found.high) == (hits / total, exact.low, exact.high)
    assert score.agreement is None
    counts = Counter(label for ecg in truth.values() for label in ecg.labels)
    right = Counter(
        label
        for name, ecg in truth.items()
        for label in ecg.labels
        if ecg.synthetic or name in spared
    )
    assert reader.by_label == {
        label: proportion(right[label], counts[label]) for label in sorted(counts)
    }


def test_a_coin_could_not_tell_them_apart(large):
    told = []
    for seed in range(120):
        fill_in(large.folder, coin(large.folder, seed))
        (reader,) = score_blind_test(large.folder).readers
        told.append(reader)
    assert np.mean([r.accuracy.low <= 0.5 <= r.accuracy.high for r in told]) >= 0.93
    assert np.mean(["could tell" in r.sentence() for r in told]) <= 0.07
    near = min(told, key=lambda r: abs(r.accuracy.value - 0.5))
    assert near.sentence().startswith(
        "answers could not tell generated from recorded ECGs: accuracy 0.50 [0.39, 0."
    )


@pytest.mark.parametrize(
    ("right", "words"),
    [
        (60, "answers could tell generated from recorded ECGs: accuracy 0.75"),
        (20, "answers could tell the ECGs apart, but took each kind for the other: accuracy 0.25"),
        (46, "It is open whether answers can tell generated from recorded ECGs: accuracy 0.57 "),
    ],
)
def test_sentences_say_what_intervals_allow(right, words, large):
    truth = truth_of(large.folder)
    order = sorted(truth, key=lambda ecg: hashlib.sha256(ecg.encode()).hexdigest())
    correct = set(order[:right])
    fill_in(large.folder, lambda e: "yes" if truth[e].synthetic == (e in correct) else "no")
    (reader,) = score_blind_test(large.folder).readers
    assert reader.accuracy.value == right / 80
    assert reader.sentence().startswith(words)


def test_who_answers_generated_ecgs_alone_has_shown_nothing(large):
    """35 generated and 5 recorded answered, all with yes: right 35 times of 40, by no skill."""
    truth = truth_of(large.folder)
    synthetic = [name for name, ecg in truth.items() if ecg.synthetic][:35]
    recorded = [name for name, ecg in truth.items() if not ecg.synthetic][:5]
    fill_in(large.folder, lambda ecg: "yes" if ecg in synthetic + recorded else "")
    (reader,) = score_blind_test(large.folder).readers
    assert (reader.answered, reader.unanswered, reader.chance) == (40, 40, 35 / 40)
    assert reader.accuracy.low > 0.5
    assert "could tell" not in reader.sentence()
    assert reader.sentence().endswith("over 40 ECGs, 40 unanswered.")


def test_a_side_without_answers_has_no_score(large):
    truth = truth_of(large.folder)
    fill_in(large.folder, lambda ecg: "yes" if truth[ecg].synthetic else "")
    (reader,) = score_blind_test(large.folder).readers
    assert reader.specificity is None
    assert reader.sensitivity.value == 1
    assert "could tell" not in reader.sentence()


def test_confidence_orders_the_answers(large):
    truth = truth_of(large.folder)
    rng = np.random.default_rng(3)
    answers, levels = coin(large.folder, 4), rng.integers(1, 6, 80)
    confidence = dict(zip(truth, levels, strict=True))
    fill_in(large.folder, answers, confidence=confidence.__getitem__)
    (reader,) = score_blind_test(large.folder).readers
    rating = [(1 if answers(ecg) == "yes" else -1) * confidence[ecg] for ecg in truth]
    reference = roc_auc_score([ecg.synthetic for ecg in truth.values()], rating)
    assert reader.auroc.value == pytest.approx(reference)
    assert reader.auroc.low < reference < reader.auroc.high
    fill_in(large.folder, answers, confidence=lambda ecg: "" if ecg == "001" else 3)
    assert score_blind_test(large.folder).readers[0].auroc is None


def test_agreement_of_two_readers_is_cohens(large):
    truth = truth_of(large.folder)
    first, second = coin(large.folder, 1), coin(large.folder, 2, 0.7)
    mixed = lambda ecg: first(ecg) if int(ecg) % 3 else second(ecg)  # noqa: E731
    fill_in(large.folder, first, "answers-anna.csv")
    fill_in(large.folder, lambda ecg: "" if ecg == "007" else mixed(ecg), "answers-ben.csv")
    score = score_blind_test(large.folder)
    both = [ecg for ecg in truth if ecg != "007"]
    reference = cohen_kappa_score([first(e) for e in both], [mixed(e) for e in both])
    assert [reader.reader for reader in score.readers] == ["anna", "ben"]
    assert score.compared == 79
    assert score.agreement.value == pytest.approx(reference)
    assert score.agreement.low < reference < score.agreement.high
    assert "Agreement of the 2 readers over 79 ECGs: Cohen's kappa" in str(score)


def test_cohens_kappa_under_weights_is_that_of_scikit_learn():
    rng = np.random.default_rng(5)
    a, b = rng.random((2, 40)) < 0.4
    weights = rng.integers(0, 4, (20, 40))
    reference = [cohen_kappa_score(a, b, sample_weight=row) for row in weights]
    assert cohen_kappa(a, b, weights) == pytest.approx(reference)
    assert np.isnan(cohen_kappa(np.ones(5), np.ones(5), np.ones((1, 5)))).all()


def test_fleiss_kappa_is_that_of_a_published_table():
    """Fourteen raters of ten subjects in five categories (Wikipedia, Fleiss' kappa)."""
    counts = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    assert fleiss_kappa(counts, np.ones((1, 10))) == pytest.approx([0.20993], abs=1e-5)
    twice = np.concatenate([counts, counts[:1]])
    assert fleiss_kappa(twice, np.ones((1, 11))) == pytest.approx(
        fleiss_kappa(counts, [[2, *[1] * 9]])
    )


def test_agreement_of_three_readers_is_fleiss(large):
    readers = [coin(large.folder, seed) for seed in (1, 2, 3)]
    for name, answer in zip("abc", readers, strict=True):
        fill_in(large.folder, answer, f"answers-{name}.csv")
    score = score_blind_test(large.folder)
    yes = np.array([sum(r(ecg) == "yes" for r in readers) for ecg in truth_of(large.folder)])
    reference = fleiss_kappa(np.column_stack([yes, 3 - yes]), np.ones((1, 80)))
    assert score.agreement.value == pytest.approx(reference[0])
    assert score.agreement.low < 0 < score.agreement.high
    assert "Fleiss' kappa" in score.sentences()[-1]


def test_readers_who_always_say_the_same_have_no_kappa(large):
    for name in "ab":
        fill_in(large.folder, lambda ecg: "yes", f"answers-{name}.csv")
    score = score_blind_test(large.folder)
    assert score.agreement is None
    assert "cannot be computed" in score.sentences()[-1]


def test_sheets_of_spreadsheets_are_read(large):
    """Numbers without their zeros, semicolons, capitals, spaces, quotes over lines, old letters."""
    answer = all_knowing(large.folder)
    lines = ["ECG;Synthetic ;Remarks"]
    lines += [
        f'{int(ecg)};{answer(ecg).upper()} ;"T wave\nodd: \xe4"' for ecg in truth_of(large.folder)
    ]
    sheet = large.folder / "answers-excel.csv"
    sheet.write_bytes("\r\n".join([*lines, ";;", ""]).encode("latin-1"))
    (reader,) = score_blind_test(large.folder).readers
    assert (reader.accuracy.value, reader.answered) == (1, 80)


def test_named_files_are_scored_wherever_they_lie(large, tmp_path):
    fill_in(large.folder, all_knowing(large.folder))
    elsewhere = tmp_path / "carl.csv"
    (large.folder / "answers.csv").rename(elsewhere)
    score = score_blind_test(large.folder, [elsewhere])
    assert [reader.reader for reader in score.readers] == ["carl"]


def test_a_score_is_told_in_a_table_and_read_back_from_its_card(large):
    fill_in(large.folder, coin(large.folder, 1), "answers-a.csv", confidence=lambda ecg: 3)
    fill_in(large.folder, all_knowing(large.folder), "answers-b.csv")
    score = score_blind_test(large.folder)
    header, *rows = reader_table(score).texts()
    assert header == ("measure", "a", "b")
    assert {len(row) for row in rows} == {3}
    assert ("unanswered", "0", "0") in rows
    assert ("AUROC by confidence", str(score.readers[0].auroc), "") in rows
    again = through_a_card(score)
    assert again == score
    assert again.readers[1].sensitivity.value == 1
    assert again.readers[1].auroc is None
    assert "Cohen's kappa" in again.sentences()[-1]
    assert through_a_card(large) == large
    assert describe_blind_test(large)["recorded"] == 40
    assert "40 recorded and 40 generated" in str(large)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ecg,remarks\n001,x\n", "needs the columns ecg and synthetic .* add synthetic"),
        ("", "needs the columns ecg and synthetic once each, it has none"),
        ("ecg,synthetic\n081,yes\n", "row 2: unknown ECG '081'; expected one of 001 to 080"),
        ("ecg,synthetic\n001,yes\n001,no\n", "row 3: ECG 001 comes twice"),
        ("ecg,synthetic\n001,maybe\n", "expected yes, no or nothing in synthetic, got 'maybe'"),
        ("ecg,synthetic,confidence\n001,yes,6\n", "expected 1 to 5 or nothing in confidence"),
        ("ecg,synthetic\n001,\n", "expected answers in"),
        ('ecg,synthetic\n001,"' + "x" * 200_000, "is not a CSV file"),
    ],
)
def test_bad_sheets_are_refused(text, message, large):
    sheet = large.folder / "answers-x.csv"
    sheet.write_text(text)
    with pytest.raises(CorpusError, match=message):
        score_blind_test(large.folder)


def test_what_cannot_be_scored_is_refused(large, tmp_path):
    with pytest.raises(CorpusError, match="no filled-in answer sheet"):
        score_blind_test(large.folder)
    with pytest.raises(CorpusError, match="no such answer sheet"):
        score_blind_test(large.folder, [tmp_path / "none.csv"])
    with pytest.raises(CorpusError, match="no blind test in"):
        score_blind_test(tmp_path)
    sheet = fill_in(large.folder, all_knowing(large.folder))
    with pytest.raises(CorpusError, match="two sheets of a reader answers"):
        score_blind_test(large.folder, [sheet, sheet])
    with pytest.raises(ConfigError, match="at least 2 resamples"):
        score_blind_test(large.folder, resamples=1)


def test_a_changed_key_is_refused(large):
    fill_in(large.folder, all_knowing(large.folder))
    key, readme = large.folder / "key.sealed", large.folder / "README.txt"
    sealed, page = key.read_bytes(), readme.read_text()
    truth = json.loads(unsealed(large.folder))
    for ecg in truth["ecgs"]:
        ecg["synthetic"] = not ecg["synthetic"]
    key.write_bytes(kit._seal(truth))
    with pytest.raises(CorpusError, match="is not the key that was written"):
        score_blind_test(large.folder)
    key.write_bytes(sealed)
    readme.write_text("SHA-256 of nothing")
    with pytest.raises(CorpusError, match="does not state the SHA-256"):
        score_blind_test(large.folder)
    for content, message in (
        (b"no key\n", "is not the key of a blind test"),
        (kit._seal({"format": "ecgtransfer.blind", "format_version": 9}), "this program reads"),
    ):
        key.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        readme.write_text(page.replace(large.key_sha256, sha256))
        with pytest.raises(CorpusError, match=message):
            score_blind_test(large.folder)


@pytest.mark.parametrize("ecgs", [0, 1, 40, 81])
def test_the_chance_to_find_no_difference_is_that_of_all_numbers_of_right_answers(ecgs):
    """Counted by the very intervals that judge a reader."""
    expected = 0.0
    for right in range(ecgs + 1):
        found = proportion(right, ecgs)
        if found is not None and found.low <= 0.5 <= found.high <= 0.5 + NEAR_CHANCE:
            expected += binom.pmf(right, ecgs, 0.5)
    assert chance_of_no_difference(ecgs) == pytest.approx(expected, abs=1e-12)


def test_enough_records_are_the_fewest_that_clear_a_set_nobody_can_tell_apart():
    chances = [chance_of_no_difference(2 * n) for n in range(ENOUGH_RECORDS, ENOUGH_RECORDS + 20)]
    assert min(chances) >= CLEAR
    assert chance_of_no_difference(40) == pytest.approx(0.42, abs=0.005)


def test_a_test_that_is_too_small_says_so(tmp_path):
    few, enough = (BlindTest(tmp_path, n, 3, 0, "0" * 64) for n in (20, 50))
    assert few.warning() == (
        "20 ECGs of each kind are few: even if no one can distinguish the kinds, only 42 % of "
        "readings would show it; use 48 of each for 80 %."
    )
    assert str(few).endswith(few.warning())
    assert enough.warning() == ""
    assert str(enough).endswith("key 000000000000")
    assert describe_blind_test(few)["chance_to_find_no_difference"] == pytest.approx(few.power)


def test_an_open_answer_of_few_ecgs_says_how_little_they_could_show():
    def reader(answered, right):
        accuracy = proportion(right, answered)
        return ReaderScore("anna", None, None, accuracy, None, {}, answered, 0, 0.5).sentence()

    assert reader(40, 21).endswith(
        " With 40 ECGs, even if no one can distinguish the kinds, only 42 % of readings show it; "
        "with 96, 80 % do."
    )
    assert reader(100, 58).startswith("It is open")
    assert reader(100, 58).endswith("over 100 ECGs.")
    assert reader(40, 38).startswith("anna could tell generated from recorded ECGs")
    assert "even if no one" not in reader(40, 38)
