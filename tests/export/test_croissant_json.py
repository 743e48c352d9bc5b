import hashlib
import json

import pytest

from ecgtransfer.corpus import (
    label_space,
    load_manifest,
)
from ecgtransfer.errors import CorpusError, StorageError
from ecgtransfer.export import croissant, write_croissant
from tests.corpus.small_set import PTBXL, make_set


def test_croissant_carries_licence_citation_and_address_of_the_source(tmp_path):
    metadata = croissant(make_set(tmp_path / "set"))
    assert metadata["license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert metadata["url"] == PTBXL["url"]
    assert metadata["version"] == "1.0.3"
    assert metadata["citeAs"] == " ".join(load_manifest("ptbxl").citations)


def test_croissant_invents_no_licence_and_no_citation(tmp_path):
    own = {"name": "ptbxl", "version": "", "licence": "", "url": ""}  # a folder of that name
    for number, source in enumerate((own, None)):
        metadata = croissant(make_set(tmp_path / f"set{number}", source=source))
        assert not {"license", "url", "citeAs", "version"} & set(metadata)
    stated = own | {"licence": "by agreement", "citations": ["Doe 2026"]}
    metadata = croissant(make_set(tmp_path / "set", source=stated))
    assert (metadata["license"], metadata["citeAs"]) == ("by agreement", "Doe 2026")


def test_croissant_says_that_a_synthetic_set_is_one(tmp_path):
    metadata = croissant(make_set(tmp_path / "set", source=None, origin="generated"))
    assert "Synthetic" in metadata["description"]
    assert "not for diagnosis" in metadata["description"]


def test_croissant_names_every_file_with_its_sha256(tmp_path):
    ecgset = make_set(tmp_path / "sets/set")
    (tmp_path / "shared").mkdir()
    write_croissant(ecgset, tmp_path / "shared/set.json")
    metadata = json.loads((tmp_path / "shared/set.json").read_text())
    for entry in metadata["distribution"]:
        content = (tmp_path / "shared" / entry["contentUrl"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert entry["contentSize"] == f"{len(content)} B"
    named = {entry["name"] for entry in metadata["distribution"]}
    assert named == {"signals.npy", "labels.npy", "records.parquet", "card.json"}


def test_croissant_is_written_whole_or_not_at_all(tmp_path):
    ecgset = make_set(tmp_path / "set")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file could not be written .* choose another place"):
        write_croissant(ecgset, tmp_path / "file/x.json")
    write_croissant(ecgset, tmp_path / "new/x.json")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.json"]
    (ecgset.folder / "signals.npy").unlink()
    with pytest.raises(CorpusError, match=r"signals\.npy cannot be read .*; write the set again"):
        write_croissant(ecgset, tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()


@pytest.fixture
def mlcroissant():
    """The library of MLCommons, which judges our metadata; its own imports warn."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import mlcroissant
        except ImportError:
            pytest.skip("mlcroissant is not installed")
    return mlcroissant


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("space", ["icbeb9", "superclasses"])
def test_mlcroissant_validates_and_reads_the_table(tmp_path, mlcroissant, space):
    ecgset = make_set(tmp_path / "set", label_space(space))
    write_croissant(ecgset, tmp_path / "croissant.json")
    dataset = mlcroissant.Dataset(jsonld=tmp_path / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    rows = list(dataset.records("records"))
    assert [row["records/name"] for row in rows] == [b"a", b"b", b"c", b"d"]
    assert [row["records/age"] for row in rows[:3]] == [40, 41, 90]
    labels = list(dataset.records("labels"))
    assert [row["labels/column"] for row in labels] == list(range(len(ecgset.label_space)))
    assert labels[0]["labels/label"] == "NORM"
    assert labels[0]["labels/snomed"] == "426783006"


@pytest.mark.filterwarnings("ignore")
def test_mlcroissant_would_refuse_metadata_that_are_wrong(tmp_path, mlcroissant):
    ecgset = make_set(tmp_path / "set")
    metadata = croissant(ecgset, tmp_path)
    metadata["recordSet"][0]["field"][0]["dataType"] = "sc:Nonsense"
    del metadata["recordSet"][0]["field"][1]["source"]
    (tmp_path / "broken.json").write_text(json.dumps(metadata))
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(jsonld=tmp_path / "broken.json")
