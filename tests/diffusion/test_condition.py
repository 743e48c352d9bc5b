import numpy as np
import pytest
import torch

from ecgtransfer.diffusion import Condition, as_condition, label_of, without_label
from ecgtransfer.diffusion.condition import channels_of, masked_label, scalars_of
from ecgtransfer.errors import ConfigError


def condition(rows=4, labels=3):
    generator = torch.Generator().manual_seed(0)
    label = (torch.rand(rows, labels, generator=generator) < 0.5).float()
    known = torch.rand(rows, labels, generator=generator) < 0.7
    return Condition(
        label,
        known,
        torch.randn(rows, 6, 10, generator=generator),
        torch.randn(rows, 8, 10, generator=generator),
        torch.rand(rows, 8, generator=generator) + 0.5,
        torch.tensor([60.0, torch.nan, 20.0, 92.0])[:rows],
        torch.tensor([0.0, 1.0, torch.nan, 1.0])[:rows],
    )


def same(one, other):
    parts, others = one._parts(), other._parts()
    return parts.keys() == others.keys() and all(
        torch.equal(part.nan_to_num(-9), others[name].nan_to_num(-9))
        for name, part in parts.items()
    )


@pytest.mark.parametrize("rows", [slice(1, 3), [2, 0], np.array([3, 3]), torch.tensor([1])])
def test_rows_are_taken_from_every_part(rows):
    whole = condition()
    some = whole[rows]
    expected = torch.arange(4)[rows if not isinstance(rows, np.ndarray) else torch.from_numpy(rows)]
    assert len(some) == len(expected)
    for row, number in enumerate(expected.tolist()):
        assert same(some[row], whole[number])


def test_parts_put_together_again_are_the_whole():
    whole = condition()
    assert same(Condition.cat(whole.split(3)), whole)
    assert [len(part) for part in whole.split(3)] == [3, 1]


def test_conditions_that_state_different_parts_are_not_put_together():
    with pytest.raises(
        ConfigError, match="expected the same parts in every condition, age, beats, known"
    ):
        Condition.cat([condition(), Condition(label=torch.zeros(1, 3))])


def test_parts_of_other_lengths_are_refused():
    with pytest.raises(ConfigError, match=r"expected as many rows in every part.*label 2, level 3"):
        Condition(label=torch.zeros(2, 1), level=torch.ones(3, 8))
    with pytest.raises(ConfigError, match="expected `known` of the label's shape"):
        Condition(label=torch.zeros(2, 2), known=torch.ones(2, 1, dtype=torch.bool))


def test_a_bare_label_is_a_condition_and_back():
    label = torch.eye(2)
    assert torch.equal(as_condition(label).label, label)
    assert label_of(as_condition(label)) is label
    assert label_of(label) is label
    assert without_label(label) is None


def test_taking_the_label_away_leaves_the_rest():
    whole = condition()
    rest = without_label(whole)
    assert rest.label is None
    assert rest.known is None
    assert rest.beats is whole.beats
    assert rest.layout is whole.layout


def test_the_label_of_some_rows_can_be_hidden():
    whole = Condition(label=torch.ones(3, 2))
    hidden = whole.without_label(torch.tensor([True, False, True]))
    assert hidden.known.tolist() == [[False, False], [True, True], [False, False]]


def test_the_network_tells_absent_from_unknown():
    label = torch.tensor([[1.0, 0.0, 0.0]])
    known = torch.tensor([[True, True, False]])
    values, hidden = masked_label(Condition(label, known))
    assert values.tolist() == [[1, 0, 0, 0, 1, 0]]
    assert hidden.tolist() == [False]
    _, hidden = masked_label(Condition(label, torch.zeros_like(known)))
    assert hidden.tolist() == [True]


def test_beats_and_layout_are_channels_one_after_the_other():
    whole = condition()
    assert torch.equal(channels_of(whole), torch.cat([whole.beats, whole.layout], dim=1))
    assert channels_of(Condition(label=whole.label)) is None


def test_level_age_and_sex_are_numbers_and_say_what_is_not_known():
    scalars = scalars_of(condition())
    assert scalars.shape == (4, 12)
    assert torch.isfinite(scalars).all()
    age, age_known, sex, sex_known = scalars[:, 8:].T
    assert age.tolist() == pytest.approx([0, 0, -0.8, 0.64])
    assert age_known.tolist() == [1, 0, 1, 1]
    assert sex.tolist() == [-1, 1, 0, 1]
    assert sex_known.tolist() == [1, 1, 0, 1]
    assert scalars_of(Condition(label=torch.zeros(1, 1))) is None
