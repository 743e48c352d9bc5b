"""Pages against the numbers they are drawn from, closed forms and scipy; and their legibility."""

import math
import shutil
import sys
from dataclasses import replace
from itertools import combinations

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.contour import ContourSet
from matplotlib.text import Text
from PIL import Image
from scipy.stats import gaussian_kde

from ecgtransfer.drawing.page import DPI, WIDTH
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.experiments.density_page import (
    ENCLOSED,
    RECORDS_DRAWN,
    density_page,
    enclosing_levels,
    kernel_density,
    kernel_width,
    smoothed_density,
)
from ecgtransfer.experiments.error_page import (
    COMPARED,
    LINES,
    REFERENCES,
    SCORE_TITLES,
    Curve,
    axis_ends,
    axis_ticks,
    error_page,
)
from ecgtransfer.experiments.figures import PAGES, draw_densities, draw_errors, draw_study
from ecgtransfer.experiments.gaussian_mixture import GaussianMixture
from ecgtransfer.experiments.problems import PROBLEMS, problem
from ecgtransfer.experiments.study import SCORES, Cell, Row, Study, StudySettings
from ecgtransfer.experiments.transfer_methods import METHODS
from ecgtransfer.training.files import write_tensors

#: What a page may weigh at most.
MOST_BYTES = 400_000


def made_up(name, n, seed, method, place):
    """Scores that fall with n, each method at a level of its own."""
    level = 0.02 + 0.1 * (1 + place % 7) * math.sqrt(10 / n) * (1 + 0.2 * math.cos(seed + place))
    scores = {score: level * (1 + k) for k, score in enumerate(SCORES)}
    scores["log_density_gap"] = 2 * level * math.cos(3 * place)
    return Row(method, scores | {"mode_weights": (0.5, 0.5)}, 1, 1.0, 1.0, {})


def study_of(problems=("paper", "conditional"), sizes=(10, 100), seeds=3, change=None) -> Study:
    """A study of made-up scores; `change` may put another row in the place of each."""
    settings = StudySettings(problems=problems, sizes=sizes, seeds=seeds)
    cells = []
    for name in problems:
        for n in sizes:
            for seed in range(seeds):
                rows = (
                    made_up(name, n, seed, method, list(METHODS).index(method))
                    for method in settings.methods_in(name)
                )
                rows = (change(row, n, seed) if change else row for row in rows)
                cells.append(Cell(name, n, seed, tuple(rows)))
    return Study(settings, tuple(cells))


def only(study, *methods):
    """A study in which no other methods ran."""
    kept = (
        replace(cell, rows=tuple(row for row in cell.rows if row.method in methods))
        for cell in study.cells
    )
    return Study(study.settings, tuple(kept))


def records(name, n=400, seed=0, spread=1.0):
    """Target records in the problem's own units."""
    chosen = problem(name)
    x0, _ = chosen.target.sample(n, torch.Generator().manual_seed(seed))
    return spread * chosen.scale * x0.numpy()


def samples_of(name, methods=("exact-target", "source", "tgdp")):
    return {method: records(name, seed=seed) for seed, method in enumerate(methods)}


def panels_by_title(page):
    return {axes.get_title(loc="left").replace("\n", " "): axes for axes in page.figure.axes}


def words(page):
    """Every visible word of a page with its box in pixels."""
    page.figure.draw_without_rendering()
    outside = {
        tick.label1
        for axes in page.figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        if not axis.get_view_interval()[0] <= tick.get_loc() <= axis.get_view_interval()[1]
    }
    texts = page.figure.findobj(lambda each: isinstance(each, Text) and each not in outside)
    return [
        (text.get_text(), text.get_window_extent())
        for text in texts
        if text.get_visible() and text.get_text().strip()
    ]


def assert_legible(page):
    """No two words touch, none leaves the page and none lies on a panel unless it belongs there."""
    found = words(page)
    own = {text.get_text() for axes in page.figure.axes for text in axes.texts}
    for axes in page.figure.axes:
        assert not [text for text, box in found if text not in own and box.overlaps(axes.bbox)]
    assert len(found) > 10
    for (one, box), (other, other_box) in combinations(found, 2):
        assert not box.overlaps(other_box), f"{one!r} on {other!r}"
    for text, box in found:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= page.figure.bbox.x1, text
        assert box.y1 <= page.figure.bbox.y1, text


