"""The heart as a moving electric dipole, and its projection on twelve leads.

The dipole moment d(t) in millivolts has X to the patient's left, Y to the feet, Z to the back. It
is a sum of Gaussian waves (McSharry et al., IEEE Trans Biomed Eng 2003; in three dimensions:
Sameni et al., EURASIP J Adv Signal Process 2007),

    d(t) = sum over beats b and waves w of  a_bw exp(-(t - t_b - c_w)^2 / (2 s_w^2)),

and the eight independent leads are L d(t) with the lead vectors L of Dower, Machado and Osborne
(Clin Cardiol 1980); Einthoven and Goldberger give the other four.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import INDEPENDENT_LEADS, LEADS, expand_leads
from ecgtransfer.simulation.rhythm import MARGIN_S, clipped_normal, draw_rhythm

Array = NDArray[np.float64]

#: Lead vectors, millivolt per millivolt of dipole along X, Y, Z (Dower, Machado, Osborne 1980).
LEAD_VECTORS = {
    "I": (0.632, -0.235, 0.059),
    "II": (0.235, 1.066, -0.132),
    "V1": (-0.515, 0.157, -0.917),
    "V2": (0.044, 0.164, -1.387),
    "V3": (0.882, 0.098, -1.277),
    "V4": (1.213, 0.127, -0.601),
    "V5": (1.125, 0.127, -0.086),
    "V6": (0.831, 0.076, 0.230),
}


class Wave(NamedTuple):
    """A Gaussian wave of the dipole: centre and standard deviation in ms, peak in mV (X, Y, Z)."""

    centre_ms: float
    width_ms: float
    x: float
    y: float
    z: float


# The constants below are rounded from Gaussian fits to mean beats of PTB-XL 1.0.3 (Wagner et al.
# 2020), projected by the inverse of LEAD_VECTORS, and adjusted to textbook criteria of each
# diagnosis. QRS centres are relative to the R peak, P centres to the first P wave, T centres to the
# last T wave.

#: Right atrium (forward), then left atrium (backward): a P wave that is first positive and then
#: negative in V1.
P_WAVES = (Wave(0, 18, 0.035, 0.075, -0.055), Wave(34, 18, 0.060, 0.065, 0.045))
#: Septum to the right and front, free walls to the left and down, base to the back.
QRS_NORMAL = (
    Wave(-25, 9, -0.11, -0.05, -0.12),
    Wave(-16, 9, 0.17, 0.04, -0.34),
    Wave(-2, 9.5, 1.22, 0.68, 0.50),
    Wave(11, 9.5, -0.22, -0.07, 0.52),
    Wave(24, 14, -0.05, -0.04, 0.10),
)
#: Left bundle branch block: no septal q, two humps to the left, late activation to the back.
QRS_LEFT_BLOCK = (
    Wave(-40, 11, 0.10, 0.06, -0.10),
    Wave(-26, 16, 0.78, 0.24, 0.50),
    Wave(2, 19, 0.32, 0.20, 1.50),
    Wave(28, 17, 0.72, 0.02, 0.92),
    Wave(56, 14, 0.05, -0.04, 0.20),
)
#: Right bundle branch block: a normal start, then slow activation to the right and front.
QRS_RIGHT_BLOCK = (
    Wave(-26, 8, -0.10, -0.04, -0.22),
    Wave(-12, 9, 0.62, 0.16, -0.10),
    Wave(-2, 9, 0.66, 0.34, 0.42),
    Wave(10, 9, -0.05, -0.02, 0.18),
    Wave(38, 17, -0.56, -0.12, -0.62),
    Wave(64, 19, -0.28, -0.05, -0.32),
)
#: A beat of ventricular origin: slurred start, two main waves, one direction (X here).
QRS_VENTRICULAR = (
    Wave(-42, 15, 0.34, 0.22, 0.00),
    Wave(-12, 15, 1.10, 0.25, 0.18),
    Wave(22, 16, 0.88, -0.35, -0.10),
    Wave(54, 15, 0.28, 0.10, -0.20),
)
#: T rises slowly and falls faster, so that it needs two waves.
T_NORMAL = (Wave(-46, 47, 0.10, 0.04, -0.22), Wave(0, 33, 0.24, 0.12, 0.00))
T_LEFT_BLOCK = (Wave(-58, 50, -0.17, -0.06, -0.36), Wave(0, 36, -0.14, -0.04, -0.16))
T_RIGHT_BLOCK = (Wave(-46, 46, 0.12, 0.06, 0.11), Wave(0, 34, 0.10, 0.06, 0.05))
T_VENTRICULAR = (Wave(-56, 48, -0.42, 0.03, 0.05), Wave(0, 36, -0.28, 0.00, 0.05))
#: The ST segment is a plateau of four waves after the J point; heights at rest and in the blocks.
ST_CENTRES_MS = (8.0, 43.0, 78.0, 113.0)
ST_WIDTH_MS = 28.0
ST_REST = (-0.02, -0.02, -0.05)
ST_LEFT_BLOCK = (-0.10, -0.04, -0.17)
ST_RIGHT_BLOCK = (0.02, 0.00, 0.03)

#: Standard deviation of the heart's orientation between patients, about X, Y and Z.
AXIS_SD_DEG = np.array([8.0, 13.0, 16.0])
#: How much the location of a wave changes its lead vectors, as a fraction of their length.
LEAD_SHIFT = 0.05

#: Infinitesimal rotation of the heart by a breath, mostly in the frontal plane.
BREATH_TURN = np.array([[0.0, -1.0, 0.5], [1.0, 0.0, -0.3], [-0.5, 0.3, 0.0]])

#: Samples that are computed together, so that distant waves can be skipped (and BLAS starts no
#: threads), and extent of a wave in widths: at 5 widths, 1 part in 270,000 of the peak is left.
BLOCK_SAMPLES = 128
TAIL_WIDTHS = 5.0

#: QRS duration, ms: (mean, standard deviation, lowest, highest).
QRS_NORMAL_MS = (91.0, 7.0, 76.0, 108.0)
QRS_LEFT_BLOCK_MS = (148.0, 10.0, 130.0, 172.0)
QRS_RIGHT_BLOCK_MS = (140.0, 9.0, 126.0, 162.0)
QRS_VENTRICULAR_MS = (158.0, 12.0, 136.0, 186.0)
#: Rate-corrected QT of a narrow QRS (Fridericia: QT / RR^(1/3), RR in s).
QTC_MS = (408.0, 18.0, 365.0, 450.0)
#: QRS onset and J point: where the QRS dipole first exceeds this and last falls below it.
QRS_THRESHOLD_MV = 0.06
#: Onset and end of P and T by the tangent at the steepest slope: two widths for a Gaussian.
TANGENT_WIDTHS = 2.0
#: The ST level is measured this long after the J point.
ST_POINT_MS = 60.0

#: Origins of ventricular beats, as directions of their main wave (X, Y, Z): right outflow tract,
#: right apex, left free wall low and high.
VENTRICULAR_ORIGINS = (
    (0.45, 0.80, 0.60),
    (0.70, -0.55, 0.65),
    (-0.75, 0.35, -0.65),
    (-0.55, -0.65, -0.60),
)

#: ST depression: direction of the injury dipole, and leads in which it must be visible.
ST_DEPRESSIONS = (
    ((-0.90, -0.25, 0.05), ("V5", "V6")),
    ((-0.30, -0.95, 0.05), ("II", "aVF")),
    ((-0.80, -0.70, 0.10), ("II", "V5", "V6")),
)
#: ST elevation by territory: anterior, inferior, lateral.
ST_ELEVATIONS = (
    ((0.35, 0.08, -0.90), ("V2", "V3", "V4")),
    ((-0.15, 1.00, 0.10), ("II", "III", "aVF")),
    ((1.00, -0.30, 0.10), ("I", "aVL", "V5", "V6")),
)
#: ST level in the least affected of those leads, mV: (mean, sd, lowest, highest).
ST_DEPRESSION_MV = (0.16, 0.05, 0.11, 0.30)
ST_ELEVATION_MV = (0.22, 0.08, 0.14, 0.45)


@dataclass(frozen=True, eq=False)
class Truth:
    """Ground truth of a simulated record.

    Attributes:
        label_names: diagnoses.
        beat_times_s: (n,) R peaks within the record.
        beat_types: (n,) "N" (conducted), "A" (atrial premature), "V" (ventricular premature).
        pr_ms, qrs_ms, qt_ms: (n,) intervals of each beat; PR is NaN without a P wave.
        heart_rate_bpm: mean heart rate.
        st_mv: (12,) level of the conducted beats at J + 60 ms relative to the isoelectric line, in
            the order of `LEADS`, before the recorder's gain.
    """

    label_names: tuple[str, ...]
    beat_times_s: Array
    beat_types: tuple[str, ...]
    pr_ms: Array
    qrs_ms: Array
    qt_ms: Array
    heart_rate_bpm: float
    st_mv: Array

    def __post_init__(self) -> None:
        """Check the lengths.

        Raises:
            SignalError: not one entry per beat, or not one ST level per lead.
        """
        beats = len(self.beat_times_s)
        others = (self.beat_types, self.pr_ms, self.qrs_ms, self.qt_ms)
        if any(len(column) != beats for column in others) or self.st_mv.shape != (len(LEADS),):
            raise SignalError(
                f"a truth needs one type, PR, QRS and QT for each of its {beats} beats and one ST "
                f"level for each of {len(LEADS)} leads; got {[len(c) for c in others]} and "
                f"{len(self.st_mv)}"
            )


@dataclass(frozen=True, eq=False)
class _Waves:
    """Waves as arrays: centres and widths (w,) in ms, and their peaks (w, 3) in mV."""

    centre_ms: Array
    width_ms: Array
    dipole_mv: Array

    def moved(self, by_ms: float) -> "_Waves":
        return _Waves(self.centre_ms + by_ms, self.width_ms, self.dipole_mv)

    def at(self, time_ms: Array) -> Array:
        """Dipole (n, 3) in mV at the given times (n,)."""
        return _bells(time_ms, self.centre_ms, self.width_ms) @ self.dipole_mv


@dataclass(frozen=True, eq=False)
class _Complex:
    """QRS, ST and T of one kind of beat, with times relative to the R peak."""

    qrs: _Waves
    st: _Waves
    t: _Waves
    onset_ms: float
    qrs_ms: float
    qt_ms: float


class _Anatomy:
    """Properties of one patient: axes, amplitudes and electrode positions."""

    def __init__(self, rng: np.random.Generator) -> None:
        turns = np.radians(AXIS_SD_DEG * np.clip(rng.normal(size=3), -1.6, 1.6))
        self.turn = _rotation(*turns)
        self.size = np.exp(rng.normal(0, 0.22))
        base = np.array([LEAD_VECTORS[lead] for lead in INDEPENDENT_LEADS])
        scale = np.exp(rng.normal(0, [0.04] * 2 + [0.12] * 6))[:, None]
        self.lead_vectors = base * scale

    def leads(self, rng: np.random.Generator) -> Array:
        """Lead vectors (8, 3) of one wave; they differ because waves have different locations."""
        length = np.linalg.norm(self.lead_vectors, axis=1, keepdims=True)
        shift = LEAD_SHIFT * length * rng.normal(size=self.lead_vectors.shape)
        return np.asarray(self.lead_vectors + shift, dtype=np.float64)

    def waves(
        self, template: tuple[Wave, ...], spread: float, size: float, rng: np.random.Generator
    ) -> _Waves:
        """Apply the patient's anatomy to a template; `spread` is the log sd of wave amplitudes."""
        table = np.array(template)
        peaks = size * np.exp(rng.normal(0, spread, (len(table), 1))) * table[:, 2:]
        return _Waves(table[:, 0], table[:, 1], self.size * peaks @ self.turn.T)


