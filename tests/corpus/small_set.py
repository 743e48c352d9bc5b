"""A small set with labels, ages and a source (not a test)."""

import numpy as np
import pandas as pd

from ecgtransfer.corpus import label_space, write_ecgset

PTBXL = {
    "name": "ptbxl",
    "version": "1.0.3",
    "licence": "CC BY 4.0",
    "url": "https://physionet.org/content/ptb-xl/1.0.3/",
}


def make_set(folder, space=None, source=PTBXL, origin="recorded"):
    """Four records of 20 samples, the last without age, sex and label."""
    space = space or label_space()
    rng = np.random.default_rng(1)
    records = pd.DataFrame(
        {
            "name": ["a", "b", "c", "d"],
            "patient": ["p", "p", "q", "r"],
            "fold": [1, 1, 2, None],
            "age": [40.0, 41.0, 90.0, None],
            "sex": ["male", "male", "female", None],
            "codes": ["NORM;SR", "AFIB", "PVC", ""],
        }
    )
    labels = np.zeros((4, len(space)), np.float32)
    labels[[0, 1, 2], [0, 1, 6 % len(space)]] = 1
    signals_uv = rng.integers(-3000, 3000, (4, 8, 20)).astype(np.int16)
    extra = {"corpus": source} if source else {}
    return write_ecgset(folder, signals_uv, labels, records, space, 100, origin, extra)
