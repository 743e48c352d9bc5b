from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.signal import welch

from ecgtransfer.corpus import ECGSet, LabelSpace, label_space
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.signals import limb_lead_disagreement_mv
from ecgtransfer.simulation import (
    DIAGNOSES,
    SOURCE_HOSPITAL,
    TARGET_HOSPITAL,
    draw_label_names,
    simulate,
    simulate_ecgset,
)

HOSPITALS = [SOURCE_HOSPITAL, TARGET_HOSPITAL]


def normal_signals(hospital, n=24, rate=100):
    recordings, _ = simulate([["NORM"]] * n, hospital, 5, rate)
    return np.stack([recording.signal_mv for recording in recordings]).astype(float)


def band_power(signals, low, high, rate=100):
    frequency, power = welch(signals, rate, nperseg=2 * rate, axis=-1)
    return power[..., (frequency >= low) & (frequency < high)].sum(axis=-1)


def test_records_have_the_shape_and_rate_that_was_asked_for():
    recordings, truths = simulate([["PVC"], []], SOURCE_HOSPITAL, 1, 250, 8.0)
    assert [r.signal_mv.shape for r in recordings] == [(12, 2000)] * 2
    assert recordings[0].sampling_rate_hz == 250
    assert [t.label_names for t in truths] == [("PVC",), ()]


def test_a_record_depends_on_its_own_number_and_labels_only():
    together, _ = simulate([["NORM"], ["AFIB"], ["PVC", "1AVB"]], TARGET_HOSPITAL, 4)
    others, _ = simulate([["CLBBB"], ["AFIB"], ["1AVB", "PVC"]], TARGET_HOSPITAL, 4)
    assert not np.array_equal(together[0].signal_mv, others[0].signal_mv)
    for a, b in zip(together[1:], others[1:], strict=True):
        assert np.array_equal(a.signal_mv, b.signal_mv)


@pytest.mark.parametrize(
    ("hospital", "seed"), [(TARGET_HOSPITAL, 4), (SOURCE_HOSPITAL, 5)], ids=["hospital", "seed"]
)
def test_another_hospital_or_seed_has_other_patients(hospital, seed):
    _, (here,) = simulate([["NORM"]], SOURCE_HOSPITAL, 4)
    _, (there,) = simulate([["NORM"]], hospital, seed)
    assert here.beat_times_s[0] != there.beat_times_s[0]


def test_no_two_records_are_alike():
    signals = normal_signals(SOURCE_HOSPITAL, 6)
    assert np.abs(np.corrcoef(signals.reshape(6, -1)) - np.eye(6)).max() < 0.8


@pytest.mark.parametrize("hospital", HOSPITALS, ids=lambda hospital: hospital.name)
def test_noise_and_filter_leave_einthoven_and_goldberger_alone(hospital):
    for signal in normal_signals(hospital, 3):
        assert limb_lead_disagreement_mv(signal) < 1e-5


def test_gain_multiplies_the_signal():
    louder = replace(SOURCE_HOSPITAL, gain=1.5)
    np.testing.assert_allclose(
        normal_signals(louder, 2), 1.5 * normal_signals(SOURCE_HOSPITAL, 2), rtol=1e-5, atol=1e-6
    )


def test_the_lowpass_cut_off_of_a_hospital_shows_in_the_spectrum():
    sharp, dull = (
        replace(SOURCE_HOSPITAL, lowpass_hz=cut_off, mains_mv=0.0) for cut_off in (40.0, 25.0)
    )
    power = [band_power(normal_signals(h), 30, 40).mean() for h in (sharp, dull)]
    response = [1 / (1 + (35 / cut_off) ** 4) for cut_off in (40.0, 25.0)]
    assert power[1] / power[0] == pytest.approx(response[1] / response[0], rel=0.15)


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_mains_hum_is_one_line_of_the_spectrum(mains_hz):
    humming = replace(SOURCE_HOSPITAL, mains_hz=mains_hz, mains_mv=0.05)
    line = band_power(normal_signals(humming, 4, 500), mains_hz - 1, mains_hz + 1.5, 500)
    beside = band_power(normal_signals(humming, 4, 500), mains_hz + 5, mains_hz + 7.5, 500)
    assert np.median(line / beside) > 20