def heart_signal(
    diagnoses: frozenset[str],
    heart_rate_bpm: float,
    seconds: float,
    sampling_rate_hz: float,
    rng: np.random.Generator,
) -> tuple[Array, Truth]:
    """Simulate eight leads of one heart, without noise and filters.

    Returns:
        Leads I, II, V1-V6, (8, n) in millivolts, from `MARGIN_S` before the record to `MARGIN_S`
        after it; and the ground truth of the record.
    """
    rhythm = draw_rhythm(diagnoses, heart_rate_bpm, seconds, rng)
    anatomy = _Anatomy(rng)
    n = round((seconds + 2 * MARGIN_S) * sampling_rate_hz)
    time_s = np.arange(n) / sampling_rate_hz - MARGIN_S
    leads = {part: anatomy.leads(rng) for part in ("p", "qrs", "st", "t")}
    conducted = _conducted(diagnoses, anatomy, leads, rhythm.mean_interval_s, rng)
    beats = rhythm.times_s[:, None, None]
    early = rhythm.types == "V"
    # The heart rotates and its signal swells slightly with each breath, and beats differ.
    breath = np.sin(2 * np.pi * rhythm.breaths_per_s * rhythm.times_s)
    tilt = np.radians(rng.uniform(1.0, 5.0)) * breath
    turns = np.eye(3) + tilt[:, None, None] * BREATH_TURN
    swell = 1 + rng.uniform(0.01, 0.05) * breath
    # Repolarisation adapts to the mean interval more than to the last one.
    usual = rhythm.mean_interval_s
    stretch = np.cbrt((0.75 * usual + 0.25 * rhythm.preceding_s) / usual)

    events: list[tuple[Array, Array, Array]] = []

    def add(
        waves: _Waves, part: str, which: NDArray[np.bool_], jitter: float, delay: Array
    ) -> None:
        """Add waves to every beat in `which`, delayed by `delay` (beats, waves) in ms."""
        size = swell[which, None] * (1 + jitter * rng.normal(size=(int(which.sum()), 1)))
        dipole = size[..., None] * np.einsum("bij,wj->bwi", turns[which], waves.dipole_mv)
        centre = beats[which, 0] + (waves.centre_ms + delay) / 1000
        width = np.broadcast_to(waves.width_ms / 1000, centre.shape)
        events.append((centre.ravel(), width.ravel(), (dipole @ leads[part].T).reshape(-1, 8)))

    qrs_ms = np.empty(len(early))
    qt_ms = np.empty(len(early))
    kinds = [(conducted, ~early)]
    if early.any():
        kinds.append((_ventricular(anatomy, conducted, rng), early))
    for kind, which in kinds:
        late = ((stretch[which] - 1) * kind.qt_ms)[:, None]
        add(kind.qrs, "qrs", which, 0.02, np.zeros((1, 1)))
        add(kind.st, "st", which, 0.03, late * 0.3)
        add(kind.t, "t", which, 0.04, late)
        qrs_ms[which] = kind.qrs_ms
        qt_ms[which] = stretch[which] * kind.qt_ms
    atrial = anatomy.waves(P_WAVES, 0.15, np.exp(rng.normal(0, 0.22)), rng)
    first_ms = conducted.onset_ms + TANGENT_WIDTHS * atrial.width_ms[0]
    for letter, waves in (("N", atrial), ("A", _other_p(atrial, rng))):
        which = (rhythm.types == letter) & np.isfinite(rhythm.pr_ms)
        if which.any():
            add(waves, "p", which, 0.05, (first_ms - rhythm.pr_ms[which])[:, None])
    if len(rhythm.concealed_s):
        pr = float(np.nanmean(rhythm.pr_ms[rhythm.types == "N"]))
        centre = rhythm.concealed_s[:, None] + (atrial.centre_ms + first_ms - pr) / 1000
        peaks = np.tile(atrial.dipole_mv @ leads["p"].T, (len(centre), 1))
        widths = np.broadcast_to(atrial.width_ms / 1000, centre.shape)
        events.append((centre.ravel(), widths.ravel(), peaks))

    centre, width, peak = (np.concatenate(column) for column in zip(*events, strict=True))
    signal = np.empty((len(INDEPENDENT_LEADS), n))
    for start in range(0, n, BLOCK_SAMPLES):
        block = time_s[start : start + BLOCK_SAMPLES]
        near = (centre + TAIL_WIDTHS * width > block[0]) & (
            centre - TAIL_WIDTHS * width < block[-1]
        )
        signal[:, start : start + BLOCK_SAMPLES] = (
            _bells(block, centre[near], width[near]) @ peak[near]
        ).T
    if "AFIB" in diagnoses:
        signal += anatomy.lead_vectors @ _fibrillation(time_s, rng)

    inside = (rhythm.times_s >= 0) & (rhythm.times_s < seconds)
    times = rhythm.times_s[inside]
    truth = Truth(
        label_names=tuple(sorted(diagnoses)),
        beat_times_s=times,
        beat_types=tuple(str(kind) for kind in rhythm.types[inside]),
        pr_ms=rhythm.pr_ms[inside],
        qrs_ms=qrs_ms[inside],
        qt_ms=qt_ms[inside],
        heart_rate_bpm=float(60 / np.diff(times).mean()),
        st_mv=_st_level(conducted, leads),
    )
    return signal, truth


