import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import stats
from small_rhythm import CONFIG, NAMES, conditions, model, train_of
from torch.testing import assert_close

from ecgtransfer.errors import ConfigError
from ecgtransfer.rhythm import (
    GammaRenewal,
    RhythmConfig,
    RhythmModel,
    fit_rhythm,
    hidden_statements,
)
from ecgtransfer.signals import Beats
from ecgtransfer.training import TrainConfig, load_weights, seeded_initialisation

#: A window in which there is room for one beat, or two.
NARROW = replace(CONFIG, window_s=(0.1, 0.39))


def log_p(made, trains, label=(0.0, 1.0)):
    with torch.no_grad():
        return made.log_likelihood(trains, *conditions(len(trains), label))


def test_the_likelihood_of_all_trains_sums_to_one():
    made = model(NARROW, spread=0.3)
    with torch.no_grad():  # intervals of about 0.2 s
        for layer, components in ((made.network.first[-1], 2), (made.network.next[-1], 2)):
            layer.bias[3 * components : 6 * components] -= 1.4
    start, end = NARROW.window_s
    nodes, weights = np.polynomial.legendre.leggauss(40)

    def between(low, high):
        """Nodes and weights of Gauss and Legendre's rule."""
        return low + (high - low) * (nodes + 1) / 2, weights * (high - low) / 2

    none = log_p(made, [train_of()]).exp().sum()
    times, step = between(start, end)
    one = torch.from_numpy(step) @ log_p(made, [train_of(t, kinds=[0]) for t in times]).exp()
    two, area = [], []
    times, step = between(start, end - 0.15)
    for first, own in zip(times, step, strict=True):
        seconds, inner = between(first + 0.150001, end)
        two += [train_of(first, second, kinds=[0, 0]) for second in seconds]
        area.append(own * inner)
    double = torch.from_numpy(np.concatenate(area)) @ log_p(made, two).exp()
    assert 0.1 < double < 0.9
    assert float(none + one + double) == pytest.approx(1, abs=5e-3)


def test_samples_follow_the_likelihood():
    """E_p[f q / p] = E_q[f]: trains of one model, weighted by likelihoods, are those of another."""
    first, second, n = model(spread=0.3), model(spread=0.3), 4000
    with torch.no_grad():  # longer intervals, more ventricular beats
        for made in (first, second):
            bias = made.network.next[-1].bias[:-1].view(3, 3, CONFIG.components)
            bias[2] = -1.5
        bias[0, 1] += 1.0
        bias[1] += 0.15
    drawn = first.sample(*conditions(n), seeds=range(n))
    others = second.sample(*conditions(n), seeds=range(n, 2 * n))
    weight = (log_p(second, drawn) - log_p(first, drawn)).exp().numpy()

    def described(trains):
        """1, beats, first time, last kind, longest interval."""
        return np.array(
            [
                [
                    1.0,
                    len(each.times_s),
                    each.times_s[0] if len(each.times_s) else CONFIG.duration_s,
                    each.kinds[-1] if len(each.kinds) else 0,
                    each.rr_s.max(initial=0.0),
                ]
                for each in trains
            ]
        )

    weighted, direct = weight[:, None] * described(drawn), described(others)
    error = np.sqrt((weighted.var(0) + direct.var(0)) / n)
    assert np.all(np.abs(weighted.mean(0) - direct.mean(0)) < 4 * error)
    apart = np.abs(described(drawn).mean(0) - direct.mean(0))
    assert apart[1] > 4 * error[1]  # the two models do differ


def test_a_train_does_not_depend_on_its_batch():
    made = model().float()
    label = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(20, 1)
    known = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) < 0.7
    age, sex = torch.linspace(20, 80, 40), torch.ones(40)
    age[3], sex[4] = math.nan, math.nan
    together = made.sample(label, known, age, sex, range(40))
    order = [7, 3, 39]
    some = made.sample(label[order], known[order], age[order], sex[order], order)
    for own, train in zip(order, some, strict=True):
        assert_array_equal(train.times_s, together[own].times_s)
        assert_array_equal(train.kinds, together[own].kinds)
    assert len({tuple(train.times_s) for train in together}) == 40


