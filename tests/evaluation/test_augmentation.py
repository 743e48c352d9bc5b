import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from ecgtransfer.corpus import label_space
from ecgtransfer.errors import ConfigError
from ecgtransfer.evaluation.augmentation import (
    KNOWN_LABELS,
    TRANSFORMS,
    Augmentation,
    valid_transforms,
)
from ecgtransfer.signals import LEADS, expand_leads, independent_leads
from ecgtransfer.simulation import TARGET_HOSPITAL, simulate

RATE = 100


@pytest.fixture
def library():
    return pytest.importorskip("ecg_augmentations", reason="ecg-augmentations is not installed")


def names(transforms):
    return [transform.name for transform in transforms]


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def signals():
    """Noise with the deviation of an ECG lead, 40 records: (40, 8, 1000) mV."""
    return torch.from_numpy(np.random.default_rng(0).normal(0, 0.2, (40, 8, 1000))).float()


def test_the_table_speaks_about_the_nine_classes_and_gives_reasons():
    assert label_space("icbeb9").names == KNOWN_LABELS
    for transform in TRANSFORMS:
        assert set(transform.invalidates or {}) <= set(KNOWN_LABELS)
        assert all(transform.invalidates.values()) if transform.invalidates else True
    assert len({transform.name for transform in TRANSFORMS}) == len(TRANSFORMS)


def test_what_moves_intervals_is_kept_from_the_diagnoses_that_intervals_make():
    for label in ("1AVB", "CLBBB", "CRBBB", "NORM"):
        assert not {"time stretch", "time warp"} & set(names(valid_transforms([label])))
    assert "time shift" not in names(valid_transforms(["PVC"]))
    assert "circular shift" not in names(valid_transforms(["AFIB"]))


def test_a_transform_is_used_where_it_keeps_every_diagnosis_true():
    assert names(valid_transforms(KNOWN_LABELS)) == [
        "gain",
        "lead gain",
        "baseline wander",
        "gaussian noise",
        "muscle noise",
    ]
    assert names(valid_transforms(["STD_", "STE_"])) == names(TRANSFORMS)
    assert names(valid_transforms(["1AVB", "CLBBB"])) == [
        "gain",
        "lead gain",
        "baseline wander",
        "gaussian noise",
        "muscle noise",
        "time shift",
        "circular shift",
    ]


def test_of_an_unknown_diagnosis_only_faint_noise_is_taken_to_keep_it():
    assert names(valid_transforms(["NORM", "LVH"])) == ["gaussian noise", "muscle noise"]


def test_the_same_generator_gives_the_same_signals_and_another_others(library, signals):
    augment = Augmentation(KNOWN_LABELS, RATE)
    before = signals.clone()
    first = augment(signals, generator(1))
    assert torch.equal(first, augment(signals, generator(1)))
    assert not torch.equal(first, augment(signals, generator(2)))
    assert torch.equal(signals, before)
    assert first.shape == signals.shape
    assert first.dtype == signals.dtype


def test_global_randomness_is_left_alone(library, signals):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Augmentation(KNOWN_LABELS, RATE)(signals, generator(0))
    assert torch.equal(torch.rand(3), expected)


def test_most_records_are_changed_and_few_are_not(library):
    signals = torch.from_numpy(np.random.default_rng(0).normal(0, 0.2, (3000, 8, 100))).float()
    changed = Augmentation(KNOWN_LABELS, RATE)(signals, generator(0))
    untouched = (changed == signals).flatten(1).all(1).float().mean()
    assert float(untouched) == pytest.approx(2**-5, abs=0.012)


def test_the_change_is_below_what_is_read_on_paper(library):
    """ST level against the PR segment 0.2 s before, of a flat record with 0.2 mV of ST shift."""
    st = torch.zeros(500, 8, 1000)
    st[:, :, 500:] = 0.2
    augment = Augmentation(("STD_", "NORM", "1AVB"), RATE)
    quiet = [t for t in augment.transforms if "noise" not in t.name and "shift" not in t.name]
    assert names(quiet) == ["gain", "lead gain", "baseline wander"]
    for transform in quiet:
        rate = {"fs": RATE} if transform.timed else {}
        change = getattr(library, transform.kind)(**rate, **transform.settings)
        changed = change(st, generator=generator(0))
        level = changed[:, :, 505] - changed[:, :, 485]
        assert float((level - 0.2).abs().max()) < 0.025


@pytest.fixture(scope="module")
def ecgs():
    """Simulated records of the nine classes, independent leads: (9, 8, 1000) mV."""
    recordings, _ = simulate([[label] for label in KNOWN_LABELS], TARGET_HOSPITAL, 0)
    twelve = np.stack([recording.signal_mv for recording in recordings])
    return torch.from_numpy(independent_leads(twelve)).float()


def test_limb_leads_agree_after_augmentation_as_before(library, ecgs):
    changed = expand_leads(Augmentation(KNOWN_LABELS, RATE)(ecgs, generator(3)).double())
    assert not torch.equal(changed[:, 0], ecgs[:, 0].double())
    lead = {name: changed[:, LEADS.index(name)] for name in LEADS}
    assert float((lead["I"] + lead["III"] - lead["II"]).abs().max()) < 1e-9
    assert float((lead["aVR"] + lead["aVL"] + lead["aVF"]).abs().max()) < 1e-9


def test_no_beat_moves_and_every_lead_stays_itself(library, ecgs):
    changed = Augmentation(KNOWN_LABELS, RATE)(ecgs, generator(3))
    for before, after in zip(ecgs, changed, strict=True):
        agreement = np.corrcoef(np.diff(before.numpy()), np.diff(after.numpy()))[8:, :8]
        assert_array_equal(agreement.argmax(axis=1), np.arange(8))
        assert agreement.diagonal().min() > 0.95
        for lag in (-2, -1, 1, 2):
            moved = np.corrcoef(before[1].numpy(), np.roll(after[1].numpy(), lag))[0, 1]
            assert moved < np.corrcoef(before[1].numpy(), after[1].numpy())[0, 1]


def test_a_low_sampling_rate_leaves_out_what_it_cannot_carry(library, signals):
    slow = Augmentation(KNOWN_LABELS, 40)
    assert "muscle noise" not in names(slow.transforms)
    assert torch.isfinite(slow(signals, generator(0))).all()


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: transform.name)
def test_every_transform_of_the_table_is_one_of_the_library(library, signals, transform):
    rate = {"fs": RATE} if transform.timed else {}
    change = getattr(library, transform.kind)(**rate, **transform.settings)
    changed = change(signals, generator=generator(0))
    assert changed.shape == signals.shape
    assert torch.isfinite(changed).all()
    assert not torch.equal(changed, signals)


def test_a_card_names_every_range():
    described = Augmentation(KNOWN_LABELS, RATE).describe()
    assert [one["transform"] for one in described] == names(valid_transforms(KNOWN_LABELS))
    assert described[2]["settings"]["freq"] == [0.05, 0.3]
    assert described[2]["sampling_rate_hz"] == 100.0
    assert "sampling_rate_hz" not in described[0]


def test_bad_augmentations_are_refused(signals):
    with pytest.raises(ConfigError, match="positive sampling rate"):
        Augmentation(KNOWN_LABELS, 0)
    with pytest.raises(ConfigError, match="names of the diagnoses"):
        Augmentation((), RATE)
    with pytest.raises(ConfigError, match="8 independent leads"):
        Augmentation(KNOWN_LABELS, RATE)(signals[:, :3], generator(0))
