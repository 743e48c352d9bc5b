"""Tables of docs/results.md, rendered from the JSON files of the benchmarks.

    python benchmarks/results_page.py    # writes docs/results.md

The text of the page is written by hand. A table stands between `<!-- table: NAME -->` and
`<!-- end -->`; NAME is a key of `TABLES`. `tests/test_readme.py` checks that it is up to date.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"

MIXTURE_METHODS = {
    "source": "unchanged source model",
    "scratch": "target records only",
    "finetune": "full fine-tuning",
    "lora": "LoRA",
    "guidance": "guidance term alone",
    "all": "guidance, cycle and consistency terms",
    "tgdp": "consistency term, cross-fitted, calibrated",
    "stack": "guidance and fine-tuning, stacked",
    "mle": "maximum likelihood, true family known",
    "exact": "exact log h on the learned source model",
}
PROBLEMS = ("paper", "unequal", "separated", "new-mode", "conditional", "paper-8", "paper-32")
RECORDERS = ("AT-6 C 5.5", "AT-6 6", "CS100 3")


def read(name: str) -> Any:
    """Return the content of a JSON file beside this script."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def interval(low: float, high: float, form: str) -> str:
    """Return "[low, high]"."""
    return f"[{low:{form}}, {high:{form}}]"


def estimate(value: dict[str, float], form: str = ".3f") -> str:
    """Return "value [low, high]"."""
    return f"{value['value']:{form}} {interval(value['low'], value['high'], form)}"


def percent(value: dict[str, float], digits: int = 0) -> str:
    """Return "92 % [90, 94]" for a share."""
    scaled = {name: 100 * each for name, each in value.items()}
    return f"{scaled['value']:.{digits}f} % " + interval(
        scaled["low"], scaled["high"], f".{digits}f"
    )


def rhythm() -> str:
    """Rhythm and likeness of beats of the shipped model."""
    found = read("source_scores.json")["fold 9, label scale 1"]["rhythm"]
    beats, regular = found["likeness of beats"], found["NORM regular"]
    rows = [
        (
            "NORM records with a regular rhythm",
            percent(regular["generated"]),
            percent(regular["real"]),
        ),
        (
            "correlation of the beats of a record with its median beat",
            estimate(beats["generated"]["correlation"]),
            estimate(beats["real"]["correlation"]),
        ),
        (
            "heart rate found minus requested, absolute, beats per minute",
            estimate(found["heart rate found minus requested, absolute, bpm"]),
            "",
        ),
        (
            "requested beats found within 50 ms",
            percent(found["requested beats found within 50 ms"], 1),
            "",
        ),
    ]
    return table(("", "generated", "real"), rows)


def class_rules() -> str:
    """Share of records that obey the rule of their class."""
    rows = read("source_scores.json")["fold 9, label scale 1"]["physiology"]["rules"][1:]
    return table(
        ("class", "rule", "generated", "real", "verdict"),
        [(name, rule, made, real, verdict) for name, rule, made, real, _, _, verdict in rows],
    )


def density_ratio() -> str:
    """Log loss of the density ratio on test patients, by recorder and classifier."""
    found = read("ratio.json")
    kinds = {
        "after": "networks and band powers, stacked (in use)",
        "band powers": "ridge regression on band powers alone",
        "after, networks alone": "networks alone",
        "before": "before the repair",
    }

    def cell(recorder: str, kind: str) -> str:
        loss = found[recorder][kind]["over seeds"]["log_loss_less_log_2"]
        return f"{loss['mean']:+.3f} " + interval(*loss["interval"], "+.3f")

    rows = [(title, *(cell(each, kind) for each in RECORDERS)) for kind, title in kinds.items()]
    return table(("", *RECORDERS), rows)


def _mixtures(score: str, wanted: Iterable[tuple[str, int]]) -> Callable[[str], list[Any]]:
    tables = {
        (each["problem"], each["n"]): each["rows"]
        for each in read("mixtures/mixtures.json")["tables"]
    }
    cells = [{row["method"]: row for row in tables[key]} for key in wanted]
    return lambda method: [each[method]["scores"][score] for each in cells]


def mixture_distance() -> str:
    """Sliced Wasserstein distance on the paper's pair, by number of target records."""
    sizes = (10, 30, 100, 1000)
    scores = _mixtures("sliced_wasserstein", [("paper", size) for size in sizes])
    header = ("sliced Wasserstein distance", *(f"{size:,} records" for size in sizes))
    return table(
        header,
        [
            (title, *(estimate(each) for each in scores(method)))
            for method, title in MIXTURE_METHODS.items()
        ],
    )


def mixture_score_error() -> str:
    """Error of the score field with 100 target records, by problem."""
    scores = _mixtures("score_error", [(problem, 100) for problem in PROBLEMS])
    chosen = ("source", "scratch", "finetune", "lora", "tgdp", "stack", "exact")
    return table(
        ("error of the score field, 100 records", *(f"`{problem}`" for problem in PROBLEMS)),
        [
            (MIXTURE_METHODS[method], *(f"{each['value']:.3f}" for each in scores(method)))
            for method in chosen
        ],
    )


def generating() -> str:
    """Time and memory of `generate` by the number of records."""
    return table(
        ("records", "seconds, start included", "records per second drawn", "peak memory"),
        [
            (
                f"{row['records']:,}",
                f"{row['seconds']:.0f}",
                f"{row['records_per_s']:.0f}",
                f"{row['peak_mb']} MB",
            )
            for row in read("generate_scale.json")["rows"]
        ],
    )


def reading() -> str:
    """Records per second read from a set and from tar shards."""
    names = {
        "set, in order": "set, in order",
        "set, at random": "set, at random",
        "tar shards, in order, webdataset": "tar shards, in order, `webdataset`",
        "tar shards, mixed in a buffer of 1,000, webdataset": (
            "tar shards, mixed in a buffer of 1,000, `webdataset`"
        ),
    }
    found = read("generate_scale.json")["reading_records_per_s"]
    return table(
        ("records per second", "from the page cache", "from the disk"),
        [
            (
                title,
                *(f"{round(found[name][place], -2):,}" for place in ("from_cache", "from_disk")),
            )
            for name, title in names.items()
        ],
    )


def preparing() -> str:
    """Time and memory of `data prepare` by the number of records."""
    return table(
        ("records", "workers", "seconds", "peak memory of all processes"),
        [
            (
                f"{row['records']:,}",
                str(row["workers"]),
                f"{row['seconds']:.0f}",
                f"{row['peak_mb']} MB",
            )
            for row in read("prepare_scale.json")["rows"]
        ],
    )


TABLES: dict[str, Callable[[], str]] = {
    "rhythm": rhythm,
    "class rules": class_rules,
    "density ratio": density_ratio,
    "mixtures, distance": mixture_distance,
    "mixtures, score error": mixture_score_error,
    "generate": generating,
    "read": reading,
    "prepare": preparing,
}


def rendered(page: str) -> str:
    """Return a page with every table rendered again."""
    return re.sub(
        r"(<!-- table: (.*?) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}",
        page,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