def _conducted(
    diagnoses: frozenset[str],
    anatomy: _Anatomy,
    leads: dict[str, Array],
    interval_s: float,
    rng: np.random.Generator,
) -> _Complex:
    """A conducted beat, with its bundle branches and ST segment."""
    qrs_law, st = QRS_NORMAL_MS, ST_REST
    qrs_waves: tuple[Wave, ...] = QRS_NORMAL
    t_waves: tuple[Wave, ...] = T_NORMAL
    t_size = np.exp(rng.normal(0, 0.28))
    if "CLBBB" in diagnoses:
        qrs_law, qrs_waves, t_waves, st = (
            QRS_LEFT_BLOCK_MS, QRS_LEFT_BLOCK, T_LEFT_BLOCK, ST_LEFT_BLOCK,
        )  # fmt: skip
    elif "CRBBB" in diagnoses:
        qrs_law, qrs_waves, t_waves, st = (
            QRS_RIGHT_BLOCK_MS, QRS_RIGHT_BLOCK, T_RIGHT_BLOCK, ST_RIGHT_BLOCK,
        )  # fmt: skip
    if "STD_" in diagnoses:
        t_size *= rng.uniform(0.2, 0.7)
    if "AFIB" in diagnoses:
        t_size *= 0.75
    wanted_ms = clipped_normal(rng, qrs_law)
    qrs, onset_ms = _timed(anatomy.waves(qrs_waves, 0.10, 1.0, rng), wanted_ms)
    qt_ms = clipped_normal(rng, QTC_MS) * np.cbrt(interval_s) + 0.7 * max(0.0, wanted_ms - 100)
    t = _placed_t(anatomy.waves(t_waves, 0.12, t_size, rng), onset_ms + qt_ms, interval_s)
    j_ms = onset_ms + wanted_ms
    complex_ = _Complex(qrs, _plateau(j_ms, np.array(st), 0.0), t, onset_ms, wanted_ms, qt_ms)
    for label, sign, laws, size in (
        ("STD_", -1, ST_DEPRESSIONS, ST_DEPRESSION_MV),
        ("STE_", 1, ST_ELEVATIONS, ST_ELEVATION_MV),
    ):
        if label in diagnoses:
            direction, seen_in = laws[int(rng.integers(len(laws)))]
            level = sign * clipped_normal(rng, size)
            slope = rng.uniform(-0.1, 0.35)
            complex_ = _with_st(complex_, leads, np.array(direction), seen_in, level, slope)
    return complex_