def test_hum_above_half_the_sampling_rate_does_not_come_back_as_an_alias():
    quiet = replace(SOURCE_HOSPITAL, mains_hz=60.0, mains_mv=0.0)
    humming = replace(quiet, mains_mv=0.5)
    np.testing.assert_allclose(normal_signals(humming, 2), normal_signals(quiet, 2), atol=1e-6)


@pytest.mark.parametrize(("field", "low", "high"), [("wander_mv", 0.1, 0.6), ("muscle_mv", 25, 40)])
def test_noise_grows_in_its_own_band(field, low, high):
    loud = replace(SOURCE_HOSPITAL, **{field: 10 * getattr(SOURCE_HOSPITAL, field)})
    before, after = (band_power(normal_signals(h, 8), low, high) for h in (SOURCE_HOSPITAL, loud))
    assert np.median(after / before) > 5


def test_the_two_hospitals_differ_as_they_say():
    rates, sizes, fine = [], [], []
    for hospital in HOSPITALS:
        recordings, truths = simulate([["NORM"]] * 60, hospital, 8)
        signals = np.stack([recording.signal_mv for recording in recordings])
        rates.append(np.mean([truth.heart_rate_bpm for truth in truths]))
        sizes.append(np.median(np.ptp(signals[:, 7], axis=1)))
        fine.append(np.median(band_power(signals, 35, 50)))
    assert rates[1] - rates[0] == pytest.approx(10, abs=5)
    assert sizes[1] > sizes[0]
    assert fine[1] < 0.7 * fine[0]


@pytest.mark.parametrize("hospital", HOSPITALS, ids=lambda hospital: hospital.name)
def test_the_class_mix_comes_as_exactly_as_whole_records_allow(hospital):
    names = draw_label_names(hospital, 1000, 3)
    counts = Counter(first for first, *_ in names)
    for label, share in hospital.class_mix:
        assert counts[label] == pytest.approx(1000 * share, abs=1)
    seconds = sum(len(record) == 2 for record in names)
    assert 0.3 * hospital.second_diagnosis < seconds / 1000 < hospital.second_diagnosis + 0.02


def test_a_small_set_still_has_every_class():
    assert {first for first, *_ in draw_label_names(SOURCE_HOSPITAL, 9, 0)} == set(DIAGNOSES)


def test_second_diagnoses_never_contradict_the_first():
    hospital = replace(SOURCE_HOSPITAL, second_diagnosis=1.0)
    names = draw_label_names(hospital, 60, 2)
    simulate(names, hospital, 2)
    assert all(len(record) == 2 for record in names if record[0] != "NORM")


def test_a_simulated_set_is_an_ecgset_with_labels_table_and_card(tmp_path):
    space = label_space("icbeb9")
    written = simulate_ecgset(tmp_path / "set", TARGET_HOSPITAL, 40, 6, space)
    opened = ECGSet.open(written.folder)
    opened.verify()
    assert opened.origin == "simulated"
    assert opened.card["hospital"]["lowpass_hz"] == TARGET_HOSPITAL.lowpass_hz
    assert opened.card["seed"] == 6
    names = draw_label_names(TARGET_HOSPITAL, 40, 6)
    assert [set(space.decode(row)) for row in opened.labels] == [set(record) for record in names]
    recordings, truths = simulate(names, TARGET_HOSPITAL, 6)
    np.testing.assert_allclose(
        opened.signals_mv(), np.stack([r.signal_mv for r in recordings]), atol=0.0011
    )
    table = opened.records
    assert table["heart_rate_bpm"].tolist() == [truth.heart_rate_bpm for truth in truths]
    assert table["pr_ms"].isna().tolist() == ["AFIB" in record for record in names]
    assert set(table["fold"]) == set(range(1, 11))
    assert table["patient"].is_unique


