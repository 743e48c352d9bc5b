"""A scatter plot, such as t-SNE of embeddings, and a measure of how mixed its groups are."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ecgtransfer.drawing.canvas import Canvas
from ecgtransfer.drawing.figure import Figure
from ecgtransfer.errors import ConfigError
from ecgtransfer.statistics import FloatArray

#: Size in CSS pixels; one drawing serves screens and phones.
MAP_WIDTH, MAP_HEIGHT = 480.0, 400.0

#: Largest number of points of a group that are drawn; the caption tells if there are more.
MOST_POINTS = 1500


def scatter_svg(groups: Mapping[str, npt.ArrayLike], *, title: str, caption: str = "") -> Figure:
    """Draw points in a plane, each group with its own shape: t-SNE, UMAP, principal components.

    The axes have no unit and no numbers; both have the same scale. At most 1,500 points of a group
    are drawn, evenly chosen. The alternative text states how often the nearest neighbour of a point
    belongs to the same group, next to the expected share in a random mixture.

    Args:
        groups: points (n, 2) by name.
        title: title of the figure.
        caption: caption of the figure.

    Raises:
        ConfigError: there are no points, or they have another shape.
    """
    clouds = {name: np.asarray(points, dtype=np.float64) for name, points in groups.items()}
    if not clouds or any(
        cloud.ndim != 2 or cloud.shape[1] != 2 or not len(cloud) or not np.isfinite(cloud).all()
        for cloud in clouds.values()
    ):
        shapes = {name: cloud.shape for name, cloud in clouds.items()}
        raise ConfigError(
            f"expected finite points (n, 2) for each group in figure {title!r}, got {shapes}; "
            "embed in two dimensions"
        )
    both = np.concatenate(list(clouds.values()))
    low, high = both.min(axis=0), both.max(axis=0)
    inside = np.array([MAP_WIDTH - 24, MAP_HEIGHT - 24])
    per_px = max(float(((high - low) / inside).max()), 1e-12)
    chart = Canvas(title, MAP_WIDTH)
    named = [f"{name} ({len(cloud):,})" for name, cloud in clouds.items()]
    for number, place in enumerate(chart.legend(named, 10)):
        chart.markers(number, [place])
    top = chart.height + 8
    chart.rect(0.75, top, MAP_WIDTH - 0.75, top + MAP_HEIGHT, "none", "rule")
    middle = np.array([MAP_WIDTH / 2, top + MAP_HEIGHT / 2])
    for number, cloud in enumerate(clouds.values()):
        every = np.linspace(0, len(cloud) - 1, min(len(cloud), MOST_POINTS)).round().astype(int)
        places = middle + (cloud[every] - (low + high) / 2) / per_px * (1, -1)
        chart.markers(number, places.tolist())
    chart.height = top + MAP_HEIGHT + 1
    many = [name for name, cloud in clouds.items() if len(cloud) > MOST_POINTS]
    drawn = f"Of {' and '.join(many)} {MOST_POINTS:,} points are drawn." if many else ""
    return Figure(
        title,
        chart.svg(),
        f"{title}: {_neighbours_in_words(clouds)}",
        f"{caption} {drawn}".strip(),
    )


def _neighbours_in_words(clouds: Mapping[str, FloatArray]) -> str:
    """Share of nearest neighbours in the same group, for each group, as text."""
    from scipy.spatial import cKDTree

    total = sum(len(cloud) for cloud in clouds.values())
    if total < 2:
        return "one point."
    group = np.repeat(np.arange(len(clouds)), [len(cloud) for cloud in clouds.values()])
    both = np.concatenate(list(clouds.values()))
    neighbours = np.asarray(cKDTree(both).query(both, k=2)[1])
    own = neighbours[:, 0] == np.arange(total)  # an identical point may precede the point itself
    nearest = np.where(own, neighbours[:, 1], neighbours[:, 0])
    said = []
    for number, (name, cloud) in enumerate(clouds.items()):
        same = 100 * float(np.mean(group[nearest[group == number]] == number))
        by_chance = 100 * (len(cloud) - 1) / (total - 1)
        said.append(
            f"of {len(cloud):,} {name} points {same:.0f} % have one of their own as nearest "
            f"neighbour, where a mixture at random would give {by_chance:.0f} %"
        )
    return "; ".join(said) + "."
