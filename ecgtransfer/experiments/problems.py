"""Transfer problems whose answer is known: a source and a target mixture, and the ratio of both."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ecgtransfer.errors import ConfigError
from ecgtransfer.experiments.gaussian_mixture import GaussianMixture


@dataclass(frozen=True, eq=False)
class Problem:
    """A source p and a target q, both known, in model units.

    Attributes:
        name: as in `PROBLEMS`.
        title: what makes it a problem, in one sentence.
        source: p, scaled so that the mean variance of its coordinates is 1.
        target: q, scaled by the same number.
        scale: the problem's own units are scale * model units.
        n_source: source records that a study draws.

    Raises:
        ConfigError: mixtures of unequal dimension or labels, or a scale that is not above 0.
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
                f"{sides[1]}"
            )
        if not 0 < self.scale < math.inf:
            raise ConfigError(f"expected a finite scale above 0, got {self.scale}")

    @property
    def dimension(self) -> int:
        """Number d of coordinates."""
        return self.source.dimension

    @property
    def labels(self) -> int:
        """Number K of labels, 0 for none."""
        return self.source.labels

    def log_ratio(self, x0: Tensor, label: Tensor | None) -> Tensor:
        """Log r = log q(x0, y)/p(x0, y), of x0 alone where the label is None: (B,)."""
        return self._log_ratio(x0, None, label)

    def log_h(self, x: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        """Log h = log q_sigma(x, y)/p_sigma(x, y) = log E_p[r given x, y], a `LogH`: (B,)."""
        return self._log_ratio(x, sigma, label)

    def _log_ratio(self, x: Tensor, sigma: Tensor | None, label: Tensor | None) -> Tensor:
        # Subtracted in float64: with much noise both are large and nearly equal.
        wide = x.double()
        log_target = self.target.log_density(wide, sigma, label)
        return (log_target - self.source.log_density(wide, sigma, label)).to(x.dtype)


def paper(dimension: int = 2) -> Problem:
    """The two-dimensional study of Ouyang, Xie, Zha and Cheng (NeurIPS 2024, section 4.1).

    Beyond two dimensions the modes keep their first two coordinates and their distance in
    standard deviations, and every other coordinate is N(0, s^2) in both domains. Ratio and
    overlap are then those of the plane, and what grows is what has to be learned beside the
    shift: a method that starts at the source has it already, one that starts afresh has to
    estimate it from a few target records.
    """
    return _problem(
        "paper" if dimension == 2 else f"paper-{dimension}",
        "The paper's pair: two modes on one diagonal become two modes on the other, and hardly "
        "any source record lies where the target does."
        if dimension == 2
        else f"The paper's pair in {dimension} dimensions: the same shift in two of them, and "
        "nothing but noise, the same in both domains, in the others.",
        _mixture([0.5, 0.5], [[0.5, 0.5], [-0.5, -0.5]], [0.1, 0.1], dimension=dimension),
        _mixture([0.5, 0.5], [[0.5, -0.5], [-0.5, 0.5]], [0.1, 0.1], dimension=dimension),
    )


def unequal() -> Problem:
    """Means, variances and weights differ at once, as they do between hospitals.

    Every mode has a partner about one standard deviation away, and the widest component is the
    source's, so that r is bounded: ten thousand source records weighted by r are worth 1,250, and
    guidance from source records can work. The target's sharpest mode (sd 0.25) has to come out of
    a source mode of more than twice its width.
    """
    return _problem(
        "unequal",
        "Three modes that move, change their width and swap their weights, with enough overlap "
        "for source records to teach the shift.",
        _mixture([0.5, 0.3, 0.2], [[-1.2, -0.4], [1.2, -0.6], [0.4, 1.4]], [0.36, 0.3, 0.5]),
        _mixture([0.2, 0.3, 0.5], [[-0.8, -0.8], [1.4, -0.1], [-0.1, 1.1]], [0.2, 0.12, 0.0625]),
    )


def separated() -> Problem:
    """Four source modes on the corners of a square, four target modes on the middles of its sides.

    A target mode is five standard deviations from the two nearest source modes, and modes of one
    domain are at least seven apart. The components are equally wide, so log r is of order
    5^2 / 2 = 12.5 in a target mode: r passes 1e4 in half of the target, where ten thousand source
    records leave less than one to be expected. Guidance can learn of the target from the target's
    own records alone, and the unequal weights show whether it learns more than where modes are.
    """
    corners = [[2.0, 2.0], [-2.0, 2.0], [-2.0, -2.0], [2.0, -2.0]]
    middles = [[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, -2.0]]
    return _problem(
        "separated",
        "Four modes apart from each other and from the source's, so that the density ratio runs "
        "over many orders of magnitude.",
        _mixture([0.25] * 4, corners, [0.16] * 4),
        _mixture([0.4, 0.3, 0.2, 0.1], middles, [0.16] * 4),
    )


def new_mode() -> Problem:
    """A mode with 30 % of the target and a thousandth of the source.

    The other two keep place and shape, so the ratio is nearly constant on each mode (0.7 and 300)
    and bounded. Ten source records in ten thousand are all that show the new mode, fewer than
    in a hundred target records, and yet they count three hundred times each.
    """
    means = [[-1.0, -0.5], [1.0, -0.5], [0.0, 2.0]]
    return _problem(
        "new-mode",
        "Two modes stay where they are and a third, seen once in a thousand source records, "
        "becomes three tenths of the target.",
        _mixture([0.4995, 0.4995, 0.001], means, [0.16, 0.16, 0.09]),
        _mixture([0.35, 0.35, 0.3], means, [0.16, 0.16, 0.09]),
    )


def conditional() -> Problem:
    """Three labels of two components: other frequencies, and another law of every label.

    Around the centre of its label the source's pair lies along the circle, the target's across it
    and farther out, tighter and with unequal weights. Neighbouring labels overlap, so the label
    says more than x does, and the law of x alone is not enough to transfer: the frequent label
    becomes the rare one.
    """
    angles = [math.pi / 2 + 2 * math.pi * number / 3 for number in range(3)]
    source, target = [], []
    for angle in angles:
        out, along = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
        for sign in (1, -1):
            source.append([out[axis] + sign * 0.45 * along[axis] for axis in range(2)])
            target.append([(1.2 + sign * 0.45) * out[axis] for axis in range(2)])
    label_of = [0, 0, 1, 1, 2, 2]
    return _problem(
        "conditional",
        "Three labels whose frequencies and whose laws both change, so that the label has to be "
        "carried along.",
        _mixture([0.25, 0.25, 0.15, 0.15, 0.1, 0.1], source, [0.12] * 6, label_of),
        _mixture([0.14, 0.06, 0.21, 0.09, 0.35, 0.15], target, [0.09] * 6, label_of),
    )


#: What makes each problem, by its name.
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
    """The problem of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PROBLEMS:
        raise ConfigError(f"unknown problem {name!r}; expected one of {', '.join(PROBLEMS)}")
    return PROBLEMS[name]()


def _problem(name: str, title: str, source: GaussianMixture, target: GaussianMixture) -> Problem:
    """Into model units, from mixtures in the problem's own."""
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
    """From lists; means in the plane get coordinates of 0 up to `dimension`."""
    plane = torch.tensor(means, dtype=torch.float64)
    return GaussianMixture(
        torch.tensor(weights, dtype=torch.float64),
        torch.nn.functional.pad(plane, (0, dimension - plane.shape[1])),
        torch.tensor(variances, dtype=torch.float64),
        torch.tensor(label_of or [0] * len(weights)),
        max(label_of) + 1 if label_of else 0,
    )
