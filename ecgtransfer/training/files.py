"""Weights on disk: safetensors, whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ecgtransfer.errors import RunError


def save_weights(network: nn.Module, path: Path) -> None:
    """The state of a network as safetensors, whole or not at all."""
    write_tensors(
        {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}, path, {}
    )


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill `network` from `save_weights`; RunError where file and network do not match."""
    tensors, _ = read_tensors(path)
    if odd := difference(network, tensors):
        raise RunError(
            f"{path} holds the weights of another network than this configuration describes "
            f"({odd}); use the run folder that it was trained in"
        )
    network.load_state_dict(tensors)


def difference(network: nn.Module, tensors: dict[str, Tensor]) -> str | None:
    """In what tensors are not the state of a network; None where they are."""
    own = {name: t.shape for name, t in network.state_dict().items()}
    held = {name: t.shape for name, t in tensors.items()}
    missing, unknown = own.keys() - held.keys(), held.keys() - own.keys()
    other = {name for name in own.keys() & held.keys() if own[name] != held[name]}
    if not (first := sorted(missing | unknown | other)):
        return None
    return (
        f"{len(missing)} tensors missing, {len(unknown)} unknown, {len(other)} of another shape; "
        f"the first is {first[0]}"
    )


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; RunError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder} could not be made ({error.strerror}); choose another folder"
        ) from None


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place when all is on the disk.

    RunError where the disk is full or closed; then `path` is as it was.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors makes files that nobody else may read
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{path} could not be written ({error}); make room and run the same command again"
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Tensors by name and a few strings as safetensors, whole or not at all."""
    with written_whole(path) as partial:
        save_file(tensors, partial, metadata=metadata)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What `write_tensors` wrote; RunError where it is missing, closed to us or broken."""
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except FileNotFoundError:
        raise RunError(f"expected weights at {path}, found no such file; train first") from None
    except OSError as error:
        raise RunError(f"{path} could not be read ({error}); see to its permissions") from None
    except SafetensorError as error:
        raise RunError(
            f"{path} is not a whole safetensors file ({error}); remove it and run the same "
            f"command again"
        ) from None
