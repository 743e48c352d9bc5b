import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.experiments.problems import problem
from ecgtransfer.transfer import extrapolated, guided


@pytest.fixture
def inputs(shape, rng):
    """x, sigma, label."""
    return 2 * torch.randn(64, *shape, generator=rng), torch.linspace(0.01, 5, 64), None


def test_scale_0_is_the_source_and_scale_1_the_fine_tuned_model(pair, inputs):
    source, tuned = pair.denoise_source, pair.denoise_target
    assert_close(extrapolated(source, tuned, 0.0)(*inputs), source(*inputs), rtol=0, atol=0)
    assert_close(extrapolated(source, tuned, 1.0)(*inputs), tuned(*inputs), rtol=0, atol=0)


def test_at_scales_0_and_1_one_denoiser_alone_is_called(pair, inputs):
    def never(x, sigma, label):
        raise AssertionError("called")

    extrapolated(pair.denoise_source, never, 0.0)(*inputs)
    extrapolated(never, pair.denoise_target, 1.0)(*inputs)


@pytest.mark.parametrize("scale", [-0.5, 0.3, 1.0, 2.5])
def test_with_the_true_target_it_is_the_guided_denoiser_at_that_weight(pair, inputs, scale):
    denoise = extrapolated(pair.denoise_source, pair.denoise_target, scale)
    assert_close(denoise(*inputs), guided(pair.denoise_source, pair.log_h, scale)(*inputs))


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_the_label_reaches_the_fine_tuned_model_alone(scale, rng):
    # D_source(x; none) + scale (D_tuned(x; y) - D_source(x; none)), in closed form.
    laws = problem("conditional")
    x0, component = laws.target.sample(40, rng)
    label, sigma = laws.target.one_hot(component), torch.linspace(0.1, 3, 40)
    x = x0 + sigma[:, None] * torch.randn(x0.shape, generator=rng)
    found = extrapolated(laws.source.denoise, laws.target.denoise, scale)(x, sigma, label)
    unconditional = laws.source.denoise(x, sigma, None)
    step = laws.target.denoise(x, sigma, label) - unconditional
    assert_close(found, unconditional + scale * step)
    assert not torch.allclose(unconditional, laws.source.denoise(x, sigma, label), atol=0.1)