def test_a_seed_may_be_a_generator():
    made = model()
    by_seed = made.sample(*conditions(1), seeds=[5])
    by_generator = made.sample(*conditions(1), seeds=[np.random.default_rng(5)])
    assert_array_equal(by_seed[0].times_s, by_generator[0].times_s)


def test_samples_lie_in_the_window_and_have_known_kinds():
    drawn = model().sample(*conditions(500), seeds=range(500))
    times = np.concatenate([train.times_s for train in drawn])
    start, end = CONFIG.window_s
    assert start <= times.min() < start + 0.05
    assert end - 0.05 < times.max() < end
    assert set(np.concatenate([train.kinds for train in drawn])) == {1, 2, 3}
    assert all(train.duration_s == CONFIG.duration_s for train in drawn)


def test_beats_outside_the_window_change_nothing():
    made = model()
    inside = train_of(0.2, 0.7, 1.3)
    outside = train_of(0.02, 0.2, 0.7, 1.3, 1.95)
    assert_close(log_p(made, [inside]), log_p(made, [outside]))


def test_an_unknown_last_kind_is_the_sum_over_kinds():
    made = model()
    known = [train_of(0.2, 0.9, kinds=[1, kind]) for kind in (1, 2, 3)]
    with torch.no_grad():
        # Of the last beat alone: the window ends before another could follow.
        short = RhythmModel(replace(CONFIG, window_s=(0.1, 0.95))).double()
        short.load_state_dict(made.state_dict())
    together = torch.logsumexp(log_p(short, known), 0)
    assert_close(log_p(short, [train_of(0.2, 0.9, kinds=[1, 0])])[0], together)


def test_a_batch_is_scored_as_its_records_alone():
    made = model()
    trains = [train_of(), train_of(0.2), train_of(0.2, 0.4, 0.6, 1.7, kinds=[2, 1, 3, 0])]
    alone = torch.cat([log_p(made, [train]) for train in trains])
    assert_close(log_p(made, trains), alone)


def test_what_is_not_known_changes_nothing():
    made = model()
    label, known, age, sex = conditions(1)
    hidden = torch.tensor([[True, False]])
    train = [train_of(0.3, 0.8)]
    with torch.no_grad():
        first = made.log_likelihood(train, label, hidden, age, sex)
        second = made.log_likelihood(train, label * torch.tensor([[1.0, 0.0]]), hidden, age, sex)
        seen = made.log_likelihood(train, label, known, age, sex)
        old = made.log_likelihood(train, label, hidden, age.nan_to_num(80.0), sex)
    assert_close(first, second)
    assert abs(float(first - seen)) > 1e-4
    assert abs(float(first - old)) > 1e-4


def test_all_parameters_learn():
    made = model()
    trains = [train_of(0.3, 0.8, 1.2, kinds=[1, 2, 3]), train_of(0.3, 0.7)]
    made.log_likelihood(trains, *conditions(2)).sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in made.parameters())


def test_trains_of_a_heart_rate_are_those_that_have_it_by_chance():
    made, n = model(replace(CONFIG, duration_s=4.0, window_s=(0.0, 4.0)), spread=0.3), 1500
    free = made.sample(*conditions(4 * n), seeds=range(4 * n))
    rates = np.array([60 / np.median(t.rr_s) if len(t.rr_s) else np.nan for t in free])
    low, high = np.nanquantile(rates, [0.5, 0.8])
    asked = made.sample(*conditions(n), seeds=range(n), heart_rate_bpm=[[low, high]] * n)
    found = np.array([60 / np.median(train.rr_s) for train in asked])
    assert np.all((found >= low) & (found <= high))
    by_chance = rates[(rates >= low) & (rates <= high)]
    assert stats.ks_2samp(found, by_chance).pvalue > 1e-3
    counts = [np.mean([len(t.times_s) for t in asked])]
    counts.append(
        np.mean([len(t.times_s) for t, r in zip(free, rates, strict=True) if low <= r <= high])
    )
    assert counts[0] == pytest.approx(counts[1], abs=0.2)


