import pytest
from small_generation import GaussianModel, GenerateSmall

from ecgtransfer.corpus import LabelSpace, label_space


@pytest.fixture
def space() -> LabelSpace:
    return label_space("icbeb9")


@pytest.fixture
def gaussian(space) -> GaussianModel:
    return GaussianModel(space)


@pytest.fixture
def make(tmp_path, space) -> GenerateSmall:
    return GenerateSmall(tmp_path, space)
