"""Weights on disk: safetensors, whole or not at all."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ecgtransfer.errors import RunError, StorageError
from ecgtransfer.storage import atomic_file


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


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Tensors by name and a few strings as safetensors, whole or not at all."""
    with atomic_file(path) as partial:
        try:
            save_file(tensors, partial, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What `write_tensors` wrote; RunError where it is missing, closed to us or broken."""
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
            f"{path} is not a whole safetensors file ({error}); remove it and run the same "
            f"command again"
        ) from None
