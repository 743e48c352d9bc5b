"""Errors of sign, scale and Jensen, put into a copy of the code by hand: does a test turn red?

    python benchmarks/mutants.py

Each mutant replaces one piece of text in one file. The tests of that file then run on the copy,
in a process of their own, after the copy as it is was seen to pass them. Writes
`benchmarks/mutants.json`; the exit code is 1 where a mutant survives.

No test, because it runs the tests of eleven files once for each mutant. `tests/test_mutants.py`
checks that every mutant still changes exactly one place of the code.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

#: What is copied, and the name that it is imported by there.
COPIED = {
    "ecgtransfer": "ecgtransfer",
    "cli": "ecgtransfer_cli",
    "data_manifests": "ecgtransfer_manifests",
    "tests": "tests",
    "pyproject.toml": "pyproject.toml",
}

#: Which tests are to notice an error in a file.
TESTS = {
    "ecgtransfer/diffusion/denoiser.py": ("tests/diffusion/test_denoiser.py",),
    "ecgtransfer/diffusion/sampler.py": ("tests/diffusion/test_sampler.py",),
    "ecgtransfer/transfer/cross_fit.py": ("tests/transfer/test_cross_fit.py",),
    "ecgtransfer/transfer/density_ratio.py": ("tests/transfer/test_density_ratio.py",),
    "ecgtransfer/transfer/calibration.py": ("tests/transfer/test_density_ratio.py",),
    "ecgtransfer/transfer/domain_classifier.py": (
        "tests/transfer/test_density_ratio.py",
        "tests/transfer/test_band_powers.py",
    ),
    "ecgtransfer/transfer/out_of_fold.py": ("tests/transfer/test_density_ratio.py",),
    "ecgtransfer/transfer/band_powers.py": ("tests/transfer/test_band_powers.py",),
    "ecgtransfer/transfer/extrapolated.py": ("tests/transfer/test_extrapolated.py",),
    "ecgtransfer/transfer/guidance.py": ("tests/transfer/test_guidance.py",),
    "ecgtransfer/transfer/guided.py": (
        "tests/transfer/test_guided.py",
        "tests/transfer/test_guidance.py",
    ),
    "ecgtransfer/transfer/potential.py": ("tests/transfer/test_potential.py",),
    "ecgtransfer/transfer/stacking.py": ("tests/transfer/test_stacking.py",),
    "ecgtransfer/transfer/tgdp.py": ("tests/transfer/test_tgdp.py",),
    "ecgtransfer/transfer/weight.py": ("tests/transfer/test_weight.py",),
}

#: Imported once, before the processes part; none of it is ours.
PRELOADED = [
    "torch",
    "torch._inductor.config",
    "pandas",
    "scipy.signal",
    "scipy.stats",
    "scipy.optimize",
    "safetensors",
]

#: Seconds that one test may take; an endless loop is a failure too.
TEST_SECONDS = 60

#: Seconds that one run may take, a process that died included.
RUN_SECONDS = 600

#: How many failing tests a mutant's entry names.
NAMED = 10


@dataclass(frozen=True)
class Mutant:
    """One error: in `file`, which holds `before` exactly once, `after` stands in its place."""

    name: str
    file: str
    before: str
    after: str


@dataclass(frozen=True)
class Outcome:
    """What pytest said of a copy.

    Attributes:
        tests: how many ran.
        failing: names of those that failed, sorted.
        home: the file that the package was imported from.
    """

    tests: int
    failing: tuple[str, ...]
    home: str


GUIDED = "ecgtransfer/transfer/guided.py"
GUIDANCE = "ecgtransfer/transfer/guidance.py"
RATIO = "ecgtransfer/transfer/density_ratio.py"
CALIBRATION = "ecgtransfer/transfer/calibration.py"
DOMAIN_CLASSIFIER = "ecgtransfer/transfer/domain_classifier.py"
OUT_OF_FOLD = "ecgtransfer/transfer/out_of_fold.py"
BAND_POWERS = "ecgtransfer/transfer/band_powers.py"
WEIGHT = "ecgtransfer/transfer/weight.py"
TGDP = "ecgtransfer/transfer/tgdp.py"
CROSS_FIT = "ecgtransfer/transfer/cross_fit.py"
STACKING = "ecgtransfer/transfer/stacking.py"
POTENTIAL = "ecgtransfer/transfer/potential.py"
EXTRAPOLATED = "ecgtransfer/transfer/extrapolated.py"
DENOISER = "ecgtransfer/diffusion/denoiser.py"
SAMPLER = "ecgtransfer/diffusion/sampler.py"

MUTANTS = (
    # The guided denoiser, D_q = D_p + w sigma^2 grad log h.
    Mutant(
        "guided: the wrong sign",
        GUIDED,
        "denoise(x, sigma, label) + factor * log_h_gradient(",
        "denoise(x, sigma, label) - factor * log_h_gradient(",
    ),
    Mutant("guided: sigma in place of sigma^2", GUIDED, "(values * sigma**2)", "(values * sigma)"),
    Mutant("guided: no sigma^2", GUIDED, "(values * sigma**2)", "values"),
    Mutant("guided: no weight", GUIDED, "(values * sigma**2)", "(sigma**2)"),
    Mutant(
        "guided: the guidance without its label",
        GUIDED,
        "factor * log_h_gradient(log_h, x, sigma, label)",
        "factor * log_h_gradient(log_h, x, sigma, None)",
    ),
    Mutant(
        "gradient of log h: of the mean over the batch", GUIDED, "value.sum(), x", "value.mean(), x"
    ),
    Mutant(
        "(B, 1) - (B,) is let through",
        GUIDED,
        "if value.shape != x.shape[:1]:",
        "if len(value) != len(x):",
    ),
    Mutant(
        "noised: sigma^2 in place of sigma",
        GUIDED,
        "x0 + per_record(sigma, x0) * noise",
        "x0 + per_record(sigma, x0) ** 2 * noise",
    ),
    Mutant(
        "label scale: the branch without label is not guided",
        GUIDED,
        "scale, guided(denoise, log_h, weight_without_label)",
        "scale, denoise",
    ),
    Mutant(
        "label scale: the branch without label by the weight with one",
        GUIDED,
        "guided(denoise, log_h, weight_without_label)",
        "guided(denoise, log_h, weight)",
    ),
    # The losses. Each of the three Jensen errors has its minimum at E[log r], exactly.
    Mutant(
        "guidance loss, mse: regression on log r",
        GUIDANCE,
        "(f.exp() - ratio).square()",
        "(f - log_ratio.detach()).square()",
    ),
    Mutant(
        "guidance loss, kl: the divergence the other way round, so E[log r]",
        GUIDANCE,
        "f.exp() - ratio * f",
        "f.exp() * (f - log_ratio.detach() - 1)",
    ),
    Mutant(
        "guidance loss, logistic: the divergence the other way round, so E[log r]",
        GUIDANCE,
        "F.softplus(f) + ratio * F.softplus(-f)",
        "f.sigmoid() * (f - log_ratio.detach()) - F.softplus(f)",
    ),
    Mutant(
        "guidance loss, logistic: r forgotten",
        GUIDANCE,
        "F.softplus(f) + ratio * F.softplus(-f)",
        "F.softplus(f) + F.softplus(-f)",
    ),
    Mutant(
        "guidance loss, logistic: r on the negatives",
        GUIDANCE,
        "F.softplus(f) + ratio * F.softplus(-f)",
        "ratio * F.softplus(f) + F.softplus(-f)",
    ),
    Mutant(
        "classification of noised records: positives and negatives swapped",
        GUIDANCE,
        "torch.where(is_target, -f, f)",
        "torch.where(is_target, f, -f)",
    ),
    Mutant(
        "losses of the value: log h without its label",
        GUIDANCE,
        "f = log_h(x, sigma, label)",
        "f = log_h(x, sigma, None)",
    ),
    Mutant(
        "cycle loss: a gradient into the classifier",
        GUIDANCE,
        "with torch.no_grad():\n        log_ratio = noisy_log_ratio",
        "with torch.enable_grad():\n        log_ratio = noisy_log_ratio",
    ),
    Mutant(
        "cycle loss: the wrong sign",
        GUIDANCE,
        "smooth_l1_loss(f, log_ratio,",
        "smooth_l1_loss(f, -log_ratio,",
    ),
    Mutant(
        "consistency loss: no create_graph",
        GUIDANCE,
        "create_graph=torch.is_grad_enabled())\n    error",
        "create_graph=False)\n    error",
    ),
    Mutant(
        "consistency loss: sigma in place of sigma^2",
        GUIDANCE,
        "denoised + per_record(sigma, x) ** 2 * gradient",
        "denoised + per_record(sigma, x) * gradient",
    ),
    Mutant(
        "consistency loss: the wrong sign",
        GUIDANCE,
        "denoised + per_record(sigma, x) ** 2 * gradient",
        "denoised - per_record(sigma, x) ** 2 * gradient",
    ),
    Mutant(
        "consistency loss: log h without its label",
        GUIDANCE,
        "label, create_graph=torch.is_grad_enabled())\n    error",
        "None, create_graph=torch.is_grad_enabled())\n    error",
    ),
    Mutant(
        "consistency loss: a gradient into the denoiser",
        GUIDANCE,
        "with torch.no_grad():\n        denoised = denoise",
        "with torch.enable_grad():\n        denoised = denoise",
    ),
    Mutant(
        "consistency loss: lambda with sigma in place of sigma^2",
        GUIDANCE,
        "weight = (sigma**2 + 1) / sigma**2",
        "weight = (sigma**2 + 1) / sigma",
    ),
    # The density ratio.
    Mutant(
        "prior correction: the wrong sign",
        CALIBRATION,
        "logit - math.log(n_target / n_source)",
        "logit + math.log(n_target / n_source)",
    ),
    Mutant(
        "prior correction: missing",
        CALIBRATION,
        "return logit - math.log(n_target / n_source)",
        "return logit",
    ),
    Mutant(
        "domain classifier: positives and negatives swapped",
        RATIO,
        "torch.where(batch.is_target.to(device), -f, f)",
        "torch.where(batch.is_target.to(device), f, -f)",
    ),
    Mutant(
        "domain classifier: the calibration's offset with the wrong sign",
        DOMAIN_CLASSIFIER,
        "self.logit(x, sigma, label, member) + self.offset",
        "self.logit(x, sigma, label, member) - self.offset",
    ),
    Mutant(
        "domain classifier: a network is judged on records that it learned from",
        OUT_OF_FOLD,
        "torch.from_numpy(self.fold[index]).to(device)",
        "torch.from_numpy((self.fold[index] + 1) % (self.fold.max() + 1)).to(device)",
    ),
    Mutant(
        "domain classifier: a network learns from its own fold",
        RATIO,
        "(fold != number) & (is_target == domain)",
        "(fold == number) & (is_target == domain)",
    ),
    Mutant(
        "calibration: Platt's target of the larger domain for both",
        CALIBRATION,
        "off = 1 / ((min(n_source, n_target)",
        "off = 1 / ((max(n_source, n_target)",
    ),
    Mutant(
        "band powers: a classifier is fitted to its own fold",
        BAND_POWERS,
        "_ridge(features[fold != number], is_target[fold != number], penalty)",
        "_ridge(features[fold == number], is_target[fold == number], penalty)",
    ),
    Mutant(
        "band powers: left out of the log-ratio",
        DOMAIN_CLASSIFIER,
        "return log_ratio + self.slope[1]",
        "return log_ratio + 0 * self.slope[1]",
    ),
    # The guidance weight, <u, x0 - D_p> / <u, u>.
    Mutant(
        "guidance weight: divided the wrong way", WEIGHT, "cross / sq_norm if", "sq_norm / cross if"
    ),
    Mutant(
        "guidance weight: the wrong sign",
        WEIGHT,
        "(x0 - denoise(x, sigma, label))",
        "(denoise(x, sigma, label) - x0)",
    ),
    Mutant(
        "guidance weight: sigma in place of sigma^2",
        WEIGHT,
        "u = per_record(sigma, x) ** 2 * log_h_gradient",
        "u = per_record(sigma, x) * log_h_gradient",
    ),
    Mutant(
        "guidance weight: the square of one network in place of the mean's",
        WEIGHT,
        "u.square() if applied is None else guidance(applied).square()",
        "u.square()",
    ),
    Mutant(
        "cross-fitting: the sum of the folds' log h in place of the mean",
        CROSS_FIT,
        "return total / len(self.networks)",
        "return total",
    ),
    Mutant(
        "stacking: a step with the wrong sign", STACKING, "total + per_record", "total - per_record"
    ),
    Mutant(
        "stacking: weights for the opposite error",
        STACKING,
        "root * (x0 - source)",
        "root * (source - x0)",
    ),
    # The training of log h.
    Mutant(
        "training: positives drawn without r",
        TGDP,
        "seed + 3, weights=ratio)",
        "seed + 3)",
    ),
    Mutant(
        "training: source records as positives",
        TGDP,
        "torch.arange(len(both), device=device) >= len(x0)",
        "torch.arange(len(both), device=device) < len(x0)",
    ),
    Mutant(
        "training: labels hidden from log h but not from the source's denoiser",
        TGDP,
        "hiding_labels(denoise, hidden)",
        "denoise",
    ),
    Mutant(
        "training: source records as positives by a ratio that knows nothing",
        TGDP,
        "if not ratio_beats_chance and self.classifies:",
        "if ratio and self.classifies:",
    ),
    Mutant(
        "training: no division by the coordinates of a record",
        TGDP,
        "total = total / x0[0].numel()",
        "total = total * 1",
    ),
    # The network that is log h.
    Mutant(
        "potential: the mean over time in place of the sum",
        POTENTIAL,
        "(z * self.field(h)).sum(dim=(1, 2))",
        "(z * self.field(h)).mean(dim=2).sum(dim=1)",
    ),
    Mutant(
        "potential: its local part averaged over time",
        POTENTIAL,
        "self.local(F.silu(h)).sum(dim=(1, 2))",
        "self.local(F.silu(h)).mean(dim=(1, 2))",
    ),
    Mutant("potential: no 1 / sigma", POTENTIAL, ".sum(dim=(1, 2)) / sigma", ".sum(dim=(1, 2))"),
    # Diffusion, where the guidance rests on it.
    Mutant(
        "extrapolated: the wrong sign",
        EXTRAPOLATED,
        "return source + scale *",
        "return source - scale *",
    ),
    Mutant(
        "extrapolated: from the source with its label",
        EXTRAPOLATED,
        "denoise_source(x, sigma, without_label(label))",
        "denoise_source(x, sigma, label)",
    ),
    Mutant(
        "score_from_denoised: the wrong sign",
        DENOISER,
        "(denoised - x) / per_record(sigma, x) ** 2",
        "(x - denoised) / per_record(sigma, x) ** 2",
    ),
    Mutant(
        "score_from_denoised: sigma in place of sigma^2",
        DENOISER,
        "(denoised - x) / per_record(sigma, x) ** 2",
        "(denoised - x) / per_record(sigma, x)",
    ),
    Mutant(
        "classifier-free guidance: the wrong sign",
        DENOISER,
        "without + scale *",
        "without - scale *",
    ),
    Mutant(
        "sampler, dpmpp2m: adds where it subtracts",
        SAMPLER,
        "ratio * x + (1 - ratio) * ahead",
        "ratio * x - (1 - ratio) * ahead",
    ),
    Mutant(
        "sampler, adams: adds where it subtracts",
        SAMPLER,
        "h**power - power * moments[-1]",
        "h**power + power * moments[-1]",
    ),
    Mutant(
        "sampler, heun: adds where it subtracts",
        SAMPLER,
        "slope = (x - denoise_at(x, sigma)) / sigma",
        "slope = (x + denoise_at(x, sigma)) / sigma",
    ),
)


def mutated(text: str, mutant: Mutant) -> str:
    """The file's text with the error in it.

    Raises:
        ValueError: the text to be replaced is not there exactly once.
    """
    found = text.count(mutant.before)
    if found != 1:
        raise ValueError(
            f"expected the text of the mutant {mutant.name!r} exactly once in {mutant.file}, got "
            f"it {found} times: {mutant.before!r}; the code has changed, so change "
            "benchmarks/mutants.py too"
        )
    return text.replace(mutant.before, mutant.after)


def copy_to(folder: Path) -> None:
    """The repository's code and tests under the names that they are imported by."""
    for ours, theirs in COPIED.items():
        if (REPOSITORY / ours).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / ours, folder / theirs, ignore=ignored)
        else:
            shutil.copyfile(REPOSITORY / ours, folder / theirs)


