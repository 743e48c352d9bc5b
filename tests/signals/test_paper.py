import io

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import LEADS, Recording, draw_recording, draw_recordings, read_recording
from ecgtransfer.signals.paper import BASELINES_MM, TRACE_START_MM


def words(axes):
    return [text.get_text() for text in axes.texts]


def lines_mm(axes):
    return [line.get_xydata() for line in axes.lines]


def png(figure, **options):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **options)
    return buffer.getvalue()


def test_every_lead_is_named_once_and_the_rhythm_strip_again(ecg):
    (axes,) = draw_recording(ecg()[0], "Jane Doe").axes
    assert sorted(words(axes)) == sorted(
        [*LEADS, "II", "Jane Doe", "25 mm/s    10 mm/mV    100 Hz"]
    )


def test_paper_has_lines_every_millimetre_and_stronger_ones_every_five(ecg):
    (axes,) = draw_recording(ecg()[0]).axes
    fine, strong = (c for c in axes.collections if isinstance(c, LineCollection))
    for lines, spacing in ((fine, 1), (strong, 5)):
        upright = sorted({float(a[0]) for a, b in lines.get_segments() if a[0] == b[0]})
        level = sorted({float(a[1]) for a, b in lines.get_segments() if a[1] == b[1]})
        assert set(np.diff(upright)) == set(np.diff(level)) == {spacing}
    assert strong.get_linewidth()[0] > fine.get_linewidth()[0]


def test_one_millimetre_is_one_millimetre_on_a_print(ecg):
    figure = draw_recording(ecg()[0])
    (axes,) = figure.axes
    origin, along, up = axes.transData.transform([(0, 0), (25, 0), (0, 10)])
    assert (along - origin)[0] / figure.dpi * 25.4 == pytest.approx(25)
    assert (up - origin)[1] / figure.dpi * 25.4 == pytest.approx(10)


def test_each_row_begins_with_a_calibration_pulse_of_one_millivolt_and_a_fifth_of_a_second(ecg):
    (axes,) = draw_recording(ecg()[0]).axes
    pulses = [line for line in lines_mm(axes) if line[:, 0].max() < TRACE_START_MM]
    assert len(pulses) == 4
    for pulse, baseline in zip(pulses, BASELINES_MM, strict=True):
        height = pulse[:, 1] - baseline
        assert height.max() == 10
        assert np.ptp(pulse[height == 10, 0]) == 5


def test_traces_have_the_scale_of_the_paper():
    # A step of 1 mV at 1 s in lead I alone, a ramp everywhere else.
    signal = np.zeros((12, 1000))
    signal[0, 100:110] = 1.0
    (axes,) = draw_recording(Recording(signal, 100)).axes
    trace = next(line for line in lines_mm(axes) if len(line) == 251)
    assert trace[0] == pytest.approx((TRACE_START_MM, BASELINES_MM[0]))
    assert trace[100] == pytest.approx((TRACE_START_MM + 25, BASELINES_MM[0] + 10))


def test_each_lead_has_its_place_and_its_time():
    # Lead k is (k + 1) t^2: the slope at the start of a trace says which lead it is, and when.
    time_s = np.arange(1001) / 100
    parabolas = 1e-3 * np.arange(1, 13)[:, None] * time_s**2
    (axes,) = draw_recording(Recording(parabolas, 100)).axes
    traces = [line for line in lines_mm(axes) if len(line) == 251]
    rows = [("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6")]
    places = [(column, name) for names in rows for column, name in enumerate(names)]
    for trace, (column, name) in zip(traces, places, strict=True):
        at = 250 * column
        expected = np.diff(10 * parabolas[LEADS.index(name), [at, at + 1]])[0]
        assert trace[0, 0] == pytest.approx(TRACE_START_MM + 62.5 * column)
        assert trace[1, 1] - trace[0, 1] == pytest.approx(expected, abs=1e-6)