def _with_st(
    beat: _Complex,
    leads: dict[str, Array],
    direction: Array,
    seen_in: tuple[str, ...],
    level_mv: float,
    slope: float,
) -> _Complex:
    """Add an injury dipole such that the level in every lead of `seen_in` reaches `level_mv`.

    The T wave is changed too, like the dome of an infarction or the dip of ischaemia.
    """
    j_ms = beat.onset_ms + beat.qrs_ms
    injury = _plateau(j_ms, direction, slope)
    # After the plateau: a wide wave half way to the peak of T, and one just before that peak.
    end_ms, peak_ms = j_ms + ST_CENTRES_MS[-1], beat.t.centre_ms[-1] - 20
    last = _Waves(
        np.array([0.5 * (end_ms + peak_ms), peak_ms]),
        np.array([0.40 * (peak_ms - end_ms), beat.t.width_ms[-1]]),
        np.outer([0.8, 0.45], direction),
    )
    rows = [LEADS.index(lead) for lead in seen_in]
    st = _joined(injury, last)
    point = np.array([j_ms + ST_POINT_MS])
    per_unit = expand_leads((st.at(point) @ leads["st"].T).T)[rows, 0]
    missing = level_mv - _st_level(beat, leads)[rows]
    size = max(0.0, float(np.max(missing / per_unit)))
    st = _Waves(st.centre_ms, st.width_ms, size * st.dipole_mv)
    return _Complex(beat.qrs, _joined(beat.st, st), beat.t, beat.onset_ms, beat.qrs_ms, beat.qt_ms)


