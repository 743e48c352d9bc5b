"""A map of feature space in two dimensions: t-SNE, or principal components."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.distances import checked_pair
from ecgtransfer.statistics import FloatArray

#: Points of a picture: more cover each other, and t-SNE needs seconds for each further thousand.
LARGEST_PICTURE = 1500

#: Principal components that t-SNE starts from (van der Maaten and Hinton 2008, section 4.2, took
#: 30): distances keep, noise and time go.
COMPONENTS = 50

#: Perplexity of t-SNE, its authors' middle (5 to 50); lower where there are too few points.
PERPLEXITY = 30.0

#: Neighbours of each point whose ranks the trustworthiness of a picture looks at.
TRUSTED_NEIGHBOURS = 5

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FeatureMap:
    """Two coordinates for each record of a picture, to 4 digits, by set: real, generated, source.

    method, trustworthiness: as of `Projection`.
    """

    method: str
    trustworthiness: float
    points: dict[str, tuple[tuple[float, float], ...]]

    @property
    def caption(self) -> str:
        """How the picture was made, and what it cannot tell."""
        made = {"tsne": "t-SNE", "pca": "First two principal components"}[self.method]
        return (
            f"{made} of {len(self.points['real'])} records of each set; it keeps neighbours with a "
            f"trustworthiness of {self.trustworthiness:.2f} (1 is all of them). Sets that lie "
            "apart differ; sets that overlap may differ all the same, and sizes, densities and "
            "gaps mean little: the table of distances decides."
        )


@dataclass(frozen=True, eq=False)
class Projection:
    """Two coordinates for each record of a picture, and which records they are.

    real, generated, source (n, 2): coordinates, in the order of `real_index`, `generated_index`,
    `source_index` (n,), which number the records given; source is empty where none was given.
    trustworthiness: of the picture, 1 where neighbours in it are neighbours in feature space,
    about 0.5 where they are any records (Venna and Kaski 2001).
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
        """The picture as a result that a card holds."""
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
    """Two coordinates for features (n, F), (m, F), (l, F): for a picture, not for a judgement.

    t-SNE (van der Maaten and Hinton 2008) of the first 50 principal components, or the first two
    components themselves ("pca"), of all sets together; as many records of each, drawn at random,
    1,500 points in all at most.

    What the picture cannot tell: distances between clusters, their sizes and densities, and how
    many there are (t-SNE makes up all four, and other seeds make up others); whether two sets that
    overlap here overlap in feature space, for two dimensions cannot hold the neighbours of many;
    how much is missing where few points are anyway. Two sets seen through one classifier look
    alike as soon as it finds the same classes in them. Sets that lie apart here do differ. Read the
    numbers instead: `neighbour_mixing`, `prdc`, `two_sample_test`, each beside real against real;
    `trustworthiness` says what the picture kept of each point's neighbours.

    ConfigError for another method; CorpusError for fewer than 6 records a set or bad features.
    """
    if method not in ("tsne", "pca"):
        raise ConfigError(f'unknown projection {method!r}; expected "tsne" or "pca"')
    sets = [*checked_pair(real, generated)]
    if source is not None:
        sets.append(checked_pair(real, source)[1])
    if min(len(features) for features in sets) <= TRUSTED_NEIGHBOURS:
        raise CorpusError(
            f"a picture needs at least {TRUSTED_NEIGHBOURS + 1} records of each set, got "
            f"{[len(features) for features in sets]}"
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
    numbers = [*(index.astype(np.int64) for index in chosen), np.empty(0, dtype=np.int64)]
    return Projection(
        method=method,
        real=placed[0],
        generated=placed[1],
        source=placed[2],
        real_index=numbers[0],
        generated_index=numbers[1],
        source_index=numbers[2],
        trustworthiness=float(trustworthiness(points, flat, n_neighbors=TRUSTED_NEIGHBOURS)),
    )
