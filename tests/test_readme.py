"""README and the pages of `docs/`: their commands, code, links, figures and tables."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from ecgtransfer_cli.app import app

import ecgtransfer
from benchmarks import command_reference, results_page
from ecgtransfer.corpus import label_space

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
}


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], flags=re.DOTALL)


PYTHON = [(page, code) for page in PAGES for code in blocks(page, "python")]
COMMANDS = [
    (page, shlex.split(command)[1:])
    for page in PAGES
    for block in blocks(page, "sh")
    for line in block.splitlines()
    for command in line.split("&&")
    if command.strip().startswith("ecgtransfer ")
]


def of_page(page):
    return [words for where, words in COMMANDS if where == page]


def test_the_readme_and_the_guide_have_commands_and_code():
    assert len(README.splitlines()) <= 150
    assert [words[0] for words in of_page("README.md")] == ["demo", "data", "data", "augment"]
    assert len(of_page("docs/guide.md")) >= 20
    assert len(of_page("docs/troubleshooting.md")) >= 5
    assert [page for page, _ in PYTHON] == ["README.md"] + ["docs/guide.md"] * 4


@pytest.mark.parametrize(
    "words",
    [words for _, words in COMMANDS],
    ids=[f"{page}: {' '.join(w)}" for page, w in COMMANDS],
)
def test_every_command_of_the_pages_is_one_that_the_program_takes(words):
    command = typer.main.get_command(app)
    context = command.make_context("ecgtransfer", list(words))
    while True:
        name, command, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert command is not None, name
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "resolve_command"):
            break
    assert not context.args


def test_the_command_reference_is_up_to_date():
    assert PAGES["docs/commands.md"] == command_reference.reference(), (
        "docs/commands.md differs from the help of the program; write it again with "
        "'python benchmarks/command_reference.py'"
    )


def test_the_command_reference_has_every_option_of_every_command():
    page = PAGES["docs/commands.md"]
    for name, command in leaves(typer.main.get_command(app), "ecgtransfer"):
        section = page.split(f"\n## `{name}`\n")[1].split("\n## ")[0]
        options = {option for each in command.params for option in each.opts if "--" in option}
        hidden = {"--source"} if name == "ecgtransfer train" else set()
        assert {"--json", "--quiet"} <= options
        for option in options - hidden - {"--json", "--quiet", "--help"}:
            assert f"`{option}`" in section, (name, option)


def leaves(group, path):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_the_tables_of_the_results_are_those_of_the_benchmarks():
    page = PAGES["docs/results.md"]
    assert re.findall("<!-- table: (.*?) -->", page) == list(results_page.TABLES)
    assert page == results_page.rendered(page), (
        "docs/results.md differs from the JSON files; write it again with "
        "'python benchmarks/results_page.py'"
    )


def test_a_table_that_was_changed_by_hand_is_rendered_again():
    page = PAGES["docs/results.md"]
    changed = page.replace("| CLBBB |", "| LBBB |")
    assert changed != page
    assert results_page.rendered(changed) == page


def test_the_results_are_of_the_model_that_is_shipped():
    scores = json.loads((REPOSITORY / "benchmarks/source_scores.json").read_text())
    model = scores["fold 9, label scale 1"]["model"]
    assert f"fingerprint {model}" in PAGES["docs/results.md"]
    card = (REPOSITORY / "ecgtransfer/pretrained/ptbxl-cascade/README.md").read_text()
    assert f"training {model}" in card


def test_the_readme_and_the_glossary_name_the_nine_classes():
    for name in label_space("icbeb9").names:
        assert f"| {name} |" in README
        assert f"| {name} |" in PAGES["docs/glossary.md"]


def test_the_readme_spells_out_the_method_and_is_no_report():
    assert "TGDP, the *Transfer Guided Diffusion Process*" in README
    assert "ptbxl-nine" not in README


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page):
    folder = (REPOSITORY / page).parent
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if link.startswith("https://"):
            continue
        path, _, heading = link.partition("#")
        target = folder / path if path else REPOSITORY / page
        assert target.exists(), link
        if heading:
            titles = re.findall(
                r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE
            )
            assert heading in {anchor(title) for title in titles}, link


def anchor(title):
    """Anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_the_citation_is_of_this_version_and_has_the_doi_of_the_readme():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"] == ecgtransfer.__version__
    assert citation["license"] == project["license"]
    cited = {each["doi"] for each in citation["references"]}
    assert cited == set(re.findall(r"\[doi:(.*?)\]", README))
    assert len(cited) == 5


@pytest.fixture
def small_transfer(monkeypatch):
    """A transfer and a sampler without training and waiting, whatever is asked for."""
    from ecgtransfer.pipeline import adapted, augmented
    from tests.pipeline.small_run import SAMPLER, transfer_settings

    settings = transfer_settings("source")
    monkeypatch.setattr(adapted, "TransferSettings", lambda **_: settings)
    monkeypatch.setattr(adapted, "SamplerSettings", lambda **_: SAMPLER)
    monkeypatch.setattr(augmented, "ROUNDS", 1)
    monkeypatch.setattr(augmented.GateClassifiers, "fit", lambda *_, **__: _AllPass())
    monkeypatch.setattr(
        augmented, "measure_intervals", lambda signals, *_, **__: [None] * len(signals)
    )
    monkeypatch.setattr("ecgtransfer.evaluation.gate.broken_rules", lambda *_: ())
    monkeypatch.setattr(augmented, "broken_rules", lambda *_: ())


class _AllPass:
    def judge(self, signals, labels, error):
        return [((), None)] * len(signals)


@pytest.mark.parametrize(
    ("page", "code"), PYTHON, ids=[f"{page}-{k}" for k, (page, _) in enumerate(PYTHON)]
)
def test_the_code_of_the_pages_runs(page, code, ecgset, tmp_path, small_transfer):
    names = {}
    given = {
        "sets/clinic": str(ecgset.folder),
        "runs/clinic": str(tmp_path / "run"),
        '"AFIB": 200, "CRBBB+PVC": 20': '"AFIB": 2, "CRBBB+PVC": 1',
        "at_least=200": "at_least=5",
    }
    for text, instead in given.items():
        code = code.replace(text, instead)
    exec(compile(code, page, "exec"), names)
    if "adapted" in names:
        assert len(names["ecgs"]) == 3
        assert names["X"].shape[1:] == (12, 1000)
        assert len(names["X"]) == len(names["y"]) == len(names["groups"]) == len(names["weight"])
        assert not set(names["groups"]) & set(names["adapted"].test().groups)
    elif "signals" in names:
        assert names["signals"].shape == (2, 12, 1000)
    elif "table" in names:
        assert len(names["table"]) == len(ecgset)
        assert set(ecgset.label_space.names) <= set(names["table"].columns)
    elif "loader" in names:
        signals, labels = next(iter(names["loader"]))
        assert (signals.shape, labels.shape) == ((2, 12, 1000), (2, len(ecgset.label_space)))
    else:
        assert "guided" in names
