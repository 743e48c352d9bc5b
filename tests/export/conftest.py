import pytest

from ecgtransfer.corpus import LabelSpace, label_space
from tests.synthesis.small_generation import GenerateSmall


@pytest.fixture
def space() -> LabelSpace:
    return label_space("icbeb9")


@pytest.fixture
def make(tmp_path, space) -> GenerateSmall:
    return GenerateSmall(tmp_path, space)
