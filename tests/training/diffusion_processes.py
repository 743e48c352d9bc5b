"""`small_diffusion` in two processes, which `test_processes.py` starts; each writes what it saw."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from small_diffusion import TRAIN, trained

from ecgtransfer.training import process_number


def main(folder: Path) -> None:
    """With one batch a step in each process, and with two."""
    result = {
        str(accumulate): trained(replace(TRAIN, accumulate=accumulate), folder / f"{accumulate}")
        for accumulate in (1, 2)
    }
    number, _ = process_number()
    (folder / f"result-{number}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
