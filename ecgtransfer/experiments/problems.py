"""Transfer problems with a known solution: source and target mixtures, and their density ratio."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ecgtransfer.errors import ConfigError
from ecgtransfer.experiments.gaussian_mixture import GaussianMixture


@dataclass(frozen=True, eq=False)
class Problem:
    """A known source p and a known target q, in model units.

    Attributes:
        name: key in `PROBLEMS`.
        title: description in one sentence.
        source: p, scaled so that the mean variance of its coordinates is 1.
        target: q, scaled by the same factor.
        scale: length of one model unit in the units of the problem.
        n_source: number of source records in a study.

    Raises:
        ConfigError: dimensions or numbers of labels differ, or the scale is not above 0.
    """

    name: str
    title: str
    source: GaussianMixture
    target: GaussianMixture
    scale: float
    n_source: int = 10_000

    def __post_init__(self) -> None:
        sides = [(side.dimension, side.labels) for side in (self.source, self.target)]
        if sides[0] != sides[1]:
            raise ConfigError(
                f"expected source and target of equal dimension and labels, got {sides[0]} and "
                f"{sides[1]}; make both mixtures alike"
            )
        if not 0 < self.scale < math.inf:
            raise ConfigError(f"expected a finite scale above 0, got {self.scale}; correct it")

    @property
    def dimension(self) -> int:
        """Number of coordinates d."""
        return self.source.dimension

    @property
    def labels(self) -> int:
        """Number of labels K, 0 for none."""
        return self.source.labels

    def log_ratio(self, x0: Tensor, label: Tensor | None) -> Tensor:
        """Log r = log q(x0, y)/p(x0, y), or log q(x0)/p(x0) if the label is None: (B,)."""
        return self._log_ratio(x0, None, label)

    def log_h(self, x: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        """Log h = log q_sigma(x, y)/p_sigma(x, y) = log E_p[r given x, y], a `LogH`: (B,)."""
        return self._log_ratio(x, sigma, label)

    def _log_ratio(self, x: Tensor, sigma: Tensor | None, label: Tensor | None) -> Tensor:
        # Subtract in float64: at high noise levels both terms are large and nearly equal.
        wide = x.double()
        log_target = self.target.log_density(wide, sigma, label)
        return (log_target - self.source.log_density(wide, sigma, label)).to(x.dtype)


def paper(dimension: int = 2) -> Problem:
    """The two-dimensional study of Ouyang, Xie, Zha and Cheng (NeurIPS 2024, section 4.1).

    In more than two dimensions, the modes keep their first two coordinates, and all other
    coordinates are N(0, s^2) in both domains. Density ratio and overlap are those of the plane, but
    a model has more to learn: a method that starts from the source model has learned the other
    coordinates already, and one that starts from random weights must learn them from few target
    records.
    """
    return _problem(
        "paper" if dimension == 2 else f"paper-{dimension}",
        "The paper's pair: two modes on one diagonal move to the other diagonal, and hardly any "
        "source records lie in the target's modes."
        if dimension == 2
        else f"The paper's pair in {dimension} dimensions: the same shift in two of them, and "
        "the same normal distribution in both domains in the others.",
        _mixture([0.5, 0.5], [[0.5, 0.5], [-0.5, -0.5]], [0.1, 0.1], dimension=dimension),
        _mixture([0.5, 0.5], [[0.5, -0.5], [-0.5, 0.5]], [0.1, 0.1], dimension=dimension),
    )


def unequal() -> Problem:
    """Means, variances and weights all differ, as between hospitals.

    Each target mode is about one standard deviation from a source mode, and the widest component
    belongs to the source, so r is bounded. Weighted by r, ten thousand source records have an
    effective sample size of 1,250: guidance can learn from source records. The narrowest target
    mode (standard deviation 0.25) is less than half as wide as the nearest source mode.
    """
    return _problem(
        "unequal",
        "Three modes with other positions, widths and weights, with enough overlap to learn the "
        "shift from source records.",
        _mixture([0.5, 0.3, 0.2], [[-1.2, -0.4], [1.2, -0.6], [0.4, 1.4]], [0.36, 0.3, 0.5]),
        _mixture([0.2, 0.3, 0.5], [[-0.8, -0.8], [1.4, -0.1], [-0.1, 1.1]], [0.2, 0.12, 0.0625]),
    )


def separated() -> Problem:
    """Four source modes at the corners of a square, four target modes at the centres of its sides.

    Each target mode is five standard deviations from the two nearest source modes, and modes of one
    domain are at least seven apart. All components have the same width, so log r is of order
    5^2 / 2 = 12.5 in a target mode. In half of the target, r exceeds 1e4, and of ten thousand
    source records fewer than one is expected there. Guidance can learn the target from target
    records only. The unequal weights test whether it learns more than the positions of the modes.
    """
    corners = [[2.0, 2.0], [-2.0, 2.0], [-2.0, -2.0], [2.0, -2.0]]
    middles = [[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, -2.0]]
    return _problem(
        "separated",
        "Four modes far from each other and from the source's, so that the density ratio spans "
        "many orders of magnitude.",
        _mixture([0.25] * 4, corners, [0.16] * 4),
        _mixture([0.4, 0.3, 0.2, 0.1], middles, [0.16] * 4),
    )


def new_mode() -> Problem:
    """One mode with 30 % of the target and 0.1 % of the source.

    The other two modes have the same position and width in both domains, so the ratio is bounded
    and nearly constant in each mode (0.7 and 300). Ten of ten thousand source records lie in the
    new mode, fewer than of a hundred target records, but with a weight of 300 each.
    """
    means = [[-1.0, -0.5], [1.0, -0.5], [0.0, 2.0]]
    return _problem(
        "new-mode",
        "Two modes are unchanged; a third has one in a thousand source records, but three tenths "
        "of the target.",
        _mixture([0.4995, 0.4995, 0.001], means, [0.16, 0.16, 0.09]),
        _mixture([0.35, 0.35, 0.3], means, [0.16, 0.16, 0.09]),
    )


def conditional() -> Problem:
    """Three labels of two components each, whose frequencies and distributions all change.

    The centres of the labels lie on a circle. The two components of a label lie along the circle in
    the source, and across it in the target, where they are also farther out, narrower and unequal
    in weight. Neighbouring labels overlap, so x does not determine the label, and a transfer of the
    distribution of x does not suffice. The most frequent label of the source is the rarest of the
    target.
    """
    angles = [math.pi / 2 + 2 * math.pi * number / 3 for number in range(3)]
    source, target = [], []
    for angle in angles:
        radial = (math.cos(angle), math.sin(angle))
        tangent = (-math.sin(angle), math.cos(angle))
        for sign in (1, -1):
            source.append([radial[axis] + sign * 0.45 * tangent[axis] for axis in range(2)])
            target.append([(1.2 + sign * 0.45) * radial[axis] for axis in range(2)])
    label_of = [0, 0, 1, 1, 2, 2]
    return _problem(
        "conditional",
        "Three labels whose frequencies and distributions both change, so that the transfer needs "
        "the label.",
        _mixture([0.25, 0.25, 0.15, 0.15, 0.1, 0.1], source, [0.12] * 6, label_of),
        _mixture([0.14, 0.06, 0.21, 0.09, 0.35, 0.15], target, [0.09] * 6, label_of),
    )


#: Functions that create the problems, by name.
PROBLEMS: dict[str, Callable[[], Problem]] = {
    "paper": paper,
    "unequal": unequal,
    "separated": separated,
    "new-mode": new_mode,
    "conditional": conditional,
    "paper-8": lambda: paper(8),
    "paper-32": lambda: paper(32),
}


def problem(name: str) -> Problem:
    """Return the problem of this name.

    Raises:
        ConfigError: there is no such problem.
    """
    if name not in PROBLEMS:
        raise ConfigError(f"unknown problem {name!r}; expected one of {', '.join(PROBLEMS)}")
    return PROBLEMS[name]()


def _problem(name: str, title: str, source: GaussianMixture, target: GaussianMixture) -> Problem:
    """Create a problem from mixtures in the units of the problem."""
    scale = math.sqrt(float(source.covariance().diagonal().mean()))
    return Problem(name, title, source.scaled(1 / scale), target.scaled(1 / scale), scale)


def _mixture(
    weights: Sequence[float],
    means: Sequence[Sequence[float]],
    variances: Sequence[float],
    label_of: Sequence[int] | None = None,
    *,
    dimension: int = 2,
) -> GaussianMixture:
    """Create a mixture from lists; means get further coordinates of 0 up to `dimension`."""
    plane = torch.tensor(means, dtype=torch.float64)
    return GaussianMixture(
        torch.tensor(weights, dtype=torch.float64),
        torch.nn.functional.pad(plane, (0, dimension - plane.shape[1])),
        torch.tensor(variances, dtype=torch.float64),
        torch.tensor(label_of or [0] * len(weights)),
        max(label_of) + 1 if label_of else 0,
    )
