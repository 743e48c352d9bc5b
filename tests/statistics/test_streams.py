import ast
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from ecgtransfer.statistics import streams

PACKAGE = Path(streams.__file__).parents[1]
NUMBERS = {name: value for name, value in vars(streams).items() if name.isupper()}
SHARED = NUMBERS.pop("SHARED")
FAMILIES = ("RECORD_", "STEP_", "HOSPITAL_")


def family(name):
    return next((each for each in FAMILIES if name.startswith(each)), "of a run")


def test_a_number_stands_for_one_purpose_or_is_listed_as_shared():
    purposes = defaultdict(list)
    for name, number in NUMBERS.items():
        purposes[family(name), number].append(name)
    assert {tuple(names) for names in purposes.values() if len(names) > 1} == set(SHARED)
    assert all(SHARED.values())


def test_streams_keep_their_numbers():
    """What a seed drew in a run on disk, it draws again when the run is resumed."""
    kept = {
        "EPOCH_ORDERS": 0,
        "WEIGHTED_RECORDS": 1,
        "UNIT_RECORDS": 2,
        "VALIDATION_RECORDS": 3,
        "SOURCE_RECORDS": 4,
        "TRANSFER_FOLDS": 5,
        "DRAWN_SOURCE_RECORDS": 5,
        "DOMAIN_FOLDS": 6,
        "RHYTHM_FOLDS": 6,
        "JUDGING_NOISE": 7,
        "RECORD_RHYTHM": 1,
        "RECORD_SHAPES": 2,
        "RECORD_SELECTION": 3,
        "RECORD_CANDIDATES": 1000,
        "STEP_HELD_OUT": 2**20,
        "STEP_AUGMENTATION": 2**20,
    }
    assert {name: NUMBERS[name] for name in kept} == kept


def test_numpy_pads_a_seed_with_zeros():
    """Why a stream of number 0 is that of the bare seed, as the register says."""
    bare = np.random.default_rng(5).random()
    assert np.random.default_rng([5, 0]).random() == bare
    assert np.random.default_rng([5, 0, 0]).random() == bare
    assert np.random.default_rng([5, 1]).random() != bare


def bare_numbers(source):
    """Calls that make a generator and have a whole number written into them as its stream."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        maker = ast.unparse(node.func)
        if maker == "streams.generator":
            numbers = node.args[1:]
        elif maker.endswith(("default_rng", "SeedSequence")):
            numbers = [each for part in node.args for each in getattr(part, "elts", [])]
        else:
            continue
        if any(isinstance(number, ast.Constant) for number in numbers):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("room", sorted(path.name for path in PACKAGE.iterdir() if path.is_dir()))
def test_generators_take_their_stream_from_the_register(room):
    found = {str(path): bare_numbers(path.read_text()) for path in (PACKAGE / room).glob("*.py")}
    assert not {path: calls for path, calls in found.items() if calls}


def test_a_bare_stream_number_is_seen():
    assert bare_numbers("np.random.default_rng([seed, 3, repeat])")
    assert bare_numbers("streams.generator(seed, 3)")
    assert not bare_numbers("streams.generator(seed, streams.BLIND_TEST, repeat)")


def test_a_generator_is_that_of_seed_and_stream():
    expected = np.random.default_rng([3, streams.FIDELITY_LABEL_MIX, 2]).random(4)
    assert np.array_equal(streams.generator(3, streams.FIDELITY_LABEL_MIX, 2).random(4), expected)
