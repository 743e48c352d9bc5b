"""Writes recordings in the layouts in which PTB-XL and ICBEB2018 are published."""

import csv

import numpy as np
from scipy.io import savemat

from ecgtransfer.signals import LEADS, expand_leads

REFERENCE_COLUMNS = ("Recording", "First_label", "Second_label", "Third_label")
PTBXL_LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")


def twelve_leads_uv(seed, samples):
    """A random walk in whole microvolts, (12, samples) int16, limb leads consistent."""
    rng = np.random.default_rng(seed)
    eight = 2.0 * np.cumsum(rng.integers(-9, 10, (8, samples)), axis=1)
    return np.rint(expand_leads(eight)).astype(np.int16)


def write_dat(record, signal_uv, rate_hz, leads=PTBXL_LEADS):
    """A WFDB record as PTB-XL has it: one .dat of format 16, 1000 units/mV."""
    record.parent.mkdir(parents=True, exist_ok=True)
    record.with_suffix(".dat").write_bytes(np.ascontiguousarray(signal_uv.T, "<i2").tobytes())
    lines = [f"{record.name} {len(leads)} {rate_hz} {signal_uv.shape[1]}"]
    for lead, row in zip(leads, signal_uv, strict=True):
        checksum = int(row.astype(np.int64).sum()) & 0xFFFF
        lines.append(f"{record.name}.dat 16 1000.0(0)/mV 16 0 {row[0]} {checksum} 0 {lead}")
    record.with_suffix(".hea").write_text("\n".join(lines) + "\n")


def write_challenge(record, signal_uv, comments):
    """A record of the Challenge layout: MATLAB v4 `val` behind a WFDB header."""
    record.parent.mkdir(parents=True, exist_ok=True)
    savemat(record.with_suffix(".mat"), {"val": signal_uv}, format="4")
    lines = [f"{record.name} 12 500 {signal_uv.shape[1]} 05-Feb-2020 11:39:16"]
    for lead, row in zip(LEADS, signal_uv, strict=True):
        checksum = int(row.astype(np.int64).sum()) & 0xFFFF
        lines.append(f"{record.name}.mat 16+24 1000/mV 16 0 {row[0]} {checksum} 0 {lead}")
    record.with_suffix(".hea").write_text("\n".join([*lines, *comments]) + "\n")


def write_struct(path, signal_mv, age, sex):
    """A record of the original layout: struct ECG with sex, age and data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"ECG": {"sex": sex, "age": age, "data": signal_mv}})


def write_reference(folder, rows, columns=REFERENCE_COLUMNS):
    """The labels of the original layout."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "REFERENCE.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
