"""The list of errors in benchmarks/mutants.py is one of today's code."""

from dataclasses import replace

import pytest

from benchmarks.mutants import MUTANTS, REPOSITORY, TESTS, mutated


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_mutant_changes_one_place_of_the_code_and_knows_its_tests(mutant):
    text = (REPOSITORY / mutant.file).read_text(encoding="utf-8")
    changed = mutated(text, mutant)
    assert changed != text
    compile(changed, mutant.file, "exec")
    assert all((REPOSITORY / file).is_file() for file in TESTS[mutant.file])


def test_no_two_mutants_are_the_same_error():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.file, mutant.before, mutant.after) for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize(("text", "times"), [("", 0), ("a + b, a + b", 2)])
def test_a_mutant_of_other_code_is_refused(text, times):
    mutant = replace(MUTANTS[0], before="a + b", after="a - b")
    with pytest.raises(ValueError, match=f"exactly once in .* got it {times} times: 'a \\+ b'"):
        mutated(text, mutant)
    assert mutated("c = a + b", mutant) == "c = a - b"
