import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ecgtransfer.diffusion import DiffusionConfig, DiffusionModel, NoiseConfig
from ecgtransfer.errors import ConfigError
from ecgtransfer.models import Conditioning, UNetConfig
from ecgtransfer.training import TrainConfig, load_weights, save_weights, seeded_initialisation
from ecgtransfer.training.ema import averaged_copy, update_average
from ecgtransfer.transfer import (
    DomainRecords,
    FinetuneConfig,
    LoraConfig,
    finetune,
    merged,
    trainable_parameters,
    with_difffit,
    with_lora,
)

LABELS = ("A", "B", "C")
LORA = LoraConfig(rank=2, alpha=3.0)
TRAIN = TrainConfig(
    steps=4,
    batch_size=6,
    learning_rate=1e-2,
    warmup_steps=0,
    ema_decay=0.8,
    checkpoint_every=100,
    validate_every=2,
)
CONFIG = FinetuneConfig(
    label_dropout=0.3, noise=NoiseConfig(log_mean=0.0, log_std=1.0), train=TRAIN
)


class VectorDenoiser(nn.Module):
    """Three linear layers around the embedding of noise level and label: (B, 2) -> (B, 2)."""

    def __init__(self):
        super().__init__()
        self.conditioning = Conditioning(6, len(LABELS))
        self.enter = nn.Linear(2, 6)
        self.mix = nn.Linear(6, 6)  # `conditioning.mix`, no linear layer, has the same last name
        self.leave = nn.Linear(6, 2)

    def forward(self, x, sigma, label, dropped=None):
        h = self.enter(x) + self.conditioning(len(x), sigma, label, dropped)
        return self.leave(torch.tanh(self.mix(torch.tanh(h))))


def unet():
    config = UNetConfig(
        labels=3, leads=2, fold=4, widths=(16, 32), blocks=1, attention=1, conditioning=8
    )
    return DiffusionModel(DiffusionConfig(LABELS, 32, 100, config))


