"""A report with everything in it that a report may hold; the ECGs are simulated (not a test)."""

import numpy as np

from ecgtransfer.drawing import (
    Curve,
    Figure,
    Report,
    Section,
    Table,
    bars_svg,
    ecg_pair_svg,
    forest_svg,
    gallery,
    interval_plot_svg,
    scatter_svg,
    spectrum_svg,
)
from ecgtransfer.simulation import DIAGNOSES, TARGET_HOSPITAL, simulate
from ecgtransfer.statistics import Estimate, Quantiles, Verdict

CLASSES = list(DIAGNOSES)

#: Columns: numbers that text would sort wrongly, ties, no value, estimates, words with numbers.
SORTED = Table(
    "Arms of the sorting test",
    ("Arm", "Records", "Seeds", "Macro AUROC", "Ratio"),
    (
        ("target only", 690, 5, Estimate(0.861, 0.85, 0.87), "ratio 10"),
        ("pooled", 12900, 3, None, "ratio 2"),
        ("fine-tuned", 1380, 5, Estimate(-0.02, -0.03, 0.9), "ratio 1"),
        ("synthetic", 97, 3, Estimate(0.914, 0.9, 0.93), ""),
    ),
)


def figures():
    """One figure of each kind that is not an ECG."""
    rng = np.random.default_rng(1)
    estimate = Estimate(0.9, 0.8, 0.95)
    hz = np.linspace(0.25, 50, 120)
    power = 10 ** (-1 - 2 * np.log10(1 + hz))
    heart_rate = Quantiles.of(rng.normal(72, 9, 200))
    points = rng.normal(size=(300, 2))
    return (
        forest_svg(
            [("with synthetic records", Estimate(0.01, 0.003, 0.02)), ("diverged", None)],
            title="Difference in macro AUROC",
            favours=("synthetic records harm", "they help"),
        ),
        bars_svg([(name, estimate, estimate) for name in CLASSES], title="Rules obeyed"),
        interval_plot_svg(
            [(name, heart_rate, heart_rate) for name in CLASSES],
            title="Heart rate by class",
            unit="/min",
            limits={"60/min": 60.0, "100/min": 100.0},
        ),
        spectrum_svg(
            hz,
            [Curve("real", power, power / 2, power * 2), Curve("generated", power * 3)],
            title="Spectrum of lead II",
        ),
        scatter_svg({"real": points, "generated": points + 1}, title="t-SNE of the embedding"),
    )


def tables():
    """A plain table, one wide, one crowded, one with text that is broken, one of eighty rows."""
    estimate = Estimate(0.9123, 0.9012, 0.9234)
    return (
        SORTED,
        Table(
            "AUROC by class",
            ("Class", *[f"arm {number}" for number in range(7)]),
            tuple((name, *[estimate] * 7) for name in CLASSES),
            note="From https://example.org/protocol.",
        ),
        Table(
            "Everything at once",
            ("Class", *[f"irregularity {number} generated" for number in range(13)]),
            tuple((name, *[estimate] * 13) for name in CLASSES),
        ),
        Table(
            "Fingerprints",
            ("What a rather long name of a row is about", "SHA-256", "Verdict"),
            tuple((f"weights of the source model, part {i}", "9f86d081" * 8, "true") for i in "12"),
            sortable=False,
        ),
        Table(
            "Nearest records",
            ("Synthetic record", "Closest training record", "Correlation"),
            tuple((f"s{i:03d}", f"t{7 * i:03d}", float(np.cos(i))) for i in range(80)),
        ),
        Table(
            "Sizes that lie far apart",
            ("Measure", "Value"),
            (
                ("Frechet distance", Estimate(18.4, 17.0, 19.9)),
                ("MMD", Estimate(0.013, 0.01, 0.02)),
            ),
        ),
    )


def sample_report(**changes):
    """Twelve ECGs, six tables and six figures; `changes` replace fields of the report."""
    recordings, _ = simulate([(name,) for name in [*CLASSES, "AFIB", "PVC"]], TARGET_HOSPITAL, 3)
    pair: Figure = ecg_pair_svg(
        recordings[1], recordings[9], title="Closest pair", headings=("real", "synthetic")
    )
    plain, *others = tables()
    fields = {
        "title": "PTB-XL to ICBEB",
        "subtitle": "690 labelled records, 2,760 synthetic ones.",
        "made_on": "14 March 2027",
        "sections": (
            Section(
                "utility",
                "Utility",
                "Do synthetic records help?",
                (Verdict(True, "They help."), Verdict(None, "No evidence on calibration.")),
                ("A paragraph.", plain, *figures()),
            ),
            Section("fidelity", "Fidelity", "Do they look alike?", (Verdict(False, "No."),)),
            Section("privacy", "Privacy", "Do they leak?", (Verdict(None, "Too few."),), (pair,)),
            Section("physiology", "Physiology", "Do they make sense?", (Verdict(True, "Yes."),)),
            Section("tables", "More tables", body=tuple(others)),
            Section(
                "gallery",
                "Synthetic ECGs",
                body=gallery(recordings[:10], [f"Synthetic ECG {number}" for number in range(10)]),
            ),
        ),
        "methods": ("Guided diffusion (https://arxiv.org/abs/2405.16876).",),
        "settings": {"seed": 7, "transfer": {"method": "tgdp", "sha256": "9f86d081" * 8}},
        "licences": ("PTB-XL 1.0.3, CC BY 4.0, https://doi.org/10.13026/kfzx-aw45.",),
        "limits": ("One source, one target.", "A pass on privacy is no proof of anonymity."),
    }
    return Report(**fields | changes)
