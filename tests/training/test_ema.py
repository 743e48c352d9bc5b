import torch
from torch import nn
from torch.testing import assert_close

from ecgtransfer.training import averaged_copy, update_average
from ecgtransfer.training.ema import moving_average


def test_the_average_is_the_stated_weighted_sum_of_the_weights_so_far(rng):
    network, decay = nn.Linear(3, 2).double(), 0.9
    weights = torch.randn(120, 2, 3, generator=rng, dtype=torch.float64)
    average = averaged_copy(network)
    began_with = average.weight.clone()
    for step, weight in enumerate(weights):
        network.weight.data = weight
        update_average(average, network, decay, step)
    # a_n = sum over k of (1 - d_k) d_(k+1) ... d_(n-1) w_k, plus the product of all d times a_0
    d = torch.tensor([min(decay, (1 + k) / (10 + k)) for k in range(120)], dtype=torch.float64)
    later = torch.stack([d[k + 1 :].prod() for k in range(120)])
    shares = (1 - d) * later
    expected = (shares[:, None, None] * weights).sum(0) + d.prod() * began_with
    assert_close(average.weight.data, expected)
    assert_close(shares.sum() + d.prod(), torch.tensor(1.0, dtype=torch.float64))


def test_the_random_weights_that_training_began_with_are_soon_forgotten():
    network = nn.Linear(1, 1)
    average = averaged_copy(network)
    average.weight.fill_(1e6)
    network.weight.data.zero_()
    for step in range(30):
        update_average(average, network, 0.999, step)
    assert abs(average.weight.item()) < 1


def test_weights_that_stand_still_are_their_own_average():
    network = nn.Linear(3, 2)
    average = averaged_copy(network)
    for step in range(5):
        update_average(average, network, 0.99, step)
    assert_close(average.state_dict(), network.state_dict())


def test_without_decay_the_average_is_the_last_weights(rng):
    network = nn.Linear(3, 2)
    average = averaged_copy(network)
    nn.init.normal_(network.weight, generator=rng)
    update_average(average, network, 0.0, 7)
    assert torch.equal(average.weight, network.weight)


def test_buffers_are_copied_and_not_averaged():
    network = nn.BatchNorm1d(2)
    average = averaged_copy(network)
    network.running_mean.fill_(4.0)
    network.num_batches_tracked.fill_(3)
    update_average(average, network, 0.99, 50)
    assert_close(average.running_mean, torch.full((2,), 4.0))
    assert average.num_batches_tracked == 3


def test_a_buffer_that_the_network_replaces_is_still_the_one_copied():
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(2))
    average = averaged_copy(network)
    update = moving_average(average, network, 0.9)
    network[1].running_mean = torch.full((2,), 3.0)
    update(0)
    assert_close(average[1].running_mean, torch.full((2,), 3.0))


def test_the_average_is_a_network_of_its_own_that_no_gradient_moves():
    network = nn.Linear(3, 2)
    average = averaged_copy(network)
    assert network.training
    assert network.weight.requires_grad
    assert not average.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
    network.weight.data += 1
    assert not torch.equal(average.weight, network.weight)