def test_the_rhythm_strip_is_lead_ii_for_ten_seconds(ecg):
    recording = ecg(seconds=12)[0]
    (axes,) = draw_recording(recording).axes
    strip = next(line for line in lines_mm(axes) if len(line) == 1001)
    shown = recording.lead_mv("II")[:1001]
    expected = BASELINES_MM[3] + 10 * (shown - np.median(shown))
    assert strip[:, 1] == pytest.approx(expected)


def test_a_short_recording_still_shows_all_leads(ecg):
    (axes,) = draw_recording(ecg(seconds=6)[0]).axes
    assert set(LEADS) <= set(words(axes))
    assert sum(len(line) in (150, 151) for line in lines_mm(axes)) == 12


def test_a_recording_of_one_sample_can_be_drawn():
    assert draw_recording(Recording(np.zeros((12, 1)), 100)).axes


def test_an_offset_does_not_move_a_trace(ecg):
    recording = ecg()[0]
    shifted = Recording(recording.signal_mv + 3, 100)
    (axes,), (moved,) = draw_recording(recording).axes, draw_recording(shifted).axes
    for one, other in zip(lines_mm(axes), lines_mm(moved), strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_ink_stays_on_the_grid(ecg):
    recording = ecg()[0]
    tall = Recording(recording.signal_mv * 50, 100)
    figure = draw_recording(tall)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    (axes,) = figure.axes
    top = len(pixels) - int(axes.transData.transform((0, 130))[1])
    assert (pixels[: top - 2].max(axis=-1) > 200).all()


def test_a_long_title_is_cut_off(ecg):
    (axes,) = draw_recording(ecg()[0], "x" * 500).axes
    title = next(word for word in words(axes) if word.startswith("x"))
    assert len(title) == 120
    assert title.endswith("...")


def test_an_existing_figure_is_drawn_into(ecg):
    figure = Figure(figsize=(5, 3))
    figure.add_subplot()
    assert draw_recording(ecg()[0], figure=figure) is figure
    assert len(figure.axes) == 1
    assert tuple(figure.get_size_inches()) == (5, 3)


def test_several_recordings_have_a_sheet_and_a_title_each(ecg):
    recordings = [ecg(bpm=bpm)[0] for bpm in (50, 70, 90)]
    figure = draw_recordings(recordings, ["slow", "normal", "fast"])
    assert [words(axes)[-2] for axes in figure.axes] == ["slow", "normal", "fast"]
    bottoms = [axes.get_position().y0 for axes in figure.axes]
    assert bottoms == sorted(bottoms, reverse=True)
    one = draw_recording(recordings[0])
    assert figure.get_size_inches() == pytest.approx(one.get_size_inches() * (1, 3))


def test_sheets_can_stand_side_by_side(ecg):
    figure = draw_recordings([ecg()[0]] * 3, ["a", "b", "c"], columns=2)
    assert [axes.get_position(original=True).x0 for axes in figure.axes] == [0, 0.5, 0]
    assert [axes.get_position(original=True).y0 for axes in figure.axes] == [0.5, 0.5, 0]


@pytest.mark.parametrize(
    ("count", "titles", "columns"), [(0, [], 1), (2, ["one"], 1), (1, ["one"], 0)]
)
def test_recordings_and_titles_come_in_pairs(ecg, count, titles, columns):
    with pytest.raises(SignalError, match="expected one title for each of one or more recordings"):
        draw_recordings([ecg()[0]] * count, titles, columns)


def test_the_users_style_does_not_change_the_paper(ecg):
    plain = png(draw_recording(ecg()[0], "same"), dpi=60)
    with matplotlib.rc_context({"text.color": "red", "axes.facecolor": "black", "font.size": 30}):
        assert png(draw_recording(ecg()[0], "same"), dpi=60) == plain


def test_a_real_recording_is_a_small_file(real_data):
    path = sorted(real_data.glob("icbeb/challenge/*.hea"))[0]
    figure = draw_recording(read_recording(path.with_suffix("")), path.stem)
    assert len(png(figure, dpi=110)) < 300_000
