"""What every test may use, and what no test may do: see the fixtures that use themselves."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

# Before NumPy and torch are loaded: results do not depend on how many cores a machine has.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from ecgtransfer.corpus import ECGSet, label_space, microvolts, write_ecgset
from ecgtransfer.simulation import SOURCE_HOSPITAL, TARGET_HOSPITAL, simulate_ecgset

REPOSITORY = Path(__file__).parents[1]

#: Folder with the public ECGs (`ptbxl/`, `icbeb/`) for the tests that read real ones.
DATA_VARIABLE = "ECGTRANSFER_DATA"

#: Where the packed ECGs lie when they stand beside the checkout.
UNPACKER = REPOSITORY.parent / "shared" / "data" / "unpack.py"

#: `--hypothesis-profile=deep`: what a release wants to see once. No example may take 5 seconds.
settings.register_profile("deep", max_examples=20_000, deadline=5000, derandomize=False)
settings.register_profile("quick", max_examples=200, deadline=5000, derandomize=True)
settings.load_profile("quick")


@pytest.fixture
def rng() -> Any:
    """A torch.Generator with a fixed seed."""
    import torch

    return torch.Generator().manual_seed(7)


@pytest.fixture(scope="session")
def ecgset(tmp_path_factory: pytest.TempPathFactory) -> ECGSet:
    """32 simulated records, 16 of each hospital (`site` says which), in the nine classes."""
    folder = tmp_path_factory.mktemp("simulated")
    space = label_space("icbeb9")
    parts = [
        simulate_ecgset(folder / hospital.name, hospital, 16, 1, space)
        for hospital in (SOURCE_HOSPITAL, TARGET_HOSPITAL)
    ]
    return write_ecgset(
        folder / "both",
        microvolts(np.concatenate([part.independent_mv() for part in parts])),
        np.concatenate([part.labels for part in parts]),
        pd.concat([part.records for part in parts], ignore_index=True),
        space,
        100,
        "simulated",
    )


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with real ECGs, from ECGTRANSFER_DATA or unpacked from beside the checkout."""
    stated = os.environ.get(DATA_VARIABLE)
    if stated:
        folder = Path(stated)
        if not (folder / "ptbxl").is_dir() or not (folder / "icbeb").is_dir():
            pytest.skip(f"{DATA_VARIABLE} is {stated}, which lacks ptbxl/ or icbeb/")
        return folder
    if not UNPACKER.is_file():
        pytest.skip(f"no real ECGs: {DATA_VARIABLE} is not set")
    folder = tmp_path_factory.mktemp("real")
    subprocess.run(
        [sys.executable, UNPACKER, folder, "--blocks", "1"], check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="session")
def complete_data(real_data: Path) -> Path:
    """`real_data` with the signals of all of PTB-XL, not of its first 2,000 records alone."""
    if not (real_data / "ptbxl/records100/21000/21837_lr.dat").is_file():
        pytest.skip(f"only a part of PTB-XL is here; {DATA_VARIABLE} can name a complete copy")
    return real_data


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network fails; sockets between processes stay open."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            raise OSError(f"tests have no network, and this one wants {address!r}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    """One thread and deterministic algorithms, where torch is in use at all."""
    torch = sys.modules.get("torch")
    if torch is not None and not torch.are_deterministic_algorithms_enabled():
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