def _st_level(beat: _Complex, leads: dict[str, Array]) -> Array:
    """ST level (12,) in mV at J + 60 ms of one beat at the mean interval."""
    point = np.array([beat.onset_ms + beat.qrs_ms + ST_POINT_MS])
    eight = sum(getattr(beat, part).at(point)[0] @ leads[part].T for part in ("qrs", "st", "t"))
    return np.asarray(expand_leads(np.asarray(eight)[:, None])[:, 0], dtype=np.float64)


def _ventricular(anatomy: _Anatomy, conducted: _Complex, rng: np.random.Generator) -> _Complex:
    """A ventricular premature beat: wide, tall, with T opposite to the QRS."""
    main = np.array(VENTRICULAR_ORIGINS[int(rng.integers(len(VENTRICULAR_ORIGINS)))])
    main = main + rng.normal(0, 0.12, 3)
    main /= np.linalg.norm(main)
    side = np.cross(main, rng.normal(size=3))
    side /= np.linalg.norm(side)
    frame = np.stack([main, side, np.cross(main, side)], axis=1)
    size = np.exp(rng.normal(0.1, 0.15))

    def turned(template: tuple[Wave, ...], spread: float) -> _Waves:
        table = np.array(template)
        peaks = size * np.exp(rng.normal(0, spread, (len(table), 1))) * table[:, 2:]
        return _Waves(table[:, 0], table[:, 1], anatomy.size * peaks @ frame.T)

    wanted_ms = clipped_normal(rng, QRS_VENTRICULAR_MS)
    qrs, onset_ms = _timed(turned(QRS_VENTRICULAR, 0.15), wanted_ms)
    qt_ms = conducted.qt_ms + 0.5 * max(0.0, wanted_ms - conducted.qrs_ms)
    t = turned(T_VENTRICULAR, 0.12)
    t = t.moved(onset_ms + qt_ms - TANGENT_WIDTHS * t.width_ms[-1])
    st = _plateau(onset_ms + wanted_ms, -0.12 * size * anatomy.size * main, 0.2)
    return _Complex(qrs, st, t, onset_ms, wanted_ms, qt_ms)