class Listener:
    """A pytest plugin that keeps the names of what ran and of what failed."""

    def __init__(self) -> None:
        self.ran: set[str] = set()
        self.failing: set[str] = set()

    def pytest_runtest_logreport(self, report) -> None:
        """A test fails in its call or in what is set up for it."""
        self.ran.add(report.nodeid)
        if report.failed:
            self.failing.add(report.nodeid)


def run_tests(mutant: Mutant | None, files: tuple[str, ...]) -> Outcome:
    """Run test files on a copy with the error in it; None is the copy as it is.

    For a new process: whatever it imports of this project comes from the copy.

    Raises:
        RuntimeError: tests that could not be collected, or code that is not the copy's.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name).resolve()
        copy_to(folder)
        if mutant is not None:
            path = folder / mutant.file
            path.write_text(mutated(path.read_text("utf-8"), mutant), "utf-8")
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(folder))
        os.chdir(folder)

        import pytest

        listener, said = Listener(), io.StringIO()
        options = ["-q", "-m", "not slow", f"--timeout={TEST_SECONDS}", f"--rootdir={folder}"]
        without = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = pytest.main([*options, *without, *files], plugins=[listener])
        os.chdir(REPOSITORY)
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            raise RuntimeError(
                f"expected tests that pass or fail, got exit code {int(code)} of pytest for "
                f"{mutant.name if mutant else 'the copy as it is'}:\n{said.getvalue()}"
            )
        homes = {
            key: module.__file__
            for key, module in sys.modules.items()
            if key.partition(".")[0] in COPIED.values() and getattr(module, "__file__", None)
        }
        foreign = {key: at for key, at in homes.items() if not Path(at).is_relative_to(folder)}
        wanted = None if mutant is None else mutant.file.removesuffix(".py").replace("/", ".")
        if foreign or (wanted is not None and wanted not in homes):
            raise RuntimeError(
                f"expected {wanted or 'the package'} to be imported from {folder}, got {foreign}"
            )
        return Outcome(len(listener.ran), tuple(sorted(listener.failing)), homes["ecgtransfer"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    jobs = parser.parse_args().jobs
    os.environ["OMP_NUM_THREADS"] = "1"
    for mutant in MUTANTS:
        mutated((REPOSITORY / mutant.file).read_text("utf-8"), mutant)

    began = time.perf_counter()
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(PRELOADED)
    with context.Pool(jobs, maxtasksperchild=1) as pool:
        files = tuple(sorted({file for mutant in MUTANTS for file in TESTS[mutant.file]}))
        control = pool.apply_async(run_tests, (None, files)).get(RUN_SECONDS)
        print(f"no mutant: {control.tests} tests, {len(control.failing)} fail; {control.home}")
        if control.failing:
            print("expected none to fail, got " + ", ".join(control.failing), file=sys.stderr)
            return 1
        running = [pool.apply_async(run_tests, (mutant, TESTS[mutant.file])) for mutant in MUTANTS]
        found = []
        for mutant, result in zip(MUTANTS, running, strict=True):
            outcome = result.get(RUN_SECONDS)
            verdict = "caught" if outcome.failing else "SURVIVED"
            count = f"{len(outcome.failing):2d} of {outcome.tests:2d}"
            print(f"{verdict} by {count}: {mutant.name}", flush=True)
            found.append(
                {
                    **asdict(mutant),
                    "caught": bool(outcome.failing),
                    "tests": outcome.tests,
                    "failing": len(outcome.failing),
                    "names": list(outcome.failing[:NAMED]),
                }
            )
    survivors = [mutant["name"] for mutant in found if not mutant["caught"]]
    report = {
        "without_mutant": {"tests": control.tests, "failing": 0},
        "caught": len(found) - len(survivors),
        "survived": len(survivors),
        "mutants": found,
    }
    (REPOSITORY / "benchmarks" / "mutants.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"{len(found)} mutants, {len(survivors)} survive; {time.perf_counter() - began:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())
