"""A training of a few hundred numbers that takes a fraction of a second (not a test)."""

import csv
import errno
import json
from dataclasses import replace

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from ecgtransfer.training import TrainConfig, seeded_initialisation, shuffled_batches

CONFIG = TrainConfig(
    steps=24,
    batch_size=8,
    learning_rate=0.02,
    warmup_steps=4,
    ema_decay=0.8,
    checkpoint_every=5,
    validate_every=6,
    log_every=4,
    seed=3,
)
RECORDS = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32))
order = shuffled_batches(len(RECORDS), CONFIG.batch_size, CONFIG.seed)


class Killed(Exception):
    """What no code catches."""


def network(seed=0, width=6):
    with seeded_initialisation(seed):
        return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))


def batches(step):
    return RECORDS[order(step)]


def loss(model, batch, generator):
    x = batch[:, :4] + 0.1 * torch.randn(len(batch), 4, generator=generator)
    return (model(x)[:, 0] - batch[:, 4]).square()


@torch.no_grad()
def score(model):
    return float((model(RECORDS[:, :4])[:, 0] - RECORDS[:, 4]).square().mean())


def scores(values):
    """A validation that gives the values in turn."""
    left = iter(values)
    return lambda model: next(left)


def rows_of(folder):
    """The log without its column of seconds."""
    with (folder / "log.csv").open(newline="") as file:
        return [row[:-1] for row in csv.reader(file)]


def facts_of(folder):
    with safe_open(folder / "checkpoint.safetensors", "pt") as file:
        return json.loads(file.metadata()["state"])


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def raising(function, step, error):
    """A function of the step that fails, or is interrupted, at one step."""

    def wrapped(number):
        if number == step:
            raise error
        return function(number)

    return wrapped


def assert_the_same(model, folder, result, undisturbed):
    wanted, wanted_folder, wanted_result = undisturbed
    assert all(map(torch.equal, model.state_dict().values(), wanted.state_dict().values()))
    assert (folder / "weights.safetensors").read_bytes() == (
        wanted_folder / "weights.safetensors"
    ).read_bytes()
    assert rows_of(folder) == rows_of(wanted_folder)
    assert replace(result, seconds=0) == replace(wanted_result, seconds=0)
    assert files(folder) == ["log.csv", "weights.safetensors"]


def half_written(tensors, path, metadata=None):
    """What a disk does that fills up on the way."""
    save_file(tensors, path, metadata=metadata)
    path.write_bytes(path.read_bytes()[:50])
    raise OSError(errno.ENOSPC, "No space left on device")
