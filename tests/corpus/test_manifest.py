import dataclasses
from importlib.resources import files

import pytest

from ecgtransfer.corpus import load_manifest, manifest
from ecgtransfer.errors import ManifestError

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
    with pytest.raises(ManifestError, match=r"no mimic\.toml among the manifests"):
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
    with pytest.raises(ManifestError, match="states no licence"):
        dataclasses.replace(load_manifest("ptbxl"), licence="")


@pytest.mark.parametrize("change", [{"record_count": 0}, {"sampling_rates_hz": (0,)}])
def test_a_manifest_with_an_impossible_number_is_refused(change):
    with pytest.raises(ManifestError, match="positive record count and positive sampling rates"):
        dataclasses.replace(load_manifest("ptbxl"), **change)
