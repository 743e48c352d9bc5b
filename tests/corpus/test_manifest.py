import dataclasses
from importlib.resources import files

import pytest

from ecgtransfer.corpus import load_manifest, manifest
from ecgtransfer.corpus.manifest import PartFiles
from ecgtransfer.errors import CorpusError, ManifestError

NAMES = ["ptbxl", "icbeb2018"]


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_states_source_licence_and_layouts(name):
    stated = load_manifest(name)
    assert stated.name == name
    assert stated.licence == "CC BY 4.0"
    assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in stated.mirrors)
    assert stated.layouts
    assert stated.citations


def test_every_toml_file_is_a_manifest():
    shipped = {path.name for path in files(manifest.MANIFEST_PACKAGE).iterdir()}
    assert {name.removesuffix(".toml") for name in shipped if name.endswith(".toml")} == set(NAMES)


def test_an_unknown_manifest_is_refused():
    expected = r"no mimic\.toml among the manifests; expected one of icbeb2018\.toml, ptbxl\.toml$"
    with pytest.raises(ManifestError, match=expected):
        load_manifest("mimic")


def test_manifests_that_are_not_installed_are_refused(monkeypatch):
    monkeypatch.setattr(manifest, "MANIFEST_PACKAGE", "ecgtransfer_manifests_elsewhere")
    with pytest.raises(ManifestError, match="package ecgtransfer_manifests_elsewhere is missing"):
        load_manifest("ptbxl")


def test_broken_toml_is_refused(monkeypatch):
    monkeypatch.setattr(manifest, "manifest_text", lambda name: "name = ")
    with pytest.raises(ManifestError, match="'ptbxl' is not valid TOML"):
        load_manifest("ptbxl")


def test_a_manifest_without_a_key_is_refused(monkeypatch):
    monkeypatch.setattr(manifest, "manifest_text", lambda name: 'name = "x"\ncolour = "red"\n')
    with pytest.raises(ManifestError, match=r"missing: checksums_file.* unknown: colour"):
        load_manifest("x")


def test_a_manifest_with_an_empty_value_is_refused():
    with pytest.raises(ManifestError, match="has no licence"):
        dataclasses.replace(load_manifest("ptbxl"), licence="")


@pytest.mark.parametrize("change", [{"record_count": 0}, {"sampling_rates_hz": (0,)}])
def test_a_manifest_with_an_impossible_number_is_refused(change):
    with pytest.raises(ManifestError, match="positive record count and positive sampling rates"):
        dataclasses.replace(load_manifest("ptbxl"), **change)


# --- what can be fetched -----------------------------------------------------------------------


def gigabytes(parts):
    return sum(kind.count * kind.bytes_each for part in parts for kind in part.files) / 1e9


@pytest.mark.parametrize("name", NAMES)
def test_every_rate_has_a_part_with_two_files_a_record(name):
    stated = load_manifest(name)
    rates = [part.sampling_rate_hz for part in stated.fetch if part.sampling_rate_hz]
    assert tuple(rates) == stated.sampling_rates_hz
    for part in stated.fetch:
        if part.sampling_rate_hz:
            assert [kind.count for kind in part.files] == [stated.record_count] * 2


def test_the_sizes_are_about_what_is_published():
    ptbxl, icbeb = load_manifest("ptbxl"), load_manifest("icbeb2018")
    assert gigabytes(ptbxl.parts()) == pytest.approx(0.55, rel=0.02)
    assert gigabytes(ptbxl.parts([500])) == pytest.approx(2.64, rel=0.02)
    # The mean of its first 100 records, 203,440 and 613 bytes, times 6,877.
    assert gigabytes(icbeb.parts()) == pytest.approx(1.403, rel=0.02)
    # 10 s of 12 leads in 16 bit
    sizes = {part.name: part.files[0].bytes_each for part in ptbxl.fetch}
    assert (sizes["records100"], sizes["records500"]) == (1000 * 12 * 2, 5000 * 12 * 2)


def test_parts_are_chosen_by_rate():
    ptbxl = load_manifest("ptbxl")
    assert [part.name for part in ptbxl.parts()] == ["tables", "records100"]
    assert [part.name for part in ptbxl.parts([500])] == ["tables", "records500"]
    assert ptbxl.parts([500, 100]) == ptbxl.fetch
    with pytest.raises(CorpusError, match="ptbxl is published at 100 and 500 Hz, got 250"):
        ptbxl.parts([100, 250])


@pytest.mark.parametrize(
    ("paths", "path", "expected"),
    [
        ("records100/*/*_lr.dat", "records100/00000/00001_lr.dat", True),
        ("records100/*/*_lr.dat", "records100/00000/00001_lr_dat", False),
        ("records100/*/*_lr.dat", "records100/00000/deeper/00001_lr.dat", False),
        ("records100/*/*_lr.dat", "copy/records100/00000/00001_lr.dat", False),
        ("ptbxl_database.csv", "ptbxl_database.csv", True),
        ("ptbxl_database.csv", "old/ptbxl_database.csv", False),
        ("training/cpsc_2018/*/*.mat", "training/cpsc_2018/g1/A0001.mat", True),
        ("training/cpsc_2018/*/*.mat", "training/cpsc_2018_extra/g1/Q0001.mat", False),
    ],
)
def test_a_star_stands_for_anything_but_a_slash(paths, path, expected):
    assert PartFiles(paths, 1, 1).matches(path) is expected


@pytest.mark.parametrize(
    "part",
    [
        '[[fetch]]\nname = "all"\nfiles = []\n',
        '[[fetch]]\npart = "all"\n',
        '[[fetch]]\npart = "all"\nfiles = [{ paths = "a", count = 1 }]\n',
        '[[fetch]]\npart = "all"\nfiles = [{ paths = "a", count = 1, bytes_each = 1, of = 2 }]\n',
        'fetch = ["all"]\n',
    ],
)
def test_a_part_of_another_form_is_refused(monkeypatch, part):
    whole = manifest.manifest_text("ptbxl.toml")
    head, _, tail = whole.partition("[layouts]")
    layouts = "[layouts]" + tail.partition("[[fetch]]")[0]
    text = head + layouts + part if part.startswith("[[") else head + part + layouts
    monkeypatch.setattr(manifest, "manifest_text", lambda name: text)
    with pytest.raises(ManifestError, match="needs parts to fetch, each with part and files"):
        load_manifest("ptbxl")
