"""Weight files: safetensors, written atomically."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ecgtransfer.errors import RunError, StorageError
from ecgtransfer.storage import atomic_file


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the state of a network as safetensors, atomically.

    Raises:
        StorageError: the file cannot be written.
    """
    write_tensors(
        {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}, path, {}
    )


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the state that `save_weights` wrote into a network.

    Raises:
        RunError: the file is missing or damaged, or does not match the network.
        StorageError: the file cannot be read.
    """
    tensors, _ = read_tensors(path)
    if mismatch := difference(network, tensors):
        raise RunError(
            f"{path} holds the weights of another network than this configuration describes "
            f"({mismatch}); use the run folder that it was trained in"
        )
    network.load_state_dict(tensors)


def difference(network: nn.Module, tensors: dict[str, Tensor]) -> str | None:
    """Describe how tensors differ from the state of a network; None if they match."""
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


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write named tensors and string metadata as safetensors, atomically.

    Raises:
        StorageError: the file cannot be written.
    """
    with atomic_file(path) as partial:
        try:
            save_file(tensors, partial, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata that `write_tensors` wrote.

    Raises:
        RunError: the file is missing or damaged.
        StorageError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except FileNotFoundError:
        raise RunError(f"expected weights at {path}, found no such file; train first") from None
    except OSError as error:
        raise StorageError(f"{path} could not be read ({error}); check its permissions") from None
    except SafetensorError as error:
        raise RunError(
            f"{path} is not a complete safetensors file ({error}); remove it and run the same "
            f"command again"
        ) from None