def assert_printable(path):
    assert path.stat().st_size < MOST_BYTES
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width == WIDTH * DPI >= 1400
        assert len(image.convert("RGB").getcolors()) > 10


# --- densities ---------------------------------------------------------------------------------


def test_kernel_density_is_that_of_scipy_where_the_records_are_round():
    drawn = np.random.default_rng(0).normal(size=(300, 2)) @ [[1.0, 0.4], [0.0, 2.0]]
    drawn -= drawn.mean(0)
    round_records = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn.T))).T
    x, y = np.linspace(-3, 3, 31), np.linspace(-2, 2, 17)
    points = np.stack([each.ravel() for each in np.meshgrid(x, y)])
    expected = gaussian_kde(round_records.T, bw_method=0.3)(points).reshape(17, 31)
    np.testing.assert_allclose(kernel_density(round_records, x, y, 0.3), expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["paper", "conditional"])
def test_smoothed_density_is_what_the_kernel_makes_of_endless_records(name):
    target = problem(name).target.scaled(problem(name).scale)
    flat = replace(target, labels=0, label_of=torch.zeros_like(target.label_of))
    x, y = np.linspace(-2.5, 2.5, 41), np.linspace(-2, 2, 33)
    width = kernel_width(flat, 1000)
    estimated = kernel_density(records(name, n=100_000), x, y, width)
    truth = smoothed_density(flat, x, y, width)
    assert np.abs(estimated - truth).max() < 0.03 * truth.max()
    assert np.abs(estimated - smoothed_density(flat, x, y, 1e-9)).max() > 0.06 * truth.max()


def test_the_kernel_is_that_of_scott_for_a_mode_of_its_share_of_the_records():
    wide = GaussianMixture(
        torch.tensor([0.5, 0.5]).double(),
        torch.zeros(2, 2).double(),
        torch.tensor([0.04, 9.0]).double(),
        torch.zeros(2, dtype=torch.long),
        0,
    )
    assert kernel_width(wide, 1000) == pytest.approx(0.2 * 500 ** (-1 / 6))


def test_levels_enclose_their_shares_of_a_gaussian():
    variance, ends = 0.7, np.linspace(-6, 6, 601)
    squares = ends[:, None] ** 2 + ends**2
    density = np.exp(-squares / (2 * variance)) / (2 * math.pi * variance)
    expected = [(1 - share) / (2 * math.pi * variance) for share in ENCLOSED]
    np.testing.assert_allclose(enclosing_levels(density, ENCLOSED), expected, rtol=0.02)


def test_every_method_has_a_panel_with_its_title_and_distance():
    titles = {"exact-target": "truth", "source": "a title so long that it needs two lines of it"}
    page = density_page(
        problem("paper"),
        samples_of("paper"),
        titles,
        n=30,
        distances={"source": 0.3456, "tgdp": None},
    )
    panels = panels_by_title(page)
    assert list(panels) == ["truth", titles["source"], "tgdp"]
    distances = [axes.get_title(loc="right") for axes in panels.values()]
    assert distances == ["", "0.346", ""]
    assert "\n" in panels[titles["source"]].get_title(loc="left")
    assert any("trained on 30 target records" in text for text, _ in words(page))


@pytest.mark.parametrize("name", ["paper", "paper-8"])
def test_records_and_modes_are_drawn_in_the_problems_own_units_and_first_two_coordinates(name):
    chosen, drawn = problem(name), samples_of(name)
    page = density_page(chosen, drawn, {})
    for axes, expected in zip(page.figure.axes, drawn.values(), strict=True):
        modes, dots = (line.get_xydata() for line in axes.lines)
        np.testing.assert_allclose(modes, [[0.5, 0.5], [-0.5, -0.5]], atol=1e-12)
        np.testing.assert_allclose(dots, expected[:RECORDS_DRAWN, :2])
        filled, lines = (each for each in axes.collections if isinstance(each, ContourSet))
        assert filled.filled
        assert not lines.filled
        levels = list(filled.levels)[: len(ENCLOSED)]
        assert set(lines.levels) <= set(levels)
        # By the blurred density at a mode: two of variance 0.1, of which the other is far away.
        width = kernel_width(replace_plane(chosen), 400)
        assert filled.levels[-1] == pytest.approx(
            1.01 * 0.5 / (2 * math.pi * (0.1 + width**2)), rel=0.02
        )
        assert (axes.get_xlim()[0], axes.get_ylim()[1]) == pytest.approx(
            (-0.5 - 3.2 * math.sqrt(0.1), 0.5 + 3.2 * math.sqrt(0.1))
        )


