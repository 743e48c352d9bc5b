import numpy as np
import pandas as pd
import pytest

from ecgtransfer.corpus import LabelSpace, label_space, write_ecgset
from ecgtransfer.errors import CorpusError
from tests.corpus.small_set import make_set


def test_a_set_is_a_table_with_a_column_a_label(tmp_path):
    ecgset = make_set(tmp_path / "set")
    table = ecgset.to_pandas()
    assert list(table.columns) == [*ecgset.records.columns, *label_space().names]
    assert table.loc[table["AFIB"], "name"].tolist() == ["b"]
    assert table[["NORM", "AFIB", "PVC"]].sum().tolist() == [1, 1, 1]
    assert table["NORM"].dtype == bool
    np.testing.assert_array_equal(table[list(label_space().names)], ecgset.labels)


def test_soft_labels_stay_numbers(tmp_path):
    table = pd.DataFrame({"name": ["a"]})
    ecgset = write_ecgset(
        tmp_path / "set",
        np.zeros((1, 8, 5), np.int16),
        np.array([[0.25, 1.0]], np.float32),
        table,
        LabelSpace(("x", "y")),
        100,
        "generated",
    )
    assert ecgset.to_pandas()[["x", "y"]].to_numpy().tolist() == [[0.25, 1.0]]


def test_a_label_that_is_called_like_a_column_is_refused(tmp_path):
    ecgset = make_set(tmp_path / "set", LabelSpace(("age", "other")))
    with pytest.raises(CorpusError, match="a label and a column of its table called age; rename"):
        ecgset.to_pandas()
