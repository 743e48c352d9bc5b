import pickle  # noqa: TID251  what DataLoader sends to its workers

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.training import ECGDataset


@pytest.mark.parametrize("leads", [12, 8])
def test_an_item_is_a_signal_in_millivolts_and_its_label(ecgset, leads):
    dataset = ECGDataset(ecgset.folder, leads)
    assert isinstance(dataset, Dataset)
    assert len(dataset) == len(ecgset) == 32
    signal, label = dataset[5]
    assert (signal.dtype, label.dtype) == (torch.float32, torch.float32)
    expected = ecgset.signals_mv(5)[0] if leads == 12 else ecgset.independent_mv(5)[0]
    np.testing.assert_array_equal(signal.numpy(), expected)
    np.testing.assert_array_equal(label.numpy(), ecgset.labels[5])
    np.testing.assert_array_equal(dataset[-1][0].numpy(), dataset[31][0].numpy())


def test_what_a_loop_does_with_an_item_does_not_reach_the_set(ecgset):
    dataset = ECGDataset(ecgset)
    before = ecgset.labels[0].copy()
    signal, label = dataset[0]
    signal += 1
    label += 1
    np.testing.assert_array_equal(dataset[0][1].numpy(), before)
    np.testing.assert_array_equal(dataset[0][0].numpy(), ecgset.signals_mv(0)[0])


def test_it_ends_where_the_set_ends(ecgset):
    assert sum(1 for _ in ECGDataset(ecgset)) == 32
    with pytest.raises(IndexError, match="has 32 records, asked for 32"):
        ECGDataset(ecgset)[32]


def test_a_worker_gets_the_folder_and_not_the_signals(ecgset):
    sent = pickle.dumps(ECGDataset(ecgset, 8))
    assert len(sent) < 1000
    again = pickle.loads(sent)
    np.testing.assert_array_equal(again[3][0].numpy(), ecgset.independent_mv(3)[0])
    assert isinstance(again.ecgset._signals_uv, np.memmap)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_deals_every_record_once_however_many_workers(ecgset, workers):
    loader = DataLoader(ECGDataset(ecgset), batch_size=5, num_workers=workers)
    signals, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    np.testing.assert_array_equal(signals.numpy(), ecgset.signals_mv())
    np.testing.assert_array_equal(labels.numpy(), ecgset.labels)


def test_other_leads_and_other_folders_are_refused(ecgset, tmp_path):
    with pytest.raises(ConfigError, match="expected 12 or 8 leads, got 3"):
        ECGDataset(ecgset, 3)
    with pytest.raises(CorpusError, match="no ECG set at"):
        ECGDataset(tmp_path / "none")