def replace_plane(chosen):
    own = chosen.target.scaled(chosen.scale)
    return replace(own, means=own.means[:, :2])


def test_records_outside_and_those_that_are_none_are_counted():
    drawn = records("paper", n=200)
    away, broken = drawn.copy(), drawn.copy()
    away[:50] = 9.0
    broken[:] = np.nan
    page = density_page(problem("paper"), {"a": away, "b": broken, "c": 0.5 * drawn}, {})
    said = [[text.get_text() for text in axes.texts] for axes in page.figure.axes]
    assert said == [["25 % outside"], ["no finite record"], []]


def test_records_that_are_lost_lower_the_density_of_the_others():
    drawn = records("paper", n=2000)
    half = drawn.copy()
    half[::2] = np.inf
    page = density_page(problem("paper"), {"a": drawn, "b": half}, {})
    inner = [
        [each for each in axes.collections if isinstance(each, ContourSet)][1].levels[-1]
        for axes in page.figure.axes
    ]
    assert inner[1] < inner[0]


@pytest.mark.parametrize(("name", "count"), [("paper", len(METHODS)), ("separated", 9)])
def test_a_page_of_methods_is_legible_and_light(name, count, tmp_path):
    methods = tuple(METHODS)[-count:]
    titles = {method: METHODS[method].title for method in methods}
    drawn = {method: records(name, 1000, seed) for seed, method in enumerate(methods)}
    distances = dict.fromkeys(methods, 12.345)
    page = density_page(problem(name), drawn, titles, n=100, distances=distances)
    assert_legible(page)
    page.save(tmp_path / "page.png")
    assert_printable(tmp_path / "page.png")


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        ({}, "at least one method to draw, got none"),
        ({"a": np.zeros((5, 3))}, r"records \(N, 2\) of a in paper, got \(5, 3\)"),
        ({"a": np.zeros((0, 2))}, r"records \(N, 2\) of a in paper, got \(0, 2\)"),
    ],
)
def test_records_that_do_not_fit_are_refused(samples, sentence, tmp_path):
    with pytest.raises(ConfigError, match=sentence):
        draw_densities(problem("paper"), samples, {}, tmp_path / "page.png")
    assert not list(tmp_path.iterdir())


# --- errors ------------------------------------------------------------------------------------


def course_of(axes, method):
    """The line that joins the means of a method."""
    (line,) = (line for line in axes.lines if line.get_label() == method)
    return line


def panel(page, row, score):
    return page.figure.axes[row * len(SCORES) + SCORES.index(score)]


def test_every_score_has_a_name_for_readers():
    assert tuple(SCORE_TITLES) == SCORES


@pytest.mark.parametrize("score", SCORES)
def test_lines_are_the_means_of_the_table_and_bars_its_intervals(score):
    study = study_of(("conditional", "paper"), (10, 100, 30))
    page = error_page(only(study, "exact", "source", *COMPARED))
    axes = panel(page, 1, score)
    bottom, top = axes.get_ylim()
    assert len(axes.collections) == len(COMPARED)
    for method, line, bars in zip(COMPARED, LINES, axes.collections, strict=True):
        expected = [
            next(row for row in study.table("paper", n) if row.method == method).scores[score]
            for n in (10, 30, 100)
        ]
        drawn = course_of(axes, method)
        assert drawn.get_color() == line.colour
        np.testing.assert_allclose(drawn.get_ydata(), [each.value for each in expected])
        np.testing.assert_allclose(drawn.get_xdata(), [10, 30, 100], rtol=0.3)
        assert matplotlib.colors.same_color(bars.get_color()[0], line.colour)
        for segment, each in zip(bars.get_segments(), expected, strict=True):
            np.testing.assert_allclose(segment[:, 1], np.clip([each.low, each.high], bottom, top))


def test_references_are_grey_and_go_from_edge_to_edge():
    study = study_of(sizes=(30,))
    axes = panel(error_page(study), 0, "sliced_wasserstein")
    for name in REFERENCES:
        line = course_of(axes, name)
        row = next(each for each in study.table("paper", 30) if each.method == name)
        assert set(line.get_ydata()) == {row.scores["sliced_wasserstein"].value}
        assert tuple(line.get_xdata()[[0, -1]]) == axes.get_xlim()
    assert course_of(axes, "source").get_linestyle() != course_of(axes, "exact").get_linestyle()


