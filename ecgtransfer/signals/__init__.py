"""One recording: leads, units, preprocessing, beats, quality and WFDB files; NumPy only."""

from typing import TYPE_CHECKING

from ecgtransfer.lazy import lazy_names

if TYPE_CHECKING:
    from ecgtransfer.signals.beat_files import (
        read_annotation,
        read_beats_csv,
        write_annotation,
    )
    from ecgtransfer.signals.beat_shape import (
        SHAPE_ROWS,
        Layout,
        beat_shapes,
        layout,
        no_shapes,
        shape_samples,
    )
    from ecgtransfer.signals.beats import BeatKind, Beats, find_beats
    from ecgtransfer.signals.leads import (
        INDEPENDENT_LEADS,
        LEADS,
        canonical_lead,
        expand_leads,
        independent_leads,
        lead_order,
        reorder_leads,
    )
    from ecgtransfer.signals.preprocessing import bandpass, crop, resample
    from ecgtransfer.signals.quality import (
        flat_leads,
        heart_rate_bpm,
        limb_lead_disagreement_mv,
        r_peaks,
        saturated_leads,
    )
    from ecgtransfer.signals.recording import MILLIVOLTS, Recording
    from ecgtransfer.signals.wfdb_header import WfdbHeader, read_comments, read_header
    from ecgtransfer.signals.wfdb_io import read_recording, write_recording
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "INDEPENDENT_LEADS",
    "LEADS",
    "MILLIVOLTS",
    "SHAPE_ROWS",
    "BeatKind",
    "Beats",
    "Layout",
    "Recording",
    "WfdbHeader",
    "bandpass",
    "beat_shapes",
    "canonical_lead",
    "crop",
    "expand_leads",
    "find_beats",
    "flat_leads",
    "heart_rate_bpm",
    "independent_leads",
    "layout",
    "lead_order",
    "limb_lead_disagreement_mv",
    "no_shapes",
    "r_peaks",
    "read_annotation",
    "read_beats_csv",
    "read_comments",
    "read_header",
    "read_recording",
    "reorder_leads",
    "resample",
    "saturated_leads",
    "shape_samples",
    "write_annotation",
    "write_recording",
]
