"""Distances of a transferred denoiser from a target that is known in closed form.

A `ScoreBoard` contains the target records, noise and noised points that all methods of a cell are
scored on. It is created once per cell; `judge` costs little more than the calls of the denoiser.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ecgtransfer.diffusion import Denoiser, NoiseConfig, karras_sigmas, sample
from ecgtransfer.errors import ConfigError
from ecgtransfer.experiments.problems import Problem
from ecgtransfer.statistics import streams

#: Number of directions of a sliced distance.
PROJECTIONS = 128

#: Kernel widths of the MMD, as fractions of the target's median distance. Each is twice the
#: previous one, so each kernel is the fourth power of the next wider one.
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0)

#: Maximum number of records on each side of an MMD, per label; the first ones are used.
MMD_RECORDS = 2000

#: Rows of a kernel matrix per block; a block fits into the processor's cache.
KERNEL_ROWS = 200

#: Number of noise levels of `score_error`, and of noised records per level.
SCORE_LEVELS = 12
SCORE_RECORDS = 512

#: Target records per block, and number of blocks, for the mean of log q.
BLOCK_RECORDS, ENTROPY_BLOCKS = 10_000, 10

#: Seed of directions and bandwidths, which are the same for all seeds of a study.
FIXED_SEED = 0


@dataclass(frozen=True)
class Scores:
    """Scores of a denoiser against the exact target q.

    All except `mode_weights` are 0 for a perfect denoiser, infinitely many records and sampler
    steps. Values that are not finite are inf.

    Attributes:
        sliced_wasserstein: sliced 2-Wasserstein distance of generated records from new target
            records, over fixed directions (Bonneel et al. 2015), in the units of the problem.
        mmd: square root of the unbiased MMD^2 of the same records (Gretton et al. 2012, eq. 3), 0
            if MMD^2 is negative; the kernel is the mean of Gaussian kernels of `BANDWIDTHS`.
        log_density_gap: E_q[log q] - E_generated[log q]; above 0 if generated records are
            improbable, below 0 if they are concentrated at the modes. With labels, q is the joint
            density.
        score_error: sqrt of the mean over sigma of E_{x ~ q_sigma} sigma^2 ||s - s_q||^2 / d, with
            sigma evenly spaced in ln sigma.
        mode_weights: share of each target component among generated records, by the posterior
            probability of the component: (M,).
        mode_weight_error: total variation distance of `mode_weights` from the true weights.
    """

    sliced_wasserstein: float
    mmd: float
    log_density_gap: float
    score_error: float
    mode_weights: tuple[float, ...]
    mode_weight_error: float


@dataclass(frozen=True, eq=False)
class SlicedDistance:
    """Sliced 2-Wasserstein distance of n records from fixed reference records.

    In each direction, W^2 = ∫ (F - G)^2, with F and G the quantile functions of the records and the
    reference. F is constant on n bins. With A the mean of G on each bin,
    ∫ (F - G)^2 = ∫ (F - A)^2 + ∫ (G - A)^2. A and the last term depend on the reference only and
    are computed once.

    Attributes:
        projections: unit directions, (d, P).
        bin_means: A, (P, n).
        within_bins: ∫ (G - A)^2, mean over the directions.
    """

    projections: Tensor
    bin_means: Tensor
    within_bins: float

    @classmethod
    def of(cls, reference: Tensor, projections: Tensor, records: int) -> "SlicedDistance":
        """Prepare distances of `records` records from reference (m, d)."""
        quantiles = _sorted_projections(reference, projections)
        m = quantiles.shape[1]
        ends = torch.arange(records + 1) * m
        full, rest = ends // records, (ends % records).double() / records
        padded = torch.nn.functional.pad(quantiles, (0, 1))
        cumulative = torch.nn.functional.pad(quantiles.cumsum(1), (1, 0))
        integral = (cumulative[:, full] + rest * padded[:, full]) / m
        bin_means = integral.diff(dim=1) * records
        within = quantiles.square().mean() - bin_means.square().mean()
        return cls(projections, bin_means, max(float(within), 0.0))

    def __call__(self, x: Tensor) -> float:
        """Distance of records x (n, d)."""
        between = (_sorted_projections(x, self.projections) - self.bin_means).square().mean()
        return math.sqrt(float(between) + self.within_bins)


@dataclass(frozen=True, eq=False)
class KernelDiscrepancy:
    """Unbiased MMD^2 against fixed reference records (Gretton et al. 2012, eq. 3).

    The kernel is the mean over `BANDWIDTHS` of exp(-||x - y||^2 / (2 (b median)^2)).

    Attributes:
        reference: (m, d), at most `MMD_RECORDS`.
        median: distance that `BANDWIDTHS` are fractions of.
        within: mean kernel over pairs of different reference records.
    """

    reference: Tensor
    median: float
    within: float

    @classmethod
    def of(cls, reference: Tensor, median: float) -> "KernelDiscrepancy":
        """Prepare MMDs from the first `MMD_RECORDS` rows of reference (m, d)."""
        chosen = reference[:MMD_RECORDS]
        return cls(chosen, median, _mean_kernel_of_pairs(chosen, median))

    def squared(self, x: Tensor) -> float:
        """MMD^2 of the first `MMD_RECORDS` rows of x (n, d); mean 0 for equal distributions."""
        chosen = x[:MMD_RECORDS]
        across = _kernel_sum(chosen, self.reference, self.median)
        across /= len(chosen) * len(self.reference)
        return _mean_kernel_of_pairs(chosen, self.median) + self.within - 2 * across


@dataclass(frozen=True, eq=False)
class LabelBoard:
    """Distances of the records of one label, or of all records without labels.

    Attributes:
        frequency: probability of the label in the target.
        rows: indices of the generated records of this label, (n,).
        sliced: sliced Wasserstein distance from target records of this label.
        kernel: MMD from target records of this label.
    """

    frequency: float
    rows: Tensor
    sliced: SlicedDistance
    kernel: KernelDiscrepancy


@dataclass(frozen=True, eq=False)
class ScoreBoard:
    """Reference data for scoring all methods of a cell; float64 in model units if not stated.

    Attributes:
        problem: the problem.
        exact: target records, scored by `reference` in place of generated records, (n, d).
        label: float32 labels of generated records, (n, K), sampled with the target's frequencies;
            None without labels.
        noise: float32 initial noise of generated records, (n, d).
        sigmas: noise levels of the sampler, (steps + 1,).
        label_boards: distances for each label.
        mean_log_density: E_q[log q].
        points, levels, point_label: float32 noised target records for `score_error`, with their
            noise levels and labels: (B, d), (B,), (B, K) or None.
        denoised: exact target denoiser at `points`, (B, d).
    """

    problem: Problem
    exact: Tensor
    label: Tensor | None
    noise: Tensor
    sigmas: Tensor
    label_boards: tuple[LabelBoard, ...]
    mean_log_density: float
    points: Tensor
    levels: Tensor
    point_label: Tensor | None
    denoised: Tensor

    @classmethod
    def of(
        cls,
        problem: Problem,
        *,
        n_generated: int = 4000,
        n_reference: int = 10_000,
        steps: int = 25,
        noise: NoiseConfig,
        seed: int,
    ) -> "ScoreBoard":
        """Sample the reference data, with a random stream of its own.

        The sampler adds an error: with few steps, records are slightly too wide, and the error
        grows with the dimension. With the exact denoiser of "paper-32", `log_density_gap` is 0.38
        at 25 steps, 0.07 at 50 and 0.00 at 100; for "paper" it is 0.02 at 25.

        Args:
            problem: the problem.
            n_generated: number of generated records.
            n_reference: number of target records that they are compared with.
            steps: steps of the sampler.
            noise: noise levels of the sampler and of `score_error`.
            seed: seed of all random numbers.

        Raises:
            ConfigError: a label has fewer than two generated or reference records.
        """
        target = problem.target
        state = np.random.SeedSequence([seed, streams.SCORE_BOARD]).generate_state(1)
        generator = torch.Generator().manual_seed(int(state[0]))
        reference, reference_component = target.sample(n_reference, generator)
        exact, component = target.sample(n_generated, generator)
        start = torch.randn(exact.shape, generator=generator, dtype=torch.float32)
        log_density = [
            _mean_log_density(problem, *target.sample(BLOCK_RECORDS, generator))
            for _ in range(ENTROPY_BLOCKS)
        ]
        ends = math.log(noise.sigma_min), math.log(noise.sigma_max)
        levels = torch.linspace(*ends, SCORE_LEVELS, dtype=torch.float32).exp()
        levels = levels.repeat_interleave(SCORE_RECORDS)
        clean, point_component = target.sample(len(levels), generator)
        shift = torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
        points = (clean + levels[:, None] * shift).float()
        point_label = target.one_hot(point_component)
        return cls(
            problem=problem,
            exact=exact,
            label=_single(target.one_hot(component)),
            noise=start,
            sigmas=karras_sigmas(steps, noise.sigma_min, noise.sigma_max),
            label_boards=_label_boards(
                problem, reference, target.label_of[reference_component], target.label_of[component]
            ),
            mean_log_density=float(np.mean(log_density)),
            points=points,
            levels=levels,
            point_label=_single(point_label),
            denoised=target.denoise(points.double(), levels.double(), point_label),
        )

    def generated(self, denoise: Denoiser) -> Tensor:
        """Generate records with a denoiser, (n, d) float32 in model units; the noise is fixed."""
        return sample(denoise, self.noise, self.label, self.sigmas)

    def judge(self, denoise: Denoiser) -> Scores:
        """Score a float32 denoiser; scores are inf if its output is not finite."""
        return self._scores(self.generated(denoise).double(), self._score_error(denoise))

    def reference(self) -> Scores:
        """Score exact target records: the sampling error of each score. `score_error` is 0."""
        return self._scores(self.exact, 0.0)

    def _scores(self, x0: Tensor, score_error: float) -> Scores:
        """Score records x0 (n, d), float64 in model units."""
        target = self.problem.target
        if not x0.isfinite().all():
            weights = (math.inf,) * len(target.weights)
            return Scores(math.inf, math.inf, math.inf, score_error, weights, math.inf)
        sliced, mmd = 0.0, 0.0
        for board in self.label_boards:
            records = x0[board.rows]
            sliced += board.frequency * board.sliced(records) * self.problem.scale
            mmd += board.frequency * math.sqrt(max(board.kernel.squared(records), 0.0))
        label = None if self.label is None else self.label.to(x0)
        share = target.responsibilities(x0).mean(dim=0)
        return Scores(
            sliced_wasserstein=sliced,
            mmd=mmd,
            log_density_gap=self.mean_log_density
            - float(target.log_density(x0, label=label).mean()),
            score_error=score_error,
            mode_weights=tuple(share.tolist()),
            mode_weight_error=float((share - target.weights).abs().sum() / 2),
        )

    @torch.no_grad()
    def _score_error(self, denoise: Denoiser) -> float:
        """Root mean square of (D - D_q) / sigma = sigma (s - s_q) (Tweedie's formula)."""
        error = denoise(self.points, self.levels, self.point_label).double() - self.denoised
        mean_square = float((error / self.levels[:, None].double()).square().mean())
        return math.sqrt(mean_square) if math.isfinite(mean_square) else math.inf


def directions(dimension: int) -> Tensor:
    """Unit vectors of a sliced distance, (d, P): evenly spaced in the plane, else fixed random."""
    if dimension == 2:
        angle = torch.arange(PROJECTIONS, dtype=torch.float64) * math.pi / PROJECTIONS
        return torch.stack([angle.cos(), angle.sin()])
    generator = torch.Generator().manual_seed(FIXED_SEED)
    vectors = torch.randn(dimension, PROJECTIONS, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(vectors, dim=0)


def _label_boards(
    problem: Problem, reference: Tensor, reference_label: Tensor, label: Tensor
) -> tuple[LabelBoard, ...]:
    """Distances per label, from reference (m, d) with label indices (m,) and (n,) of records."""
    target = problem.target
    typical, component = target.sample(BLOCK_RECORDS, torch.Generator().manual_seed(FIXED_SEED))
    projections = directions(problem.dimension)
    boards = []
    frequencies = torch.bincount(target.label_of, target.weights, max(target.labels, 1))
    for index, frequency in enumerate(frequencies.tolist()):
        rows = (label == index).nonzero()[:, 0]
        own_reference = reference[reference_label == index]
        if min(len(rows), len(own_reference)) < 2:
            raise ConfigError(
                f"expected at least 2 generated and 2 reference records of every label, got "
                f"{len(rows)} and {len(own_reference)} of label {index}; raise n_generated or "
                "n_reference"
            )
        own_typical = typical[target.label_of[component] == index]
        median = torch.pdist(own_typical[:MMD_RECORDS]).median()
        boards.append(
            LabelBoard(
                frequency=frequency,
                rows=rows,
                sliced=SlicedDistance.of(own_reference, projections, len(rows)),
                kernel=KernelDiscrepancy.of(own_reference, float(median)),
            )
        )
    return tuple(boards)


def _mean_log_density(problem: Problem, x0: Tensor, component: Tensor) -> float:
    """Mean log density of target records x0 (n, d), joint with their labels if there are any."""
    label = problem.target.one_hot(component)
    return float(problem.target.log_density(x0, label=label).mean())


def _sorted_projections(x: Tensor, projections: Tensor) -> Tensor:
    """Sorted projections (P, n) of x (n, d) on (d, P); numpy sorts much faster than torch."""
    return torch.from_numpy(np.sort((projections.T @ x.T).numpy(), axis=1))


def _mean_kernel_of_pairs(x: Tensor, median: float) -> float:
    """Mean kernel over pairs of different rows of x (n, d)."""
    n = len(x)
    return (_kernel_sum(x, x, median) - n) / (n * (n - 1))


def _kernel_sum(x: Tensor, y: Tensor, median: float) -> float:
    """Sum of the kernel over all pairs of rows of x (n, d) and y (m, d).

    One exponential suffices for all bandwidths: each narrower kernel is the fourth power of the
    next wider one.
    """
    total = 0.0
    squares = y.square().sum(dim=1)
    for rows in torch.split(x, KERNEL_ROWS):
        distance = torch.addmm(squares, rows, y.T, alpha=-2)
        distance.add_(rows.square().sum(dim=1, keepdim=True)).clamp_(min=0)
        kernel = distance.mul_(-1 / (2 * (max(BANDWIDTHS) * median) ** 2)).exp_()
        total += float(kernel.sum())
        for _ in BANDWIDTHS[1:]:
            total += float(kernel.square_().square_().sum())
    return total / len(BANDWIDTHS)


def _single(label: Tensor | None) -> Tensor | None:
    """Convert labels to float32, the type of the networks."""
    return None if label is None else label.float()
