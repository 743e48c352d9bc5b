"""Every stage at the smallest size that still runs: 5 training steps, a few records."""

import json
from contextlib import contextmanager
from dataclasses import replace

from ecgtransfer.evaluation import ClassifierConfig
from ecgtransfer.pipeline import SamplerSettings, TransferSettings, UtilitySettings
from ecgtransfer.pipeline.cascade_settings import CascadeSettings, shape_guidance
from ecgtransfer.training import TrainConfig
from ecgtransfer.transfer import DomainClassifierConfig, FinetuneConfig, TgdpConfig

STEPS = 5
#: The start is no candidate, so that a few steps leave something of their own, be it worse.
TRAIN = TrainConfig(
    steps=STEPS,
    batch_size=4,
    learning_rate=1e-3,
    warmup_steps=1,
    validate_every=3,
    validate_from=1,
    log_every=1,
)
SAMPLER = SamplerSettings(steps=2)
CASCADE = CascadeSettings(
    draws=2,
    tgdp=replace(shape_guidance(), train=TRAIN, eta_guidance=1.0),
    finetune=FinetuneConfig(train=TRAIN),
)
CLASSIFIER = ClassifierConfig(widths=(16, 16), steps=2, pretraining_steps=2, batch_size=4, folds=2)
UTILITY = UtilitySettings(arms=("control",), ratios=(1.0,), seeds=1, classifier=CLASSIFIER)


def transfer_settings(method="tgdp", **changes):
    return TransferSettings(
        **{
            "method": method,
            "n_source": 16,
            "tgdp": TgdpConfig(train=TRAIN, eta_cycle=0.0),
            "classifier": DomainClassifierConfig(widths=(16, 16), folds=2, train=TRAIN),
            "finetune": FinetuneConfig(train=TRAIN),
            "adapter": FinetuneConfig(
                rate_factors=(1.0,), train=replace(TRAIN, learning_rate=3e-2)
            ),
            "scratch": FinetuneConfig(rate_factors=(1.0,), train=TRAIN),
            "folds": 2 if method == "stack" else 1,
            "cascade": CASCADE,
        }
        | changes
    )


def small_config(folder):
    """A file for `transfer --config` with the same sizes for the command line."""
    path = folder / "transfer.toml"
    path.write_text(
        f"""n_source = 16
[tgdp]
eta_cycle = 0.0
[classifier]
widths = [16, 16]
folds = 2
[classifier.train]
steps = {STEPS}
batch_size = 4
warmup_steps = 1
validate_every = 3
validate_from = 1
"""
    )
    return path


@contextmanager
def no_bars(task):
    yield lambda now: None


class Interrupting:
    """A progress bar on which Ctrl-C is pressed at some step of some task."""

    def __init__(self, task, step):
        self.task, self.step = task, step

    @contextmanager
    def training(self, task):
        def tell(now):
            if task == self.task and now.step == self.step:
                raise KeyboardInterrupt

        yield tell

    @contextmanager
    def progress(self, task):
        def tell(done, total):
            if task == self.task and done >= self.step:
                raise KeyboardInterrupt

        yield tell


class Silent(Interrupting):
    """A progress bar that nobody sees."""

    def __init__(self):
        super().__init__(None, 0)


def content(folder):
    """Every file below a folder by its path: to hold two runs against each other."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def lasting(folder):
    """What a run leaves, without the clock: files by path."""
    held = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            held[name] = _without_clock(json.loads(path.read_text()))
        elif path.is_file() and path.name != "log.csv":
            held[name] = path.read_bytes()
    return held


def _without_clock(value):
    if isinstance(value, dict):
        return {k: _without_clock(v) for k, v in value.items() if k not in ("seconds", "finished")}
    return value