def test_axes_are_logarithmic_but_a_gap_of_both_signs_is_linear_around_zero():
    page = error_page(study_of())
    for axes, score in zip(page.figure.axes, 2 * SCORES, strict=True):
        assert axes.get_xscale() == "log"
        assert axes.get_yscale() == ("symlog" if score == "log_density_gap" else "log")
        inside = [tick for tick in axes.get_yticks() if np.diff((axes.get_ylim()[0], tick))[0] >= 0]
        assert len(inside) >= 3


def test_a_method_of_which_some_seeds_diverged_is_hollow_and_one_that_always_does_is_left_out():
    def change(row, n, seed):
        lost = (row.method == "scratch" and n == 10 and seed == 0) or row.method == "finetune"
        return replace(row, scores=dict.fromkeys(row.scores)) if lost else row

    axes = panel(error_page(study_of(change=change)), 0, "mmd")
    places = dict(zip(COMPARED, LINES, strict=True))
    assert not [line for line in axes.lines if line.get_color() == places["finetune"].colour]
    faces = {
        line.get_markerfacecolor(): line.get_xdata()
        for line in axes.lines
        if line.get_color() == places["scratch"].colour and line.get_linestyle() == "None"
    }
    assert list(faces["white"]) == pytest.approx([10], rel=0.3)
    assert list(faces[places["scratch"].colour]) == pytest.approx([100], rel=0.3)


def test_a_problem_in_which_everything_diverged_says_so():
    def change(row, n, seed):
        return replace(row, scores=dict.fromkeys(row.scores))

    page = error_page(study_of(problems=("paper",), change=change))
    said = [[text.get_text() for text in axes.texts] for axes in page.figure.axes]
    assert said == [["no finite score"]] * len(SCORES)


def course(value, low, high):
    value, low, high = (np.atleast_1d(np.asarray(each, float)) for each in (value, low, high))
    return Curve(np.arange(1.0, len(value) + 1), value, low, high, np.ones(len(value), bool))


def test_an_axis_holds_every_mean_and_leaves_what_would_press_the_others_together():
    one, wide = course([0.1, 0.2], [0.05, 0.1], [0.15, 0.3]), course(0.3, -5.0, 40.0)
    near, far = course(0.04, 0.03, 0.05), course(1e-6, 0.0, 1e-6)
    bottom, top = axis_ends({"a": one, "b": wide}, signed=False)
    assert 0.05 < bottom < 0.1
    assert 0.3 < top < 2
    assert 0.02 < axis_ends({"a": one, "exact": near}, signed=False)[0] < 0.04
    assert 0.05 < axis_ends({"a": one, "exact": far}, signed=False)[0] < 0.1
    assert axis_ends({"exact": far}, signed=False)[0] < 1e-6
    bottom, top = axis_ends({"a": course([-3.0, 5.0], [-90.0, 4.0], [1.0, 90.0])}, signed=True)
    assert -8 < bottom < -3
    assert 5 < top < 15
    assert axis_ends({"a": course(0.0, 0.0, 0.0)}, signed=False)[0] > 0


@pytest.mark.parametrize(
    ("bottom", "top", "signed", "ticks"),
    [
        (0.05, 20, False, [0.1, 1, 10]),
        (0.05, 1.2, False, [0.1, 0.3, 1]),
        (0.09, 0.6, False, [0.1, 0.2, 0.5]),
        (0.45, 1.1, False, [0.5, 0.7, 1]),
        (0.41, 0.72, False, [0.45, 0.5, 0.6, 0.7]),
        (-2, 5, True, [-1, -0.1, 0, 0.1, 1]),
        (0.02, 5, True, [0.1, 0.3, 1, 3]),
        (-0.04, 0.05, True, [-0.04, -0.02, 0, 0.02, 0.04]),
    ],
)
def test_numbers_at_an_axis_are_round(bottom, top, signed, ticks):
    assert axis_ticks(bottom, top, signed=signed) == ticks


@pytest.mark.parametrize(
    ("name", "problems", "sizes"),
    [("errors", tuple(PROBLEMS), (10, 30, 100, 300, 1000)), ("terms", ("paper",), (10,))],
)
def test_pages_of_errors_are_legible_and_light(name, problems, sizes, tmp_path):
    heading, methods = PAGES[name]
    study = study_of(problems, sizes, seeds=2)
    page = error_page(study, methods=methods, heading=heading)
    assert_legible(page)
    page.save(tmp_path / "page.png")
    assert_printable(tmp_path / "page.png")


