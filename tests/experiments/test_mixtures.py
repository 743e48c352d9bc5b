import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ecgtransfer.errors import ConfigError, DivergedError, RunError
from ecgtransfer.experiments.mixtures import run_study
from ecgtransfer.experiments.study import (
    ABLATION,
    FULL,
    QUICK,
    SCORES,
    Cell,
    Row,
    Study,
    StudySettings,
)
from ecgtransfer.experiments.transfer_methods import METHODS
from ecgtransfer.training.files import read_tensors

SMALL = StudySettings(
    problems=("paper",),
    sizes=(10,),
    seeds=2,
    methods=("exact", "source", "finetune", "consistency"),
    ablated=(),
    steps=2,
    source_steps=3,
    sampler_steps=4,
    generated=60,
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    seen = []
    study = run_study(SMALL, folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)]
    return folder, study


def without_times(cell):
    return replace(
        cell,
        rows=tuple(replace(row, seconds=0.0, selection_seconds=0.0) for row in cell.rows),
    )


def test_every_method_is_scored_on_every_seed(done):
    _, study = done
    assert [cell.seed for cell in study.cells] == [0, 1]
    for cell in study.cells:
        assert [row.method for row in cell.rows] == list(SMALL.methods_in("paper"))
        assert all(set(SCORES) <= set(row.scores) for row in cell.rows)


def test_a_stopped_study_goes_on_and_comes_to_the_same(done, tmp_path):
    folder, study = done
    shutil.copytree(folder, tmp_path / "study")
    for name in ("mixtures.json", "cells/paper-n10-seed1.json", "sources/paper-seed1.safetensors"):
        (tmp_path / "study" / name).unlink()
    seen = []
    again = run_study(SMALL, tmp_path / "study", progress=lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2)]
    assert list(map(without_times, again.cells)) == list(map(without_times, study.cells))


def test_a_finished_study_can_be_given_more_and_keeps_what_it_has(done, tmp_path):
    folder, study = done
    shutil.copytree(folder, tmp_path / "study")
    more = run_study(replace(SMALL, seeds=3), tmp_path / "study")
    assert more.cells[:2] == study.cells
    assert len(more.cells) == 3


def test_a_study_goes_on_elsewhere_from_its_json(done, tmp_path):
    folder, study = done
    for name in ("mixtures.json", "settings.json"):
        shutil.copy(folder / name, tmp_path)
    seen = []
    again = run_study(SMALL, tmp_path, progress=lambda *at: seen.append(at))
    assert seen == [(2, 2)]
    assert again.cells == study.cells


def test_workers_make_the_same_cells(done, tmp_path):
    _, study = done
    beside = run_study(SMALL, tmp_path, workers=2)
    assert list(map(without_times, beside.cells)) == list(map(without_times, study.cells))


def test_a_method_that_diverges_has_no_scores_and_stops_nothing(tmp_path, monkeypatch):
    def diverges(task):
        raise DivergedError("the loss of step 3 is inf")

    monkeypatch.setitem(METHODS, "finetune", replace(METHODS["finetune"], transfer=diverges))
    study = run_study(SMALL, tmp_path)
    (row,) = (row for row in study.table("paper", 10) if row.method == "finetune")
    assert (row.diverged, row.seeds) == (2, 2)
    assert '"diverged": 2' in (tmp_path / "mixtures.json").read_text()


def test_cells_made_otherwise_are_not_mixed_in(done, tmp_path):
    folder, _ = done
    shutil.copytree(folder, tmp_path / "study")
    with pytest.raises(RunError, match="steps = 2, got 5; choose another folder"):
        run_study(replace(SMALL, steps=5), tmp_path / "study")


def test_the_json_has_the_rule_the_tables_and_the_cells(done):
    folder, study = done
    value = json.loads((folder / "mixtures.json").read_text())
    assert "held-out fifth" in value["rule"]
    assert value["methods"].keys() == METHODS.keys()
    assert len(value["cells"]) == 2
    (table,) = value["tables"]
    assert (table["problem"], table["n"]) == ("paper", 10)
    assert [row["method"] for row in table["rows"]] == list(SMALL.methods_in("paper"))
    assert Study.open(folder).cells == study.cells


def test_records_of_the_first_seed_are_kept_for_figures(done):
    folder, _ = done
    tensors, _ = read_tensors(folder / "samples/paper-n10.safetensors")
    assert tensors.keys() == set(SMALL.methods_in("paper"))
    assert all(records.shape == (60, 2) for records in tensors.values())


def scored(seed, value, method="source"):
    scores = dict.fromkeys(SCORES, value) | {"mode_weights": None if value is None else [0.5, 0.5]}
    return Cell("paper", 10, seed, (Row(method, scores, 7, 1.0, 2.0, {}),))


def test_a_table_has_the_t_interval_over_seeds_and_counts_those_that_diverged():
    values = [0.1, 0.2, 0.4]
    cells = [scored(seed, value) for seed, value in enumerate(values)] + [scored(3, None)]
    (row,) = Study(SMALL, tuple(cells)).table("paper", 10)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    found = row.scores["mmd"]
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert (row.diverged, row.seeds, row.parameters) == (1, 4, 7)
    assert row.mode_weights == (0.5, 0.5)


def test_a_method_that_diverged_everywhere_has_no_scores():
    (row,) = Study(SMALL, (scored(0, None), scored(1, None))).table("paper", 10)
    assert set(row.scores.values()) == {None}
    assert row.mode_weights is None
    assert row.diverged == 2


def test_methods_are_compared_seed_by_seed():
    others, ours = [0.5, 0.9, 0.7, None], [0.4, 0.5, 0.6, 0.1]
    cells = []
    for seed, (other, own) in enumerate(zip(others, ours, strict=True)):
        rows = scored(seed, other).rows + scored(seed, own, "tgdp").rows
        cells.append(replace(scored(seed, other), rows=rows))
    source, tgdp = Study(SMALL, tuple(cells)).table("paper", 10)
    differences = [0.1, 0.4, 0.1]
    low, high = stats.t.interval(0.95, 2, np.mean(differences), stats.sem(differences))
    found = source.excess["mmd"]
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(differences), low, high))
    assert tgdp.excess["mmd"].value == 0


def test_the_ablation_runs_where_it_is_asked_for():
    assert set(FULL.methods_in("paper")) - set(FULL.methods_in("separated")) == set(ABLATION)
    assert {"guidance", "consistency", "tgdp"} < set(FULL.methods_in("separated"))
    assert QUICK.cells < 10


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"problems": ("nowhere",)}, "unknown problem 'nowhere'"),
        ({"methods": ("magic",)}, "got 'magic'"),
        ({"problems": ()}, "at least one problem"),
        ({"sizes": (5,)}, "target sizes of at least 10"),
        ({"seeds": 1}, "at least 2 seeds"),
        ({"steps": 0}, "at least 1 training step"),
        ({"generated": 1}, "at least 2 generated records"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        replace(SMALL, **changes)


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"expected a study in .*found no settings.json"):
        Study.open(tmp_path)
    with pytest.raises(ConfigError, match="at least one worker, got 0"):
        run_study(SMALL, tmp_path, workers=0)