@dataclass(frozen=True)
class Kind:
    """A network and, by hand, the sizes (out, in * kernel) of its layers."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    embeddings: list[tuple[int, int]]
    others: list[tuple[int, int]]
    normalised: list[int]

    def start(self):
        """Random weights, those that begin at zero included."""
        with seeded_initialisation(5):
            network = self.build()
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter += 0.1 * torch.randn(parameter.shape)
        return network

    def records(self, n, name, seed):
        generator = torch.Generator().manual_seed(seed)
        x0 = torch.randn(n, *self.shape, generator=generator)
        label = torch.eye(3)[torch.arange(n) % 3]
        return DomainRecords(0.3 * x0 + 0.5, label, tuple(f"{name}{i}" for i in range(n)))

    def tuned(self, network, folder, **options):
        target, held_out = self.records(12, "t", 1), self.records(3, "v", 2)
        return finetune(network, target, held_out, CONFIG, folder, **options)[0]


MLP = Kind(
    VectorDenoiser,
    (2,),
    embeddings=[(6, 64), (6, 3), (6, 6)],
    others=[(6, 2), (6, 6), (2, 6)],
    normalised=[],
)
ATTENTION = [(96, 32), (32, 32)]
UNET = Kind(
    unet,
    (2, 32),
    embeddings=[(8, 64), (8, 3), (8, 8)],
    others=[
        *[(16, 24)],  # stem
        *[(16, 48), (32, 8), (16, 48)],  # down, 16 channels
        *[(16, 48)],
        *[(32, 48), (64, 8), (32, 96), (32, 16), *ATTENTION],  # down, 16 to 32 channels
        *[(32, 96), (64, 8), (32, 96)],  # middle
        *[(32, 192), (64, 8), (32, 96), (32, 64), *ATTENTION],  # up, 32 + 32 to 32 channels
        *[(32, 144), (64, 8), (32, 96), (32, 48), *ATTENTION],  # up, 32 + 16 to 32 channels
        *[(32, 96)],
        *[(16, 144), (32, 8), (16, 48), (16, 48)],  # up, 32 + 16 to 16 channels
        *[(16, 96), (32, 8), (16, 48), (16, 32)],  # up, 16 + 16 to 16 channels
        *[(8, 48)],  # out
    ],
    normalised=[16, 16, 16, 32, 32, 32, 32, 64, 32, 32, 48, 32, 32, 48, 16, 32, 16, 16],
)
KINDS = {"MLP": MLP, "U-Net": UNET}
ADAPTERS = {"LoRA": lambda network: with_lora(network, LORA, 1), "DiffFit": with_difffit}
every_kind = pytest.mark.parametrize("kind", list(KINDS.values()), ids=list(KINDS))
every_adapter = pytest.mark.parametrize("adapt", list(ADAPTERS.values()), ids=list(ADAPTERS))


def batch(kind, rng):
    """x, sigma, label, dropped."""
    x, label = torch.randn(6, *kind.shape, generator=rng), torch.eye(3)[[0, 1, 2, 0, 1, 2]]
    return x, torch.linspace(0.1, 3.0, 6), label, torch.arange(6) % 2 == 0


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same(module, before):
    assert_close(dict(module.state_dict()), before, rtol=0, atol=0)


@every_kind
@every_adapter
def test_an_adapted_copy_equals_the_original_at_the_start(kind, adapt, rng):
    network = kind.start()
    adapted = adapt(network)
    x, sigma, label, dropped = batch(kind, rng)
    for arguments in ((x, sigma, label, dropped), (x, sigma, label), (x, sigma, None)):
        assert_close(adapted(*arguments), network(*arguments), rtol=0, atol=0)


@every_kind
@every_adapter
def test_adapting_leaves_the_original_as_it_is(kind, adapt):
    network = kind.start()
    before = state(network)
    adapt(network)
    assert_same(network, before)
    assert all(parameter.requires_grad for parameter in network.parameters())
    network.requires_grad_(False)
    adapted = adapt(network)
    assert trainable_parameters(network) == 0
    assert trainable_parameters(adapted) > 0


@every_kind
def test_lora_trains_rank_times_in_plus_out_of_every_layer(kind):
    layers = kind.embeddings + kind.others
    expected = sum(LORA.rank * (out + into) for out, into in layers)
    assert trainable_parameters(with_lora(kind.start(), LORA, 1)) == expected


@every_kind
def test_difffit_trains_embeddings_biases_norms_and_one_factor_a_layer(kind):
    width = kind.embeddings[0][0]
    embeddings = sum(out * into + out for out, into in kind.embeddings) + width  # and no_label
    biases, norms = sum(out for out, _ in kind.others), sum(2 * n for n in kind.normalised)
    expected = embeddings + biases + norms + len(kind.others)
    assert trainable_parameters(with_difffit(kind.start())) == expected


def test_difffit_trains_named_embeddings_whole():
    network = MLP.start()
    adapted = with_difffit(network, embeddings=("enter",))
    # Twelve weights in place of one factor.
    assert trainable_parameters(adapted) == trainable_parameters(with_difffit(network)) + 12 - 1
    assert type(adapted.enter) is nn.Linear
    assert_same(merged(adapted), state(network))
    with pytest.raises(ConfigError, match=r"of the VectorDenoiser, got enter\.weight, exit;"):
        with_difffit(network, embeddings=("exit", "enter.weight"))


@every_kind
@every_adapter
def test_only_what_needs_a_gradient_moves_and_the_original_never(kind, adapt, tmp_path):
    network = kind.start()
    adapted = adapt(network)
    originals = state(network), state(adapted)
    tuned = kind.tuned(adapted, tmp_path)
    assert_same(network, originals[0])
    assert_same(adapted, originals[1])
    moved = {n for n, value in tuned.named_parameters() if not torch.equal(value, originals[1][n])}
    assert moved == {name for name, value in adapted.named_parameters() if value.requires_grad}


@every_kind
@every_adapter
def test_a_merged_network_is_an_ordinary_one_that_denoises_as_the_adapted_one(
    kind, adapt, rng, tmp_path
):
    tuned = kind.tuned(adapt(kind.start()), tmp_path)
    before, inputs = state(tuned), batch(kind, rng)
    plain = merged(tuned)
    assert_close(plain(*inputs), tuned(*inputs))
    assert (plain(*inputs) - kind.start()(*inputs)).abs().max() > 1e-3
    assert trainable_parameters(plain) == 0
    assert_same(tuned, before)
    save_weights(plain, tmp_path / "plain.safetensors")
    fresh = kind.build()
    load_weights(fresh, tmp_path / "plain.safetensors")
    assert_close(fresh(*inputs), plain(*inputs), rtol=0, atol=0)
    assert [type(module) for module in plain.modules()] == [type(m) for m in fresh.modules()]


@every_kind
@every_adapter
def test_merging_before_training_gives_the_original_weights(kind, adapt):
    network = kind.start()
    assert_same(merged(adapt(network)), state(network))


def test_merging_a_network_without_adapters_copies_it():
    network = MLP.start()
    plain = merged(network)
    assert_same(plain, state(network))
    assert plain is not network
    assert trainable_parameters(network) > 0


@every_kind
def test_the_lora_update_is_alpha_over_rank_b_a_of_that_rank(kind, tmp_path):
    network = kind.start()
    tuned = kind.tuned(with_lora(network, LORA, 1), tmp_path)
    factors, after, layers = state(tuned), state(merged(tuned)), 0
    for name, before in state(network).items():
        update = (after[name] - before).flatten(1) if before.ndim > 1 else after[name] - before
        layer = name.removesuffix(".weight")
        if (key := f"{layer}.lora_A.default.weight") in factors:
            a, b = factors[key].flatten(1), factors[f"{layer}.lora_B.default.weight"].flatten(1)
            assert a.shape[0] == b.shape[1] == LORA.rank
            assert_close(update, LORA.alpha / LORA.rank * b @ a)
            assert torch.linalg.matrix_rank(update, rtol=1e-9) == LORA.rank
            layers += 1
        else:
            assert update.abs().max() == 0
    assert layers == len(kind.embeddings + kind.others)


@every_kind
def test_difffit_multiplies_a_frozen_weight_and_a_trained_bias_by_the_factor(kind, tmp_path):
    network = kind.start()
    tuned = kind.tuned(with_difffit(network), tmp_path)
    before, learned, after = state(network), state(tuned), state(merged(tuned))
    factors = {name: value for name, value in learned.items() if name.endswith(".factor")}
    assert len(factors) == len(kind.others)
    for name, factor in factors.items():
        layer = name.removesuffix(".factor")
        assert factor != 1
        assert_close(after[f"{layer}.weight"], factor * before[f"{layer}.weight"])
        assert_close(after[f"{layer}.bias"], factor * learned[f"{layer}.base_layer.bias"])


@every_adapter
def test_the_average_is_of_the_factors_and_leaves_frozen_weights_alone(adapt, rng):
    network = adapt(MLP.start())
    average = averaged_copy(network)
    start = state(network)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape, generator=rng)
    update_average(average, network, 0.75, 1000)
    needed = {name for name, value in network.named_parameters() if value.requires_grad}
    for name, value in average.state_dict().items():
        new = network.state_dict()[name]
        assert_close(value, 0.75 * start[name] + 0.25 * new if name in needed else start[name])


@every_kind
@every_adapter
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(kind, adapt, tmp_path):
    network = kind.start()

    def interrupt(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kind.tuned(adapt(network), tmp_path / "resumed", progress=interrupt)
    resumed = kind.tuned(adapt(network), tmp_path / "resumed")
    whole = kind.tuned(adapt(network), tmp_path / "whole")
    assert_same(resumed, state(whole))
    load_weights(adapted := adapt(network), tmp_path / "resumed" / "weights.safetensors")
    assert_same(adapted, state(whole))


def test_the_seed_alone_decides_the_random_factors():
    network = MLP.start()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = state(with_lora(network, LORA, 1))
    assert torch.equal(torch.rand(3), expected)
    assert_same(with_lora(network, LORA, 1), first)
    other = state(with_lora(network, LORA, 2))
    differ = {name for name in first if not torch.equal(first[name], other[name])}
    assert differ == {name for name in first if ".lora_A." in name}


def test_adapters_have_the_float_type_of_their_layer(rng):
    inputs = [part.float() if part.is_floating_point() else part for part in batch(UNET, rng)]
    for adapt in ADAPTERS.values():
        adapted = adapt(UNET.start().float())
        assert {parameter.dtype for parameter in adapted.parameters()} == {torch.float32}
        assert adapted(*inputs).dtype == torch.float32


@every_adapter
def test_a_denoiser_without_weight_matrices_is_refused(adapt):
    with pytest.raises(ConfigError, match="linear layers or convolutions inside, got a LayerNorm"):
        adapt(nn.LayerNorm(2))


@pytest.mark.parametrize(
    ("settings", "got"),
    [({"rank": 0}, "0 and 8"), ({"alpha": 0.0}, "8 and 0"), ({"alpha": math.inf}, "8 and inf")],
)
def test_a_low_rank_update_that_cannot_be_is_refused(settings, got):
    with pytest.raises(ConfigError, match=f"rank of at least 1 and a finite alpha .* got {got}"):
        LoraConfig(**settings)
