"""Real and generated ECGs side by side: the first record of each class, not a chosen one.

    python benchmarks/generated_figure.py --real SET --select fold=10 --generated SET --to PNG

Both sets state the classes; of each class the first record that states it alone is drawn, in the
order of the sets, real on the left and generated on the right.
"""

import argparse
from pathlib import Path

import numpy as np

from ecgtransfer.corpus import ECGSet, select_records
from ecgtransfer.drawing import draw_recordings
from ecgtransfer.signals import Recording

CLASSES = ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "PAC", "PVC", "STD_")
#: Resolution of the picture, dots an inch of paper.
DOTS = 64


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--select", action="append", default=[])
    parser.add_argument("--generated", type=Path, required=True)
    parser.add_argument("--classes", nargs="+", default=CLASSES)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    real, generated = ECGSet.open(options.real), ECGSet.open(options.generated)
    numbers = select_records(real.records, tuple(options.select))
    recordings: list[Recording] = []
    titles: list[str] = []
    for name in options.classes:
        left = first_alone(real, name, numbers)
        right = first_alone(generated, name, np.arange(len(generated)))
        recordings += [real.recording(left), generated.recording(right)]
        titles += [f"{name}, recorded", f"{name}, SYNTHETIC, not for diagnosis"]
    figure = draw_recordings(recordings, titles, columns=2)
    figure.savefig(options.to, dpi=DOTS)


def first_alone(ecgset: ECGSet, name: str, numbers: np.ndarray) -> int:
    """The first of some records that states a class and no other of `CLASSES`."""
    columns = [
        ecgset.label_space.names.index(each) for each in CLASSES if each in ecgset.label_space.names
    ]
    labels = ecgset.labels[numbers]
    own = labels[:, ecgset.label_space.names.index(name)] == 1
    alone = own & (labels[:, columns].sum(axis=1) == 1)
    return int(numbers[np.flatnonzero(alone)[0]])


if __name__ == "__main__":
    main()
