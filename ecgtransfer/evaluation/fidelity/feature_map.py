"""Two-dimensional map of feature space, by t-SNE or principal components."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.distances import checked_pair
from ecgtransfer.statistics import FloatArray

#: Largest number of points of a map: more would cover each other, and t-SNE needs seconds for each
#: further thousand.
LARGEST_PICTURE = 1500

#: Principal components to which features are reduced before t-SNE, to save time and remove noise
#: (van der Maaten and Hinton 2008, section 4.2, took 30).
COMPONENTS = 50

#: Perplexity of t-SNE, in the middle of the range its authors recommend (5 to 50); lower for few
#: points.
PERPLEXITY = 30.0

#: Number of neighbours of each point for the trustworthiness of a map.
TRUSTED_NEIGHBOURS = 5

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FeatureMap:
    """Two coordinates for each record of a map, as they are stored on a card.

    Attributes:
        method: "tsne" or "pca".
        trustworthiness: see `Projection`.
        points: coordinates to 4 digits by set: "real", "generated", and "source" if given.
    """

    method: str
    trustworthiness: float
    points: dict[str, tuple[tuple[float, float], ...]]

    @property
    def caption(self) -> str:
        """Method of the map, and its limits."""
        made = {"tsne": "t-SNE", "pca": "First two principal components"}[self.method]
        return (
            f"{made} of {len(self.points['real'])} records of each set. The map preserves "
            f"neighbours with a trustworthiness of {self.trustworthiness:.2f} (1 is perfect). Sets "
            "that lie apart differ. Sets that overlap may differ too, and sizes, densities and "
            "gaps mean little; rely on the table of distances instead."
        )


@dataclass(frozen=True, eq=False)
class Projection:
    """Two coordinates for each record of a map, and the indices of the records.

    Attributes:
        method: "tsne" or "pca".
        real: coordinates of real records, (n, 2).
        generated: coordinates of generated records, (n, 2).
        source: coordinates of source records, (n, 2), or (0, 2) if none were given.
        real_index: indices of the real records, (n,).
        generated_index: indices of the generated records, (n,).
        source_index: indices of the source records, (n,) or (0,).
        trustworthiness: 1 if neighbours on the map are neighbours in feature space, about 0.5 if
            they are random records (Venna and Kaski 2001).
    """

    method: str
    real: FloatArray
    generated: FloatArray
    source: FloatArray
    real_index: Integers
    generated_index: Integers
    source_index: Integers
    trustworthiness: float

    def feature_map(self) -> FeatureMap:
        """Return the coordinates in the form that is stored on a card."""
        sets = {"real": self.real, "generated": self.generated, "source": self.source}
        points = {
            name: tuple((float(x), float(y)) for x, y in np.round(each, 4))
            for name, each in sets.items()
            if len(each)
        }
        return FeatureMap(self.method, self.trustworthiness, points)


def projection(
    real: npt.ArrayLike,
    generated: npt.ArrayLike,
    source: npt.ArrayLike | None = None,
    *,
    method: Literal["tsne", "pca"] = "tsne",
    seed: int = 0,
) -> Projection:
    """Project features of two or three sets to two dimensions, for illustration only.

    The sets are projected together, with equal numbers of records drawn at random, at most
    `LARGEST_PICTURE` in total.

    The map has limits. Distances between clusters and their sizes, densities and number are
    artefacts of t-SNE and change with the seed. Sets that overlap on the map may be separate in
    feature space, because two dimensions cannot preserve all neighbours. Missing records are hard
    to see in sparse regions. The features of a classifier also look similar as soon as both sets
    have the same classes. Only sets that lie apart are known to differ. For a verdict use
    `neighbour_mixing`, `prdc` and `two_sample_test`, each compared with real against real.

    Args:
        real: features (n, F).
        generated: features (m, F).
        source: features (l, F), or None.
        method: "tsne" for t-SNE (van der Maaten and Hinton 2008) of the first 50 principal
            components, "pca" for the first two components.
        seed: seed of the draws and of t-SNE.

    Raises:
        ConfigError: the method is unknown.
        CorpusError: a set has fewer than 6 records, another shape, or values that are not finite.
    """
    if method not in ("tsne", "pca"):
        raise ConfigError(f'unknown projection {method!r}; expected "tsne" or "pca"')
    sets = [*checked_pair(real, generated)]
    if source is not None:
        sets.append(checked_pair(real, source)[1])
    if min(len(features) for features in sets) <= TRUSTED_NEIGHBOURS:
        raise CorpusError(
            f"a map needs at least {TRUSTED_NEIGHBOURS + 1} records of each set, got "
            f"{[len(features) for features in sets]}; give more"
        )
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE, trustworthiness

    rng = np.random.default_rng(seed)
    size = min(LARGEST_PICTURE // len(sets), *(len(features) for features in sets))
    chosen = [np.sort(rng.permutation(len(features))[:size]) for features in sets]
    points = np.concatenate([f[index] for f, index in zip(sets, chosen, strict=True)])
    components = min(COMPONENTS, *points.shape)
    reduced = PCA(max(components, 2), svd_solver="full").fit_transform(points)
    if method == "pca":
        flat = reduced[:, :2]
    else:
        perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
        tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
        flat = np.asarray(tsne.fit_transform(reduced.astype(np.float32)), dtype=np.float64)
    placed = [*np.split(flat, len(sets)), np.empty((0, 2))]
    indices = [*(index.astype(np.int64) for index in chosen), np.empty(0, dtype=np.int64)]
    return Projection(
        method=method,
        real=placed[0],
        generated=placed[1],
        source=placed[2],
        real_index=indices[0],
        generated_index=indices[1],
        source_index=indices[2],
        trustworthiness=float(trustworthiness(points, flat, n_neighbors=TRUSTED_NEIGHBOURS)),
    )
