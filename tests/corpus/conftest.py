"""Small corpora and a small set, written anew for each test."""

import numpy as np
import pandas as pd
import pytest

from ecgtransfer.corpus import LabelSpace, write_ecgset

from .layouts import twelve_leads_uv, write_challenge, write_dat, write_reference, write_struct

#: What the table of the small PTB-XL states; the rest of its columns are not read.
PTBXL_ROWS = [
    (1, 11.0, 56.0, 1, 0.0, "CS-12   E", "{'NORM': 100.0, 'SR': 0.0}", 3),
    (2, 11.0, 57.0, 1, 0.0, "CS-12   E", "{'SR': 0.0}", 3),
    (3, 12.0, 300.0, 0, 1.0, "AT-6 C 5.5", "{'AFIB': 0.0, 'PVC': 100.0}", 9),
    (4, 13.0, None, 0, None, None, "{}", 10),
    (5, 14.0, 24.0, 0, 2.0, "CS100    3", "{'CLBBB': 100.0, 'WHAT': 50.0}", 1),
]


@pytest.fixture
def ptbxl_folder(tmp_path):
    """Five records of PTB-XL at 100 Hz; the second and the fourth state none of the nine labels."""
    folder = tmp_path / "ptbxl"
    rows = []
    for ecg_id, patient, age, sex, site, device, codes, fold in PTBXL_ROWS:
        name = f"{ecg_id:05d}_lr"
        write_dat(folder / "records100/00000" / name, twelve_leads_uv(ecg_id, 1000), 100)
        rows.append(
            {
                "ecg_id": ecg_id,
                "patient_id": patient,
                "age": age,
                "sex": sex,
                "site": site,
                "device": device,
                "scp_codes": codes,
                "strat_fold": fold,
                "filename_lr": f"records100/00000/{name}",
                "filename_hr": f"records500/00000/{ecg_id:05d}_hr",
            }
        )
    pd.DataFrame(rows).to_csv(folder / "ptbxl_database.csv", index=False)
    return folder


@pytest.fixture
def icbeb_folder(tmp_path):
    """Four records in three layouts: abbreviations, SNOMED CT codes, and struct + REFERENCE.csv."""
    folder = tmp_path / "icbeb"
    write_challenge(
        folder / "g1/A0001",
        twelve_leads_uv(1, 5500),
        ["#Age: 74", "#Sex: Male", "#Dx: AF,RBBB", "#Rx: Unknown"],
    )
    write_challenge(
        folder / "g1/A0002",
        twelve_leads_uv(2, 5000),
        ["# Age: NaN", "# Sex: Unknown", "# Dx: 59118001, 284470004"],
    )
    signal_mv = twelve_leads_uv(3, 6000) / 1000
    write_struct(folder / "original/TrainingSet1/A0003.mat", signal_mv, 52, "Female")
    write_struct(folder / "original/TrainingSet1/A0004.mat", signal_mv, -1, "Male")
    labels = [("A0003", 5, 2, ""), ("A0004", 1, "", ""), ("A0001", 2, 5, "")]
    write_reference(folder / "original", labels)
    return folder


@pytest.fixture
def space():
    return LabelSpace(("NORM", "AFIB", "PVC"))


@pytest.fixture
def small_set(tmp_path, space):
    """Six records of 50 samples, with the arrays they were made of."""
    rng = np.random.default_rng(0)
    signals_uv = rng.integers(-3000, 3000, (6, 8, 50)).astype(np.int16)
    labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    records = pd.DataFrame(
        {"name": [f"r{i}" for i in range(6)], "patient": list("aabbcc"), "fold": [1, 1, 2, 2, 3, 3]}
    )
    folder = tmp_path / "set"
    ecgset = write_ecgset(folder, signals_uv, labels, records, space, 100, "simulated")
    return ecgset, signals_uv, labels, records
