"""Training loop for every network, deterministic batches, checkpoints and weight files."""

from typing import TYPE_CHECKING

from ecgtransfer.lazy import lazy_names

if TYPE_CHECKING:
    from ecgtransfer.training.batches import (
        BatchIndices,
        label_weights,
        record_noise,
        seeded_initialisation,
        shuffled_batches,
        step_generator,
    )
    from ecgtransfer.training.dataset import ECGDataset
    from ecgtransfer.training.ema import averaged_copy, update_average
    from ecgtransfer.training.files import load_weights, save_weights
    from ecgtransfer.training.loop import (
        WEIGHTS,
        FitResult,
        Progress,
        TrainConfig,
        fit,
        remove_checkpoints,
    )
    from ecgtransfer.training.processes import (
        available_cores,
        is_main_process,
        main_process_first,
        make_barrier,
        process_number,
        wait_for_everyone,
    )
    from ecgtransfer.training.progress import Bars, no_bars
    from ecgtransfer.training.rates import check_factors, fit_best_rate
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "WEIGHTS",
    "Bars",
    "BatchIndices",
    "ECGDataset",
    "FitResult",
    "Progress",
    "TrainConfig",
    "available_cores",
    "averaged_copy",
    "check_factors",
    "fit",
    "fit_best_rate",
    "is_main_process",
    "label_weights",
    "load_weights",
    "main_process_first",
    "make_barrier",
    "no_bars",
    "process_number",
    "record_noise",
    "remove_checkpoints",
    "save_weights",
    "seeded_initialisation",
    "shuffled_batches",
    "step_generator",
    "update_average",
    "wait_for_everyone",
]