def test_the_same_seed_gives_the_same_set_and_another_gives_another(tmp_path):
    first, again, other = (
        simulate_ecgset(tmp_path / name, SOURCE_HOSPITAL, 12, seed, label_space("icbeb9"))
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_classes_outside_the_label_space_are_left_out(tmp_path):
    space = LabelSpace(("AFIB", "NORM", "WPW"))
    simulated = simulate_ecgset(tmp_path / "set", SOURCE_HOSPITAL, 20, 1, space)
    assert simulated.labels.sum(axis=1).tolist() == [1.0] * 20
    assert simulated.labels[:, 2].sum() == 0
    assert set(dict(simulated.card["hospital"]["class_mix"])) == {"AFIB", "NORM"}


def test_a_label_space_without_any_class_of_the_hospital_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="'source' has none of the labels WPW; it has NORM"):
        simulate_ecgset(tmp_path / "set", SOURCE_HOSPITAL, 5, 1, LabelSpace(("WPW",)))
    assert not (tmp_path / "set").exists()


def test_an_empty_set_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least 1 record, got 0"):
        simulate_ecgset(tmp_path / "set", SOURCE_HOSPITAL, 0, 1, label_space("icbeb9"))


def test_a_set_that_is_there_is_kept_unless_told_otherwise(tmp_path):
    space = label_space("icbeb9")
    simulate_ecgset(tmp_path / "set", SOURCE_HOSPITAL, 5, 1, space)
    with pytest.raises(CorpusError, match="exists"):
        simulate_ecgset(tmp_path / "set", SOURCE_HOSPITAL, 6, 1, space)
    assert len(ECGSet.open(tmp_path / "set")) == 5
    assert len(simulate_ecgset(tmp_path / "set", SOURCE_HOSPITAL, 6, 1, space, overwrite=True)) == 6


def test_too_short_a_record_is_refused():
    with pytest.raises(ConfigError, match="lasts at least 6 s, got 2 s"):
        simulate([["NORM"]], SOURCE_HOSPITAL, 1, seconds=2.0)


def test_too_low_a_rate_is_refused():
    with pytest.raises(ConfigError, match="100 Hz or more, got 50 Hz"):
        simulate([["NORM"]], SOURCE_HOSPITAL, 1, 50)


def test_an_unknown_diagnosis_is_refused():
    with pytest.raises(CorpusError, match="no diagnosis WPW"):
        simulate([["NORM"], ["WPW"]], SOURCE_HOSPITAL, 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"class_mix": (("WPW", 1.0),)}, "no diagnosis WPW; it knows NORM"),
        ({"class_mix": ()}, "class_mix needs shares"),
        ({"class_mix": (("NORM", -1.0), ("AFIB", 2.0))}, "class_mix needs shares"),
        ({"class_mix": (("NORM", 0.0),)}, "class_mix needs shares"),
        ({"second_diagnosis": 1.5}, "between 0 and 1, got 1.5"),
        ({"heart_rate_bpm": 0.0}, "heart_rate_bpm must be above 0, got 0.0"),
        ({"gain": -1.0}, "gain must be above 0"),
        ({"lowpass_hz": 0.0}, "lowpass_hz must be above 0"),
        ({"lowpass_order": 0}, "lowpass_order must be above 0"),
        ({"mains_hz": 0.0}, "mains_hz must be above 0"),
        ({"heart_rate_sd_bpm": -1.0}, "heart_rate_sd_bpm must not be negative"),
        ({"mains_mv": -0.1}, "mains_mv must not be negative"),
        ({"wander_mv": -0.1}, "wander_mv must not be negative"),
        ({"muscle_mv": -0.1}, "muscle_mv must not be negative"),
    ],
)
def test_a_hospital_that_cannot_be_is_refused(change, sentence):
    with pytest.raises(ConfigError, match=f"hospital 'source': .*{sentence}"):
        replace(SOURCE_HOSPITAL, **change)


def test_a_hospital_survives_the_way_through_its_card():
    facts = asdict(SOURCE_HOSPITAL)
    assert type(SOURCE_HOSPITAL)(**facts) == SOURCE_HOSPITAL