def test_a_range_is_asked_for_where_it_is_not_nan():
    made = model(spread=0.3)
    free = made.sample(*conditions(2), seeds=[1, 2])
    ranges = [[math.nan, math.nan], [100, 140]]
    some = made.sample(*conditions(2), seeds=[1, 2], heart_rate_bpm=ranges)
    assert_array_equal(some[0].times_s, free[0].times_s)
    assert 100 <= 60 / np.median(some[1].rr_s) <= 140


def test_a_rate_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"trains of beats for FAST has a heart rate of 500 to"):
        model().sample(*conditions(1), seeds=[0], heart_rate_bpm=[[500, 600]])
    unknown = conditions(1, (0.0, 0.0))
    with pytest.raises(ConfigError, match=r"for no statement has a heart rate of 500 to 600 bpm"):
        model().sample(*unknown, seeds=[0], heart_rate_bpm=[[500, 600]])


@pytest.mark.parametrize("ranges", [[[60, 50]], [[60, math.nan]], [[-1, 60]]])
def test_ranges_upside_down_are_refused(ranges):
    with pytest.raises(ConfigError, match="a lowest heart rate below the highest"):
        model().sample(*conditions(1), seeds=[0], heart_rate_bpm=ranges)


def test_ranges_of_other_records_are_refused():
    with pytest.raises(ConfigError, match=r"each of 1 records, got an array of shape \(2,\)"):
        model().sample(*conditions(1), seeds=[0], heart_rate_bpm=[50, 60])


def test_conditions_of_other_records_are_refused():
    label, known, age, sex = conditions(2)
    with pytest.raises(ConfigError, match=r"label and known of shape \(1, 2\)"):
        model().sample(label, known, age, sex, [0])
    with pytest.raises(ConfigError, match=r"known bool, got .* of torch.float32"):
        model().sample(label, label, age, sex, [0, 1])
    with pytest.raises(ConfigError, match=r"one age and one sex for each of 2 records"):
        model().log_likelihood([train_of()] * 2, label, known, age[:1], sex)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"label_names": ()}, "at least one label name"),
        ({"label_names": ("A", "A")}, "none twice"),
        ({"window_s": (0.5, 0.4)}, r"window of at least 0\.15 s within 0 to 2 s, got 0\.5 to 0\.4"),
        ({"window_s": (0.0, 2.5)}, "within 0 to 2 s"),
        ({"window_s": (0.5, 0.6)}, r"at least 0\.15 s"),
        ({"width": 0}, "of at least 1, got 0, 2 and 2"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, match):
    with pytest.raises(ConfigError, match=match):
        replace(CONFIG, **wrong)


def test_statements_are_hidden_in_three_ways():
    core = torch.tensor([True, True, False, False, False])
    known = torch.ones(20_000, 5, dtype=torch.bool)
    known[:, 4] = False
    generator = torch.Generator().manual_seed(0)
    shown = hidden_statements(known, core, generator, hide_all=0.1, show_core=0.45)
    assert not shown[:, 4].any()
    # None: a tenth, and 45 % of the mean of u^4 (four statements), which is 1/5.
    none = (~shown).all(1).float().mean()
    assert none == pytest.approx(0.1 + 0.45 / 5, abs=0.01)
    only_core = (shown == torch.tensor([True, True, False, False, False])).all(1).float().mean()
    # The core alone: 45 %, and 45 % of the mean of u^2 (1 - u)^2, which is 1/30.
    assert only_core == pytest.approx(0.45 + 0.45 / 30, abs=0.01)
    assert shown[:, 3].float().mean() == pytest.approx(0.45 / 2, abs=0.01)


