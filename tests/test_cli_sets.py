"""`data show` and `data export` as they are called."""

import json
import sys

import pytest
from ecgtransfer_cli import main


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the program with some words: its exit code, stdout and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["ecgtransfer", *map(str, words)])
        capsys.readouterr()
        try:
            main.main()
            code = 0
        except SystemExit as end:
            code = end.code
        told = capsys.readouterr()
        return code or 0, told.out, told.err

    return run


def test_a_set_is_shown_and_drawn(call, ecgset, tmp_path):
    code, out, _ = call("data", "show", ecgset.folder, "--out", tmp_path / "all.png")
    assert code == 0
    assert "Records per label" in out
    assert (tmp_path / "all.png").exists()
    _, out, _ = call("data", "show", ecgset.folder, "--json")
    told = json.loads(out)
    assert (told["records"], told["unlabelled"], sum(told["ages"].values())) == (32, 0, 32)


def test_a_record_is_drawn_in_the_layout_asked_for(call, ecgset, tmp_path):
    name = str(ecgset.records.name[0])
    words = ("data", "show", ecgset.folder, name, "--out", tmp_path / "1.svg", "--layout", "12x1")
    code, out, _ = call(*words)
    assert code == 0
    assert "heart rate bpm" in out
    assert 'height="595.2' in (tmp_path / "1.svg").read_text()[:1000]
    code, _, err = call(*words[:-1], "6x2")
    assert code == 2
    assert "3x4 or 12x1" in err


def test_a_set_is_exported_both_ways(call, ecgset, tmp_path):
    words = ("--wfdb", tmp_path / "wfdb", "--croissant", tmp_path / "set.json", "--json")
    code, out, err = call("data", "export", ecgset.folder, *words)
    assert code == 0
    assert json.loads(out)["records"] == 32
    assert "WFDB records: 32 of 32" in err
    assert (tmp_path / "wfdb/labels.csv").exists()
    assert json.loads((tmp_path / "set.json").read_text())["@type"] == "sc:Dataset"


def test_an_export_to_nowhere_is_wrong_use(call, ecgset):
    code, _, err = call("data", "export", ecgset.folder)
    assert code == 2
    assert "expected at least one of these" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("show", "none", "A0001"), "no folder none; give a prepared set"),
        (("show", ".", "A0001"), "expected one WFDB record 'A0001' below"),
        (("export", "none", "--wfdb", "out"), "no ECG set at none"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(call, words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call("data", *words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert sentence in err
