from collections.abc import Iterator

import pytest
import torch

from tests.gaussian import GaussianPair

ONE = GaussianPair(mean=0.8, std=0.6)
#: Two leads of two samples: wider, narrower, shifted and unchanged coordinates side by side.
MANY = GaussianPair(mean=((0.8, -0.5), (0.0, 0.3)), std=((0.6, 1.4), (0.5, 1.0)))


@pytest.fixture(params=[ONE, MANY], ids=["one coordinate", "four coordinates"])
def pair(request) -> GaussianPair:
    return request.param


@pytest.fixture
def shape(pair) -> tuple[int, ...]:
    """Shape of one record of `pair`."""
    return (1, 1) if pair == ONE else (2, 2)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Closed forms are held in double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
