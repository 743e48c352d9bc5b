"""Register of random streams: the numbers beside a seed that keep unrelated draws apart.

`generator(seed, stream)` takes a number of this register, and further numbers behind it where one
purpose draws again and again. NumPy pads seeds with zeros: `[seed]`, `[seed, 0]` and `[seed, 0, 0]`
are one generator, as are `[seed, 3]` and `[seed, 3, 0]`. A stream never changes its number: what a
seed drew, it draws again. Some purposes have one number (`SHARED`); a new purpose takes a number of
its own.
"""

from collections.abc import Mapping

import numpy as np

# Streams of the seed of a run, a training or an evaluation.

#: Orders of the records of a training, [seed, stream, draw].
EPOCH_ORDERS = 0
#: Records of a training that are drawn by weight, [seed, stream, step].
WEIGHTED_RECORDS = 1
#: Folds of the classifier two-sample test.
TWO_SAMPLE_FOLDS = 1
#: Training records that the spectra of a model's units are fitted to.
UNIT_RECORDS = 2
#: Records that a fidelity study takes of larger sets.
FIDELITY_RECORDS = 2
#: Held-out records of the denoising loss.
VALIDATION_RECORDS = 3
#: Records of one label mix in a fidelity study, [seed, stream, repeat].
FIDELITY_LABEL_MIX = 3
#: Recorded source records in the target's label mix.
SOURCE_RECORDS = 4
#: Patients whose leads the negative controls of a fidelity study exchange.
NEGATIVE_CONTROLS = 4
#: Patient folds of guidance and of stacks.
TRANSFER_FOLDS = 5
#: Labels and seeds of source records that a model draws.
DRAWN_SOURCE_RECORDS = 5
#: Patient folds of the domain classifier, common to source and target.
DOMAIN_FOLDS = 6
#: Patient folds of the density ratio of rhythms.
RHYTHM_FOLDS = 6
#: Test and synthetic records of a fidelity evaluation.
FIDELITY_SIDES = 6
#: Noise that judges a transfer.
JUDGING_NOISE = 7
#: Beat trains that a target is compared with.
COMPARED_TRAINS = 7
#: Source records of an evaluation that takes a part of them.
KNOWN_SOURCE = 7
#: Beat shapes that a target is compared with.
COMPARED_SHAPES = 8
#: Real and synthetic records of a physiology evaluation.
PHYSIOLOGY_SIDES = 8
#: Records on each side of a privacy evaluation.
PRIVACY_SIDES = 9
#: Held-out records that calibrate the sampling of beat shapes, and their draws.
CALIBRATING_SHAPES, CALIBRATING_DRAWS = 10, 11
#: Equal numbers of patients for nearest-neighbour distances.
CLOSENESS_SUBSAMPLES = 41
#: ECGs of a blind test and their order.
BLIND_TEST = 71
#: Synthetic records in the label mix of an arm of a utility study.
ARM_RECORDS = 101
#: Order of target records in an arm of a utility study.
ARM_ORDER = 102
#: Weights of repeated trainings in a resample.
TRAINING_SHARES = 103
#: Records and noise that score a denoiser against an exact target.
SCORE_BOARD = 0x5C04E

# Streams of the seed of one generated record, whose noise has the bare seed.

#: Its beat train.
RECORD_RHYTHM = 1
#: Its beat shapes.
RECORD_SHAPES = 2
#: Which of several trains it has.
RECORD_SELECTION = 3
#: The further trains that one is selected from: this number and those that follow.
RECORD_CANDIDATES = 1000

# Ranks of `training.batches.step_generator`, far above those of processes.

#: Noise of held-out records.
STEP_HELD_OUT = 2**20
#: Augmentation of a classifier's records.
STEP_AUGMENTATION = 2**20

# Third numbers of a simulated hospital, [seed, records, stream].

#: Patients and folds.
HOSPITAL_PEOPLE = 1

#: Purposes that have one number, and why that does no harm.
SHARED: Mapping[tuple[str, ...], str] = {
    ("WEIGHTED_RECORDS", "TWO_SAMPLE_FOLDS"): (
        "Weighted training indices and the folds of a two-sample test are of unrelated sets."
    ),
    ("UNIT_RECORDS", "FIDELITY_RECORDS"): (
        "Permutations of a source's training records and of a target's test records."
    ),
    ("VALIDATION_RECORDS", "FIDELITY_LABEL_MIX"): (
        "Permutations of a source's held-out records and of a target's test records."
    ),
    ("SOURCE_RECORDS", "NEGATIVE_CONTROLS"): (
        "Choice of source records and order of a target's test patients."
    ),
    ("TRANSFER_FOLDS", "DRAWN_SOURCE_RECORDS"): (
        "A permutation of target patients, and labels and seeds of records that have no patient."
    ),
    ("DOMAIN_FOLDS", "RHYTHM_FOLDS", "FIDELITY_SIDES"): (
        "Both folds part the same patients for two models that never meet in one training; the "
        "sides of an evaluation are test records, which no fold holds."
    ),
    ("JUDGING_NOISE", "COMPARED_TRAINS", "KNOWN_SOURCE"): (
        "Noise of records, seeds of trains and a choice of source records."
    ),
    ("COMPARED_SHAPES", "PHYSIOLOGY_SIDES"): (
        "Seeds of beat shapes in a transfer, a choice of records in an evaluation."
    ),
    ("STEP_HELD_OUT", "STEP_AUGMENTATION"): (
        "A diffusion model draws held-out noise, a classifier augments; neither does both."
    ),
}


def generator(seed: int, stream: int, *further: int) -> np.random.Generator:
    """The generator of one stream of a seed, or of one of its draws, which `further` counts."""
    return np.random.default_rng([seed, stream, *further])