def test_the_colours_differ_in_lightness_or_hue_and_every_marker_is_another():
    assert len({line.marker for line in LINES}) == len({line.colour for line in LINES}) == 7
    # Machado et al. 2009: what a reader without green cones sees of linear RGB.
    deuteranopia = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    seen = [deuteranopia @ np.array(matplotlib.colors.to_rgb(line.colour)) ** 2.2 for line in LINES]
    assert min(np.abs(one - other).max() for one, other in combinations(seen, 2)) > 0.05


@pytest.mark.parametrize(
    ("methods", "problems"),
    [((), ("paper",)), (tuple(METHODS)[:8], ("paper",)), (("cycle",), ("separated",))],
)
def test_methods_that_cannot_be_drawn_are_refused(methods, problems, tmp_path):
    with pytest.raises(ConfigError, match="expected 1 to 7 methods that all ran"):
        draw_errors(study_of(problems=problems), tmp_path / "page.png", methods=methods)
    assert not list(tmp_path.iterdir())


def test_pages_of_errors_name_methods_that_there_are():
    for _, methods in PAGES.values():
        assert set(methods) <= METHODS.keys()
        assert len(set(methods)) == len(methods) <= len(LINES)


# --- a whole study -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A small study, its folder, its pages and what the progress said; look only."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "samples").mkdir()
    methods = ("source", *PAGES["terms"][1])
    study = only(study_of(("paper",), (10, 30), seeds=2), *methods)
    for n in (10, 30):
        samples = {
            method: torch.from_numpy(records("paper", 1000, seed)).float()
            for seed, method in enumerate(methods)
            if (method, n) != ("cycle", 30)
        }
        write_tensors(samples, folder / f"samples/paper-n{n}.safetensors", {})
    told = []
    paths = draw_study(study, folder, lambda done, total: told.append((done, total)))
    return study, folder, paths, told


def test_a_study_is_drawn_in_printable_pages_that_are_counted(drawn):
    _, folder, paths, told = drawn
    names = ["terms", "densities-paper-n10", "densities-paper-n30"]
    assert paths == [folder / f"{name}.png" for name in names]
    assert told == [(1, 3), (2, 3), (3, 3)]
    for path in paths:
        assert_printable(path)


def test_pages_do_not_depend_on_the_users_settings(drawn, tmp_path):
    study, _, paths, _ = drawn
    mine = {"text.color": "red", "savefig.bbox": "tight", "savefig.dpi": 30, "font.size": 30}
    with matplotlib.rc_context(mine):
        heading, methods = PAGES["terms"]
        draw_errors(study, tmp_path / "terms.png", methods=methods, heading=heading)
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "terms.png").read_bytes() == paths[0].read_bytes()


def test_drawing_leaves_pyplot_alone():
    loaded = sys.modules.get("matplotlib.pyplot")
    error_page(study_of())
    assert sys.modules.get("matplotlib.pyplot") is loaded
    assert loaded is None or not loaded.get_fignums()


def test_a_study_without_the_ablation_has_no_page_of_terms(tmp_path):
    study = study_of(problems=("separated",), sizes=(10,), seeds=3)
    apart = Study(study.settings, tuple(cell for cell in study.cells if cell.seed))
    assert draw_study(Study(study.settings, ()), tmp_path) == []
    assert [path.name for path in draw_study(apart, tmp_path)] == ["errors.png"]


def test_cells_made_elsewhere_keep_the_pages_they_have(drawn, tmp_path):
    study, folder, _, _ = drawn
    (tmp_path / "samples").mkdir()
    shutil.copy(folder / "samples/paper-n10.safetensors", tmp_path / "samples")
    (tmp_path / "densities-paper-n30.png").write_bytes(b"a page from elsewhere")
    names = [path.name for path in draw_study(study, tmp_path)]
    assert names == ["terms.png", "densities-paper-n10.png"]
    assert (tmp_path / "densities-paper-n30.png").read_bytes() == b"a page from elsewhere"


def test_broken_records_are_an_error(drawn, tmp_path):
    study, _, _, _ = drawn
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples/paper-n10.safetensors").write_bytes(b"half")
    with pytest.raises(RunError, match="is not a complete safetensors file"):
        draw_study(study, tmp_path)
