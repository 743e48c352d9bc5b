"""Export of sets for other programs: arrays, WFDB, PTB-XL layout, WebDataset, Croissant."""

from typing import TYPE_CHECKING

from ecgtransfer.lazy import lazy_names

if TYPE_CHECKING:
    from ecgtransfer.defaults import SHARD_RECORDS
    from ecgtransfer.export.arrays import TrainingArrays, export_arrays, training_arrays
    from ecgtransfer.export.croissant_json import croissant, write_croissant
    from ecgtransfer.export.ptbxl_layout import export_wfdb
    from ecgtransfer.export.webdataset import export_webdataset
    from ecgtransfer.export.wfdb_set import export_set, header_comments
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "SHARD_RECORDS",
    "TrainingArrays",
    "croissant",
    "export_arrays",
    "export_set",
    "export_webdataset",
    "export_wfdb",
    "header_comments",
    "training_arrays",
    "write_croissant",
]