def _other_p(atrial: _Waves, rng: np.random.Generator) -> _Waves:
    """P wave of an atrial focus: another axis, with the two atria in reverse order."""
    turn = _rotation(0.0, 0.0, np.radians(rng.choice([-1, 1]) * rng.uniform(60, 150)))
    return _Waves(atrial.centre_ms, atrial.width_ms, 1.1 * atrial.dipole_mv[::-1] @ turn.T)


def _timed(waves: _Waves, wanted_ms: float) -> tuple[_Waves, float]:
    """Stretch a QRS to last `wanted_ms`, with its R peak at 0; also return its onset in ms."""
    grid = np.arange(-120.0, 180.0, 1.0)
    size = np.linalg.norm(waves.at(grid), axis=1)
    above = grid[size > QRS_THRESHOLD_MV]
    factor = wanted_ms / (above[-1] - above[0])
    peak = grid[size.argmax()]
    stretched = _Waves((waves.centre_ms - peak) * factor, waves.width_ms * factor, waves.dipole_mv)
    return stretched, float((above[0] - peak) * factor)


def _placed_t(waves: _Waves, end_ms: float, interval_s: float) -> _Waves:
    """Place T with its tangent end at `end_ms`; a fast heart has a narrower T."""
    factor = float(np.clip(np.cbrt(interval_s / 0.85), 0.8, 1.15))
    last = TANGENT_WIDTHS * waves.width_ms[-1] * factor
    return _Waves(
        waves.centre_ms * factor + end_ms - last, waves.width_ms * factor, waves.dipole_mv
    )


