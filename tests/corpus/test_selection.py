import pandas as pd
import pytest

from ecgtransfer.corpus import select_records
from ecgtransfer.errors import CorpusError

RECORDS = pd.DataFrame(
    {
        "device": ["CS-12", "AT-6 C 5.5", "CS-12 E", None],
        "fold": [1, 8, 9, 10],
        "age": [40.0, 60.5, None, -1.0],
        "sex": ["male", "female", "female", "male"],
        "paced": [True, False, False, False],
        "beats": pd.array([9, None, 12, 13], dtype="Int64"),
    }
)


@pytest.mark.parametrize(
    ("expressions", "rows"),
    [
        ([], [0, 1, 2, 3]),
        (["fold=1-8"], [0, 1]),
        (["fold=1|9-10"], [0, 2, 3]),
        (["fold!=1-8"], [2, 3]),
        (["device=AT-6 C 5.5"], [1]),
        (["device=CS-12|CS-12 E"], [0, 2]),
        (["device!=AT-6 C 5.5"], [0, 2, 3]),
        ([" device = CS-12 "], [0]),
        (["age=40-60.5"], [0, 1]),
        (["age=-1"], [3]),
        (["age!=40"], [1, 2, 3]),
        (["sex=female", "fold=9"], [2]),
        (["paced=False"], [1, 2, 3]),
        (["beats=10-20"], [2, 3]),
    ],
)
def test_records_are_selected_by_expressions(expressions, rows):
    assert select_records(RECORDS, expressions).tolist() == rows


@pytest.mark.parametrize(
    ("expressions", "message"),
    [
        (["fold"], "cannot read the selection 'fold'"),
        (["fold="], "cannot read the selection 'fold='"),
        (["fold>3"], "cannot read the selection"),
        (["folds=3"], "unknown column 'folds'; expected one of device, fold, age, sex"),
        (["fold=a"], "cannot read 'a' in 'fold=a'"),
        (["fold=8-1"], "runs backwards"),
        (["device=AT-6"], "no record has device 'AT-6'; there is AT-6 C 5.5, CS-12"),
        (["fold=3"], "no record satisfies fold=3"),
        (["fold=1", "sex=female"], "no record satisfies fold=1 and sex=female"),
        ("fold=1", r"bare string 'fold=1'; give \['fold=1'\]"),
    ],
)
def test_a_selection_that_cannot_be_meant_is_refused(expressions, message):
    with pytest.raises(CorpusError, match=message):
        select_records(RECORDS, expressions)
