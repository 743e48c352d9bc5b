"""Figures are safe drawings with words; the colours of a page stand out for all eyes."""

import numpy as np
import pytest

from ecgtransfer.drawing.figure import PALETTE, Figure
from ecgtransfer.errors import ConfigError

SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M0 0h1"/></svg>'


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Figure("f", SQUARE, " "), "expected a description of figure 'f'"),
        (lambda: Figure("f", "no drawing", "a"), "expected one <svg> element"),
        (lambda: Figure("f", SQUARE * 2, "a"), "expected one <svg> element"),
        (lambda: Figure("f", '<!DOCTYPE svg [<!ENTITY a "b">]>' + SQUARE, "a"), "one <svg>"),
        (lambda: Figure("f", "<svg/>", "a"), "with a viewBox"),
        (lambda: Figure("f", '<g viewBox="0 0 1 1"/>', "a"), "expected an <svg> element"),
        (lambda: Figure("f", SQUARE, "a", narrow="<b/>"), "runs and loads nothing"),
    ],
)
def test_a_figure_without_words_or_with_a_broken_drawing_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    "inside",
    [
        "<script>1</script>",
        "<foreignObject/>",
        '<image href="x.png"/>',
        '<path onclick="1"/>',
        '<path style="fill:red"/>',
        '<path id="a"/>',
        '<path fill="url(#a)"/>',
        '<a xmlns:l="http://www.w3.org/1999/xlink" l:href="https://e.org"/>',
        "<style>*{}</style>",
    ],
)
def test_a_drawing_that_could_run_load_or_clash_is_refused(inside):
    with pytest.raises(ConfigError, match="expected a drawing that runs and loads nothing"):
        Figure("f", SQUARE.replace("</svg>", f"{inside}</svg>"), "a")


# --- colours -------------------------------------------------------------------------------------


def luminance(colour):
    """Relative luminance of "#rrggbb" (WCAG 2.2)."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_computed_as_the_standard_says():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#ffffff", "#767676") == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_words_and_curves_stand_out_from_what_lies_behind_them(scheme):
    colours = {name: pair[scheme] for name, pair in PALETTE.items()}
    series = [name for name in colours if name.startswith("series-")]
    pairs = [
        *((name, "page") for name in ("ink", "muted", "accent", "pass", "fail", "open", *series)),
        *((name, "well") for name in ("ink", "muted")),
        *((name, f"{name}-back") for name in ("pass", "fail", "open")),
        ("ink", "fail-back"),
        ("paper-ink", "paper"),
        ("paper-mark", "page"),
    ]
    weak = {pair: contrast(*(colours[name] for name in pair)) for pair in pairs}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}
    assert contrast(colours["strong-rule"], colours["page"]) >= 3
    # The lines of the paper are seen, and do not drown the trace.
    for lines in ("paper-1-mm", "paper-5-mm"):
        assert contrast(colours[lines], colours["paper"]) > 1.1
        assert contrast(colours[lines], colours["paper-ink"]) > 4.5


#: Linear RGB as people without red, green and blue cones see it (Machado et al. 2009, severity 1).
CONES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def cielab(linear):
    """CIE L*a*b* (D65) of linear RGB."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    ratio = to_xyz @ np.clip(linear, 0, 1) / (0.9505, 1.0, 1.089)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("seen_by", list(CONES))
def test_colour_blind_readers_tell_the_first_three_series_apart(scheme, seen_by):
    labs = []
    for number in (1, 2, 3):
        colour = PALETTE[f"series-{number}"][scheme]
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        labs.append(cielab(np.array(CONES[seen_by]) @ linear))
    apart = [np.linalg.norm(labs[i] - labs[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert min(apart) > 12  # 2.3 is just noticeable
