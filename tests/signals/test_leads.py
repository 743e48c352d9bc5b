import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import (
    INDEPENDENT_LEADS,
    LEADS,
    canonical_lead,
    expand_leads,
    independent_leads,
    lead_order,
    reorder_leads,
)


@pytest.fixture
def x8():
    return np.random.default_rng(0).standard_normal((3, 8, 50))


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("AVR", "aVR"),
        ("avr", "aVR"),
        ("aVR ", "aVR"),
        ("Lead I", "I"),
        ("lead_ii", "II"),
        ("MDC_ECG_LEAD_AVF", "aVF"),
        ("ECG V1", "V1"),
        ("v6", "V6"),
        ("DIII", "III"),
    ],
)
def test_a_lead_is_known_in_any_spelling(spelling, name):
    assert canonical_lead(spelling) == name


@pytest.mark.parametrize("name", LEADS)
def test_canonical_names_stand_for_themselves(name):
    assert canonical_lead(name) == name


@pytest.mark.parametrize("spelling", ["MLII", "-aVR", "V7", "V3R", "", "1", "IV", "aVR-", "L"])
def test_a_name_that_only_resembles_a_lead_is_refused(spelling):
    with pytest.raises(SignalError, match=r"unknown lead '.*': expected one of I, II, III"):
        canonical_lead(spelling)


def test_leads_in_any_order_come_out_in_the_canonical_order():
    names = [name.upper() for name in LEADS]
    shuffled = np.random.default_rng(1).permutation(12)
    signal = np.repeat(np.arange(12, dtype=np.float32)[:, None], 4, axis=1)
    ordered = reorder_leads(signal[shuffled], [names[i] for i in shuffled])
    assert_array_equal(ordered, signal)
    assert ordered.dtype == np.float32


def test_the_order_says_where_each_lead_is_found():
    assert lead_order(tuple(reversed(LEADS))) == tuple(range(11, -1, -1))


@pytest.mark.parametrize(
    ("leads", "message"),
    [
        (LEADS[:-1], "got 11: V6 missing"),
        ((*LEADS, "v6"), "each of the 12 leads once, got V6 more than once"),
        ((*LEADS[:-1], "V5"), "got V5 more than once"),
        ((*LEADS[:-1], "RESP"), "unknown lead 'RESP'"),
        ((), "got 0: I, II, III.* missing from an empty list"),
    ],
)
def test_missing_duplicate_and_unknown_leads_are_named(leads, message):
    with pytest.raises(SignalError, match=message):
        reorder_leads(np.zeros((len(leads), 5)), leads)


@pytest.mark.parametrize("shape", [(11, 5), (12,), (5, 12)])
def test_names_and_rows_must_agree(shape):
    with pytest.raises(
        SignalError, match=r"expected a signal of shape \(12, n\) for 12 lead names"
    ):
        reorder_leads(np.zeros(shape), LEADS)


def test_einthoven_and_goldberger_hold_exactly(x8):
    lead = dict(zip(LEADS, np.moveaxis(expand_leads(x8), -2, 0), strict=True))
    assert_allclose(lead["I"] + lead["III"], lead["II"], atol=1e-12)
    assert_allclose(lead["aVR"] + lead["aVL"] + lead["aVF"], 0, atol=1e-12)
    # Goldberger from Wilson's potentials: I = L - R, II = F - R, and aVF = F - (R + L) / 2.
    right, left, foot = 0.0, lead["I"], lead["II"]
    assert_allclose(lead["aVR"], right - (left + foot) / 2, atol=1e-12)
    assert_allclose(lead["aVL"], left - (right + foot) / 2, atol=1e-12)
    assert_allclose(lead["aVF"], foot - (right + left) / 2, atol=1e-12)


def test_eight_leads_survive_the_way_to_twelve_and_back(x8):
    assert_array_equal(independent_leads(expand_leads(x8)), x8)
    twelve = expand_leads(x8)
    assert_array_equal(expand_leads(independent_leads(twelve)), twelve)
    assert [LEADS.index(name) for name in INDEPENDENT_LEADS] == [0, 1, 6, 7, 8, 9, 10, 11]


def test_the_expansion_is_linear(x8):
    matrix = expand_leads(np.eye(8))
    assert_allclose(matrix @ x8, expand_leads(x8), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_float_type_is_kept(x8, dtype):
    assert expand_leads(x8.astype(dtype)).dtype == dtype
    assert independent_leads(expand_leads(x8.astype(dtype))).dtype == dtype


def test_the_input_is_left_alone(x8):
    before = x8.copy()
    expand_leads(x8)[...] = 0
    independent_leads(expand_leads(x8))[...] = 0
    assert_array_equal(x8, before)


def test_torch_tensors_go_through_with_their_gradient(x8):
    tensor = torch.tensor(x8, requires_grad=True)
    twelve = expand_leads(tensor)
    assert_allclose(twelve.detach().numpy(), expand_leads(x8))
    twelve.square().sum().backward()
    matrix = expand_leads(np.eye(8))
    assert_allclose(tensor.grad.numpy(), 2 * matrix.T @ matrix @ x8, atol=1e-12)


@pytest.mark.parametrize("function", [expand_leads, independent_leads])
@pytest.mark.parametrize("shape", [(8,), (2, 9, 10)])
def test_another_number_of_leads_is_refused(function, shape):
    with pytest.raises(SignalError, match=r"expected an array of shape \(\.\.\., (8|12), T\)"):
        function(np.zeros(shape))


@pytest.mark.parametrize(
    "x8", [np.zeros((8, 4), dtype=np.int16), torch.zeros(8, 4, dtype=torch.int16)]
)
def test_whole_numbers_are_refused_where_halves_would_be_cut_off(x8):
    with pytest.raises(SignalError, match="expected floating-point leads, got"):
        expand_leads(x8)
