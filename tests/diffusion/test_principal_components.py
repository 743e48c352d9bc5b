import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.testing import assert_close

from ecgtransfer.diffusion.principal_components import (
    PrincipalComponents,
    SizeAndDirection,
    group_sizes,
)
from ecgtransfer.errors import ConfigError


def test_components_are_those_of_scikit_learn(rng):
    vectors = torch.randn(400, 5, generator=rng) @ torch.diag(torch.tensor([5.0, 4, 3, 2, 1]))
    mine, theirs = PrincipalComponents(5, 3), PCA(3).fit(vectors.numpy())
    mine.fit(vectors.numpy())
    cosine = np.abs(np.sum(mine.basis.numpy().T * theirs.components_, axis=1))
    assert cosine == pytest.approx(1, abs=1e-3)  # a hundredth of the vectors is drawn in
    assert mine.deviation.numpy() ** 2 == pytest.approx(theirs.explained_variance_, rel=0.05)


def test_all_components_give_the_vector_back(rng):
    vectors = torch.randn(50, 4, generator=rng)
    components = PrincipalComponents(4, 4)
    components.fit(vectors.numpy())
    assert_close(components.decode(components.encode(vectors)), vectors)


def test_one_artefact_does_not_claim_a_component(rng):
    vectors = torch.randn(1000, 3, generator=rng) * torch.tensor([2.0, 1.0, 0.1])
    vectors[0] = torch.tensor([0.0, 0.0, 500.0])
    components = PrincipalComponents(3, 1)
    components.fit(vectors.numpy())
    assert abs(float(components.basis[0, 0])) > 0.99


def test_components_of_fewer_than_two_vectors_are_refused():
    with pytest.raises(ConfigError, match=r"at least 2 beat shapes to find components of, got 1"):
        PrincipalComponents(3, 1).fit(np.zeros((1, 3)))


@pytest.fixture
def windowed(rng):
    """Components of 12 correlated features, of which the first four are the window."""
    mixing = torch.randn(12, 12, generator=rng)
    vectors = (torch.randn(500, 12, generator=rng) @ mixing).numpy()
    window = np.repeat([1.0, 0.0], [4, 8])
    plain, rotated = PrincipalComponents(12, 9), PrincipalComponents(12, 9)
    plain.fit(vectors)
    rotated.fit(vectors, np.diag(window), inside=3)
    return plain, rotated, window, torch.from_numpy(vectors)


def test_a_window_rotates_the_components_within_their_span(windowed):
    plain, rotated, _, vectors = windowed
    assert_close(rotated.basis.T @ rotated.basis, torch.eye(9), atol=1e-5, rtol=0)
    assert_close(rotated.basis @ rotated.basis.T, plain.basis @ plain.basis.T, atol=1e-5, rtol=0)
    assert_close(
        rotated.decode(rotated.encode(vectors)),
        plain.decode(plain.encode(vectors)),
        atol=1e-4,
        rtol=0,
    )
    assert float(rotated.deviation.square().sum()) == pytest.approx(
        float(plain.deviation.square().sum()), rel=1e-5
    )


def test_no_other_direction_of_the_span_has_more_power_in_the_window(windowed, rng):
    plain, rotated, window, _ = windowed
    inside = torch.from_numpy(window).float()
    power = (rotated.basis.square() * inside[:, None]).sum(dim=0)
    assert power[:3].min() >= power[3:].max() - 1e-6
    best = torch.linalg.eigvalsh(plain.basis.T @ (inside[:, None] * plain.basis))
    assert float(power[:3].sum()) == pytest.approx(float(best[-3:].sum()), abs=1e-5)


def test_both_parts_are_uncorrelated_and_ordered(windowed):
    _, rotated, _, vectors = windowed
    covariance = np.cov(rotated.encode(vectors).numpy().T)
    for part in (slice(0, 3), slice(3, 9)):
        assert covariance[part, part] == pytest.approx(np.eye(len(covariance[part])), abs=0.1)
        assert (rotated.deviation[part].diff() <= 0).all()


@pytest.fixture
def wave(rng):
    """Waves of sizes from 0.2 to 5: the scales fitted to them, their components and deviations."""
    deviation = torch.tensor([3.0, 1.0, 0.5])
    size = torch.exp(0.5 * torch.randn(400, 1, generator=rng))
    components = size * torch.randn(400, 3, generator=rng)
    made = SizeAndDirection(3)
    made.fit(components, deviation)
    return made, components, deviation


def test_size_and_direction_give_the_wave_back(wave):
    made, components, _ = wave
    assert_close(made.decode(*made.encode(components)), components, atol=1e-5, rtol=1e-5)


def test_size_and_direction_are_standardised(wave):
    made, components, _ = wave
    direction, log_size = made.encode(components)
    assert_close(direction.std(dim=0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    assert float(log_size.mean()) == pytest.approx(0, abs=1e-4)
    assert float(log_size.std(correction=0)) == pytest.approx(1, abs=1e-4)


def test_a_wave_of_another_size_has_the_same_direction(wave):
    made, components, _ = wave
    direction, log_size = made.encode(components)
    same, larger = made.encode(3 * components)
    assert_close(same, direction)
    assert_close((larger - log_size) * made.log_deviation, torch.full_like(larger, np.log(3)))


def test_whatever_the_direction_the_wave_has_the_stated_size(wave, rng):
    made, _, deviation = wave
    log_size = torch.randn(50, 1, generator=rng)
    decoded = made.decode(torch.randn(50, 3, generator=rng), log_size)
    weight = deviation / deviation.square().mean().sqrt()
    size = (decoded * weight).square().mean(dim=1, keepdim=True).sqrt()
    assert_close(size.log(), log_size * made.log_deviation + made.log_mean, atol=1e-5, rtol=1e-5)


def test_a_flat_wave_has_the_smallest_size(wave):
    made, _, _ = wave
    direction, log_size = made.encode(torch.zeros(1, 3))
    assert not direction.any()
    smallest = (log_size * made.log_deviation + made.log_mean).exp()
    assert_close(smallest[0, 0], made.smallest)


@pytest.mark.parametrize(
    ("parts", "sizes"), [((5, 1), (2, 2, 1, 1)), ((4,), (2, 2)), ((0, 3), (2, 1))]
)
def test_groups_do_not_cross_parts(parts, sizes):
    assert group_sizes(parts, 2) == sizes
