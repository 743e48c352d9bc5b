import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.experiments.networks import VectorDenoiser, VectorGuidance, VectorNetwork
from ecgtransfer.training import seeded_initialisation
from ecgtransfer.transfer.guided import log_h_gradient

LABEL = torch.eye(3)[[0, 2, 1, 1]]


@pytest.fixture
def batch(rng):
    return torch.randn(4, 2, generator=rng), torch.tensor([0.05, 0.5, 2.0, 15.0])


def moved(network):
    """The network with every parameter off its start."""
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded(number)))
    return network


def seeded(number):
    return torch.Generator().manual_seed(number)


def test_a_new_denoiser_is_the_best_one_of_standard_normal_points(batch):
    x, sigma = batch
    denoised = VectorDenoiser(2, 3)(x, sigma, LABEL)
    assert_close(denoised, x / (1 + sigma[:, None] ** 2))


def test_a_new_log_h_is_zero_and_so_is_its_slope(batch):
    x, sigma = batch
    network = VectorGuidance(2, 0)
    assert_close(network(x, sigma, None), torch.zeros(4))
    assert_close(log_h_gradient(network, x, sigma, None), torch.zeros(4, 2))
    (network(x, sigma, None) - 1).square().sum().backward()
    assert network.network.output.weight.grad.abs().sum() > 0


def test_a_dropped_label_is_no_label(batch):
    network, (x, sigma) = moved(VectorDenoiser(2, 3)), batch
    dropped = torch.tensor([True, False, True, False])
    some = network(x, sigma, LABEL, dropped)
    assert_close(some[dropped], network(x, sigma, None)[dropped])
    assert_close(some[~dropped], network(x, sigma, LABEL)[~dropped])


@pytest.mark.parametrize("network", [VectorDenoiser(2, 3), VectorGuidance(2, 3)])
def test_level_and_label_change_the_answer_and_other_records_do_not(network, batch):
    network, (x, sigma) = moved(network), batch
    answer = network(x, sigma, LABEL)
    assert not torch.allclose(answer, network(x, 2 * sigma, LABEL))
    assert not torch.allclose(answer, network(x, sigma, LABEL.flip(1)))
    assert_close(answer[:2], network(x[:2], sigma[:2], LABEL[:2]))


def test_the_domain_encoder_reads_clean_points_without_a_level(batch):
    network, (x, _) = moved(VectorNetwork(2, 3, 1)), batch
    assert network(x, None, LABEL).shape == (4, 1)


def test_weights_are_of_the_seed():
    def weights():
        with seeded_initialisation(3):
            return VectorDenoiser(2, 0).state_dict()

    assert_close(weights(), weights())
