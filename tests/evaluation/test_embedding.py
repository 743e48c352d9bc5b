import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation import FeatureScale, embed
from ecgtransfer.models import Encoder1d, EncoderConfig


@pytest.fixture
def encoder():
    return Encoder1d(EncoderConfig(outputs=2, widths=(16, 16)))


def test_features_are_those_of_the_encoder_whatever_the_batch_size(encoder):
    signals = np.random.default_rng(0).normal(size=(7, 8, 64)).astype(np.float32)
    with torch.no_grad():
        expected = encoder.features(torch.from_numpy(signals)).numpy()
    for batch_size in (1, 3, 7):
        found = embed(encoder, signals, batch_size=batch_size)
        assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32
    assert encoder.training


def test_scaled_features_have_mean_zero_and_deviation_one():
    features = np.random.default_rng(0).normal(3, 5, size=(50, 4))
    features[:, 2] = 7
    scaled = FeatureScale.fitted(features)(features)
    assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    assert_allclose(scaled.std(axis=0), [1, 1, 0, 1])


def test_bad_signals_are_refused(encoder):
    with pytest.raises(CorpusError, match="8 leads"):
        embed(encoder, np.zeros((3, 12, 64)))
    with pytest.raises(ConfigError, match="batch size"):
        embed(encoder, np.zeros((3, 8, 64)), batch_size=0)


def test_bad_scales_are_refused():
    with pytest.raises(ConfigError, match="mean and deviation"):
        FeatureScale(np.zeros(2), np.ones(3))
    with pytest.raises(ConfigError, match="positive deviations"):
        FeatureScale(np.zeros(2), np.zeros(2))
    with pytest.raises(CorpusError, match="at least 2 records"):
        FeatureScale.fitted(np.zeros((1, 3)))
    with pytest.raises(CorpusError, match="the encoder that the scale was fitted with"):
        FeatureScale(np.zeros(2), np.ones(2))(np.zeros((4, 3)))
