"""Array types and checks of multi-hot labels."""

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import CorpusError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def checked_labels(y_true: npt.ArrayLike) -> BoolArray:
    """Convert multi-hot labels (N, K) to booleans.

    Raises:
        CorpusError: the array is empty, not two-dimensional, or has values other than 0 and 1.
    """
    labels = np.asarray(y_true)
    if labels.ndim != 2 or 0 in labels.shape:
        raise CorpusError(f"expected multi-hot labels (records, classes), got shape {labels.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise CorpusError("expected labels of 0 and 1 only; encode them with a LabelSpace")
    return labels.astype(np.bool_)


def undefined_classes(y_true: npt.ArrayLike) -> BoolArray:
    """Flag classes without a positive or without a negative record in y_true (N, K): (K,)."""
    labels = checked_labels(y_true)
    return np.asarray(labels.all(axis=0) | ~labels.any(axis=0), dtype=np.bool_)
