"""Manifests of public data sets: origin, licence, layouts, and files to fetch."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

from ecgtransfer.errors import CorpusError, ManifestError

#: Import package that holds `data_manifests/`.
MANIFEST_PACKAGE = "ecgtransfer_manifests"


@dataclass(frozen=True)
class PartFiles:
    """Files of one kind in a part.

    Attributes:
        paths: published path, in which `*` matches anything except a slash.
        count: number of files.
        bytes_each: approximate size of each.
        optional: whether the files may be missing.
    """

    paths: str
    count: int
    bytes_each: int
    optional: bool = False

    def matches(self, path: str) -> bool:
        """Whether a published path is one of these files."""
        pattern = re.escape(self.paths).replace(r"\*", "[^/]+")
        return re.fullmatch(pattern, path) is not None


@dataclass(frozen=True)
class Part:
    """A part of a data set that can be fetched; parts without a rate belong to every rate."""

    name: str
    sampling_rate_hz: int | None
    files: tuple[PartFiles, ...]


@dataclass(frozen=True)
class Manifest:
    """Facts about one data set (`data_manifests/<name>.toml`).

    Attributes:
        name, title, version, licence, url, citations: as published.
        mirrors: base addresses of the complete data set, with the same files below each.
        checksums_file: path of its SHA-256 list, relative to them.
        record_count: number of records.
        sampling_rates_hz: published sampling rates.
        vocabularies: code systems of its labels.
        layouts: description of each layout by name.
        fetch: parts that can be fetched.

    Raises:
        ManifestError: a text is empty, or a record count or sampling rate is not positive.
    """

    name: str
    title: str
    version: str
    licence: str
    url: str
    citations: tuple[str, ...]
    mirrors: tuple[str, ...]
    checksums_file: str
    record_count: int
    sampling_rates_hz: tuple[int, ...]
    vocabularies: tuple[str, ...]
    layouts: Mapping[str, str]
    fetch: tuple[Part, ...]

    def __post_init__(self) -> None:
        for field in ("name", "title", "version", "licence", "url", "citations", "mirrors"):
            if not getattr(self, field):
                raise ManifestError(f"manifest {self.name!r} has no {field}; fill it in")
        if self.record_count <= 0 or not all(rate > 0 for rate in self.sampling_rates_hz):
            raise ManifestError(
                f"manifest {self.name!r} needs a positive record count and positive sampling "
                f"rates, got {self.record_count} and {list(self.sampling_rates_hz)}"
            )

    def parts(self, sampling_rates_hz: Sequence[int] = ()) -> tuple[Part, ...]:
        """Parts to fetch for some rates, including parts without a rate; default: the first rate.

        Raises:
            CorpusError: the data set is not published at a rate.
        """
        published = [part.sampling_rate_hz for part in self.fetch if part.sampling_rate_hz]
        wanted = set(sampling_rates_hz) or set(published[:1])
        if unknown := sorted(wanted - set(published)):
            raise CorpusError(
                f"{self.name} is published at {' and '.join(map(str, published))} Hz, "
                f"got {unknown[0]}; choose one of these"
            )
        return tuple(part for part in self.fetch if part.sampling_rate_hz in {None, *wanted})


def load_manifest(name: str) -> Manifest:
    """Read the manifest of a data set by name, such as `ptbxl` or `icbeb2018`.

    Raises:
        ManifestError: there is no such manifest, it is not valid TOML, or a key is missing or
            unknown.
    """
    try:
        values: dict[str, Any] = tomllib.loads(manifest_text(f"{name}.toml"))
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"manifest {name!r} is not valid TOML: {error}") from None
    expected = {field.name for field in fields(Manifest)}
    if set(values) != expected:
        raise ManifestError(
            f"manifest {name!r} needs exactly the keys {', '.join(sorted(expected))}; "
            f"missing: {', '.join(sorted(expected - set(values))) or 'none'}, "
            f"unknown: {', '.join(sorted(set(values) - expected)) or 'none'}"
        )
    frozen: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    try:
        frozen["fetch"] = tuple(
            Part(
                name=part["part"],
                sampling_rate_hz=part.get("sampling_rate_hz"),
                files=tuple(PartFiles(**stated) for stated in part["files"]),
            )
            for part in frozen["fetch"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"manifest {name!r} needs parts to fetch, each with part and files, and files with "
            f"paths, count and bytes_each; got another form ({error})"
        ) from None
    return Manifest(**frozen)


def manifest_text(file_name: str) -> str:
    """Text of a file in `data_manifests/`.

    Raises:
        ManifestError: there is no such file, or the manifests are not installed.
    """
    try:
        return files(MANIFEST_PACKAGE).joinpath(file_name).read_text(encoding="utf-8")
    except ModuleNotFoundError:
        raise ManifestError(
            f"the package {MANIFEST_PACKAGE} is missing; install ecgtransfer with pip, "
            "from a wheel or with `pip install -e .`"
        ) from None
    except FileNotFoundError:
        known = sorted(
            path.name
            for path in files(MANIFEST_PACKAGE).iterdir()
            if path.name.endswith(PurePosixPath(file_name).suffix)
        )
        raise ManifestError(
            f"no {file_name} among the manifests; expected one of {', '.join(known)}"
        ) from None