# A truth that a model can be held against: alternation of fast and slow by label.
TRUTH = {
    "SLOW": GammaRenewal(shape=60.0, scale_s=0.015, kind_probability=(0.98, 0.01, 0.01)),
    "FAST": GammaRenewal(shape=60.0, scale_s=0.005, kind_probability=(0.6, 0.3, 0.1)),
}
LEARNT = RhythmConfig(NAMES, duration_s=4.0, window_s=(0.0, 4.0), width=16, components=2)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A model that has learnt a renewal process of known entropy, and the records."""
    rng = np.random.default_rng(0)
    label = np.eye(2, dtype=np.float32)[rng.integers(2, size=2500)]
    names = [NAMES[row.argmax()] for row in label]
    beats = [TRUTH[name].sample(4.0, rng) for name in names]
    with seeded_initialisation(0):
        made = RhythmModel(LEARNT)
    folder = tmp_path_factory.mktemp("learnt")
    unknown = np.full(2500, np.nan)
    result = fit_rhythm(
        made,
        beats,
        label,
        np.ones((2500, 2), dtype=bool),
        unknown,
        unknown,
        np.arange(1500),
        np.arange(1500, 2500),
        TrainConfig(
            steps=250,
            batch_size=128,
            learning_rate=1e-2,
            warmup_steps=20,
            ema_decay=0.98,
            validate_every=50,
        ),
        folder,
    )
    return made, beats, label, result, folder


def test_a_renewal_process_is_learnt(learnt):
    made, beats, label, result, _ = learnt
    held_out = range(1500, 2500)
    truth = np.array(
        [TRUTH[NAMES[label[i].argmax()]].log_likelihood([beats[i]])[0] for i in held_out]
    )
    told = torch.from_numpy(label[1500:])
    nothing = torch.full((1000,), math.nan)
    with torch.no_grad():
        found = made.log_likelihood(
            beats[1500:], told, torch.ones(1000, 2, dtype=torch.bool), nothing, nothing
        ).numpy()
    assert result.validation == pytest.approx(-found.mean(), abs=1e-3)
    # The truth is the best there is; a tenth of a nat a train is lost to learning.
    lost = truth.mean() - found.mean()
    assert -0.05 < lost < 0.25


def test_the_learnt_model_draws_the_rates_and_kinds_of_the_truth(learnt):
    made = learnt[0]
    for name, label in (("SLOW", (1.0, 0.0)), ("FAST", (0.0, 1.0))):
        drawn = made.sample(*conditions(400, label), seeds=range(400))
        rr_s = np.concatenate([train.rr_s for train in drawn])
        reference = [TRUTH[name].sample(4.0, np.random.default_rng(i)) for i in range(400)]
        expected = np.concatenate([train.rr_s for train in reference])
        for share in (0.1, 0.5, 0.9):
            quantile = np.quantile(expected, share)
            assert np.quantile(rr_s, share) == pytest.approx(quantile, rel=0.08)
        ventricular = np.mean(np.concatenate([train.kinds for train in drawn]) == 2)
        assert ventricular == pytest.approx(TRUTH[name].kind_probability[1], abs=0.04)


def test_the_weights_on_disk_are_those_of_the_model(learnt):
    made, *_, folder = learnt
    with seeded_initialisation(5):
        read = RhythmModel(LEARNT)
    load_weights(read, folder / "weights.safetensors")
    trains = [Beats(np.array([0.5, 1.0]), np.array([1, 1], dtype=np.int8), 4.0)]
    assert_close(log_p(read, trains), log_p(made, trains))


def small_fit(folder, *, train=(0, 1), core_labels=(), records=2):
    label, known, age, sex = (part.numpy() for part in conditions(records))
    return fit_rhythm(
        model().float(),
        [train_of(0.3, 0.8)] * 2,
        label,
        known,
        age,
        sex,
        np.array(train, dtype=np.int64),
        np.empty(0, dtype=np.int64),
        TrainConfig(steps=1, batch_size=2),
        folder,
        core_labels=core_labels,
    )


def test_a_training_without_held_out_records_validates_nothing(tmp_path):
    assert small_fit(tmp_path, core_labels=("FAST",)).validation is None


def test_trainings_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least 1 training record, got none"):
        small_fit(tmp_path, train=())
    with pytest.raises(ConfigError, match="core labels among SLOW, FAST, got 'MEDIUM'"):
        small_fit(tmp_path, core_labels=("MEDIUM",))
    with pytest.raises(ConfigError, match=r"label and known of shape \(2, 2\)"):
        small_fit(tmp_path, records=3)
