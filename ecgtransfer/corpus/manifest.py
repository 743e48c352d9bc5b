"""What a public data set is: where it comes from, under which licence, in which layouts."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any

from ecgtransfer.errors import ManifestError

#: Import package that holds `data_manifests/`.
MANIFEST_PACKAGE = "ecgtransfer_manifests"


@dataclass(frozen=True)
class Manifest:
    """The stated facts about one data set (`data_manifests/<name>.toml`).

    `mirrors` are base addresses with the same files below each; `checksums_file` is relative to
    the data set's root there. `layouts` maps the name of a layout to its description.

    Raises:
        ManifestError: an empty text, or a record count or sampling rate that is not positive.
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

    def __post_init__(self) -> None:
        for field in ("name", "title", "version", "licence", "url", "citations", "mirrors"):
            if not getattr(self, field):
                raise ManifestError(f"manifest {self.name!r} states no {field}; fill it in")
        if self.record_count <= 0 or not all(rate > 0 for rate in self.sampling_rates_hz):
            raise ManifestError(
                f"manifest {self.name!r} needs a positive record count and positive sampling "
                f"rates, got {self.record_count} and {list(self.sampling_rates_hz)}"
            )


def load_manifest(name: str) -> Manifest:
    """The manifest of a data set by name, such as `ptbxl` or `icbeb2018`.

    Raises:
        ManifestError: no such manifest, TOML that cannot be read, a key missing or unknown.
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
    return Manifest(**frozen)


def manifest_text(file_name: str) -> str:
    """Text of a file of `data_manifests/`.

    Raises:
        ManifestError: no such file, or the manifests are not installed.
    """
    try:
        return files(MANIFEST_PACKAGE).joinpath(file_name).read_text(encoding="utf-8")
    except ModuleNotFoundError:
        raise ManifestError(
            f"the package {MANIFEST_PACKAGE} is missing; install ecgtransfer with pip, "
            "from a wheel or with `pip install -e .`"
        ) from None
    except FileNotFoundError:
        raise ManifestError(
            f"no {file_name} among the manifests; data_manifests/README.md lists what is there"
        ) from None