def _plateau(j_ms: float, level_mv: Array, slope: float) -> _Waves:
    """An ST segment at `level_mv` (3,) that rises by the fraction `slope` from start to end."""
    centres = np.array(ST_CENTRES_MS)
    spacing = centres[1] - centres[0]
    unit = spacing / (np.sqrt(2 * np.pi) * ST_WIDTH_MS)  # evenly spaced Gaussians add up to 1
    heights = unit * (1 + slope * np.linspace(-0.5, 0.5, len(centres)))
    return _Waves(j_ms + centres, np.full(len(centres), ST_WIDTH_MS), heights[:, None] * level_mv)


def _fibrillation(time_s: Array, rng: np.random.Generator) -> Array:
    """Fibrillatory waves as a dipole (3, n): a varying sawtooth (Stridh and Sörnmo 2001).

    Sum over harmonics i of a_i(t) sin(i theta(t)); theta has a varying rate of 4 to 9 Hz.
    """
    rate = rng.uniform(4.8, 7.8)
    size = rng.uniform(0.02, 0.065)
    total = np.zeros((3, len(time_s)))
    towards = np.array([[-0.30, 0.55, -0.75], [0.40, 0.25, -0.35]])
    for direction, share in zip(towards, (1.0, 0.6), strict=True):
        wander = (
            rng.uniform(0.15, 0.6)
            * np.sin(2 * np.pi * (rng.uniform(0.1, 0.4) * time_s + rng.uniform()))
            / rng.uniform(0.15, 0.4)
        )
        noise = np.cumsum(rng.normal(size=len(time_s))) * np.sqrt(time_s[1] - time_s[0])
        theta = 2 * np.pi * (rate * time_s + rng.uniform()) + wander + 1.6 * noise
        swell = 1 + 0.4 * np.sin(2 * np.pi * (rng.uniform(0.15, 0.5) * time_s + rng.uniform()))
        saw = np.sin(theta) + 0.35 * np.sin(2 * theta) + 0.12 * np.sin(3 * theta)
        total += share * size * direction[:, None] * (swell * saw)
    return total


def _joined(first: _Waves, second: _Waves) -> _Waves:
    return _Waves(
        np.concatenate([first.centre_ms, second.centre_ms]),
        np.concatenate([first.width_ms, second.width_ms]),
        np.concatenate([first.dipole_mv, second.dipole_mv]),
    )


def _bells(time: Array, centre: Array, width: Array) -> Array:
    """exp(-(t - c)^2 / (2 s^2)): (n,), (w,), (w,) -> (n, w)."""
    return np.asarray(np.exp(-0.5 * ((time[:, None] - centre) / width) ** 2), dtype=np.float64)


def _rotation(about_x: float, about_y: float, about_z: float) -> Array:
    """Rotation matrix (3, 3) about X, then Y, then Z, angles in radians."""
    (cx, cy, cz), (sx, sy, sz) = (
        np.cos([about_x, about_y, about_z]),
        np.sin([about_x, about_y, about_z]),
    )
    return np.array(
        [
            [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
            [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
            [-sy, cy * sx, cy * cx],
        ]
    )
