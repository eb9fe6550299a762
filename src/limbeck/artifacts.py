"""The schema of every artifact: arrays, dims, dtype, units, range, version. docs/ARTIFACTS.md is generated from it.

No zarr here: this is data that ``limbeck.store`` enforces when it writes and when it opens.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ArraySpec:
    """One array of an artifact. ``dims[0]`` is the axis that is streamed; arrays with the same one have the same length."""

    dims: tuple[str, ...]
    dtype: str
    units: str
    doc: str
    range: tuple[float, float] | None = None
    compress: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Schema:
    """One kind of artifact. Raise ``version`` when the meaning of an array changes."""

    name: str
    version: int
    doc: str
    arrays: dict[str, ArraySpec] = field(default_factory=dict)


_IMAGES = ArraySpec(("image", "height", "width", "channel"), "uint8", "intensity", "pixels, class-major", (0, 255), compress=True)
_LABELS = ArraySpec(("image",), "int32", "class index", "index into the attribute 'classes'", (0, 2**31 - 1), compress=True)

IMAGES = Schema(
    "images",
    1,
    "Decoded, resized images of one split and shard, sorted by class.",
    {
        "images": _IMAGES,
        "labels": _LABELS,
        "source_ids": ArraySpec(
            ("image", "byte"), "uint8", "UTF-8 bytes", "where each image came from, padded with zero bytes", (0, 255), compress=True
        ),
        "windows": ArraySpec(
            ("image",),
            "int32",
            "window",
            "of a view of windows: which of its image's this is; those of one image are together, from 0",
            (0, 2**31 - 1),
            compress=True,
            optional=True,
        ),
        "corners": ArraySpec(
            ("image", "edge"),
            "int32",
            "pixels",
            "of a view of windows: top and left of the window in the resized image",
            (0, 2**31 - 1),
            compress=True,
            optional=True,
        ),
        "pseudo": ArraySpec(
            ("image",),
            "uint8",
            "boolean",
            "1: labelled by the nearest class centre, 0: by its source",
            (0, 1),
            compress=True,
            optional=True,
        ),
        "true_labels": ArraySpec(
            ("image",),
            "int32",
            "class index",
            "what the source says, known since missing labels are simulated",
            (0, 2**31 - 1),
            compress=True,
            optional=True,
        ),
    },
)
LATENTS = Schema(
    "latents",
    1,
    "Posterior means of the training images under a VAE, after its scaling (and shift) factor.",
    {
        "latents": ArraySpec(
            ("image", "latent_channel", "latent_height", "latent_width"), "float16", "scaled latent", "z0", (-1e4, 1e4)
        ),
        "labels": _LABELS,
    },
)
TREE = Schema(
    "tree",
    1,
    "A binary tree per class over the training images: the IPC-free fit of the divisive and agglomerative discoveries.",
    {
        "order": ArraySpec(
            ("image",), "int64", "row", "rows of the shard's images, class by class, so that every node is a range", (0, 2**62)
        ),
        "labels": ArraySpec(
            ("node",), "int32", "class index", "class of the node; a class's first node is its root", (0, 2**31 - 1)
        ),
        "start": ArraySpec(("node",), "int64", "position", "first position in 'order'", (0, 2**62)),
        "stop": ArraySpec(("node",), "int64", "position", "position after the last", (1, 2**62)),
        "parent": ArraySpec(("node",), "int64", "node", "counted from the class's root; -1 for a root", (-1, 2**62)),
        "depth": ArraySpec(("node",), "int64", "level", "0 for a root", (0, 2**31)),
        "split": ArraySpec(("node",), "int64", "rank", "place in the order of splits of its class; -1 for a leaf", (-1, 2**62)),
    },
)
EMBEDDING = Schema(
    "embedding",
    1,
    "Training latents, or features of an extractor, in few dimensions, class by class.",
    {
        "coordinates": ArraySpec(("image", "component"), "float32", "embedding", "of every image", (-1e6, 1e6)),
        "labels": _LABELS,
        "axes": ArraySpec(
            ("class", "component", "feature"), "float32", "1", "orthonormal axes of a linear embedding", (-1, 1), optional=True
        ),
        "centres": ArraySpec(
            ("class", "feature"), "float32", "of what is embedded", "what a linear embedding subtracts", (-1e4, 1e4), optional=True
        ),
    },
)
# where a representative of the density discovery comes from (CoDA Alg. 2; halved: where the printed one would not end)
ORIGINS = ("initial", "split", "outlier", "forced", "halved")
PROTOTYPES = Schema(
    "prototypes",
    2,
    "What a discovery found: one prototype per image to distil, IPC per class, sorted by class.",
    {
        "indices": ArraySpec(("prototype",), "int64", "row", "the real image: its row in the shard's images", (0, 2**62)),
        "labels": ArraySpec(("prototype",), "int32", "class index", "class of the prototype", (0, 2**31 - 1)),
        "counts": ArraySpec(("prototype",), "int64", "images", "real images that the prototype stands for", (1, 2**62)),
        "centroids": ArraySpec(
            ("prototype", "latent_channel", "latent_height", "latent_width"),
            "float32",
            "scaled latent",
            "mean latent of those images",
            (-1e4, 1e4),
            optional=True,
        ),
        "members": ArraySpec(
            ("prototype", "latent_channel", "latent_height", "latent_width"),
            "float32",
            "scaled latent",
            "latent of the real image 'indices'",
            (-1e4, 1e4),
            optional=True,
        ),
        "centroid_spread": ArraySpec(
            ("prototype",),
            "float32",
            "scaled latent",
            "median distance of the class's latents to the centroid",
            (0, 1e6),
            optional=True,
        ),
        "member_spread": ArraySpec(
            ("prototype",),
            "float32",
            "scaled latent",
            "median distance of the class's latents to the member",
            (0, 1e6),
            optional=True,
        ),
        "levels": ArraySpec(("prototype",), "int32", "level", "depth of the node in its tree", (0, 2**31 - 1), optional=True),
        "parts": ArraySpec(
            ("prototype", "part"),
            "int64",
            "row",
            "patches that an image is made of: the rows of their images, of a windowed view the image's first window",
            (0, 2**62),
            optional=True,
        ),
        "boxes": ArraySpec(
            ("prototype", "part", "edge"),
            "int32",
            "pixels",
            "where each patch is in its image: top, left, side",
            (0, 2**31 - 1),
            optional=True,
        ),
        "origins": ArraySpec(
            ("prototype",),
            "uint8",
            "origin",
            ", ".join(f"{i} {name}" for i, name in enumerate(ORIGINS)) + " (CoDA Alg. 2)",
            (0, 4),
            optional=True,
        ),
    },
)
TARGETS = Schema(
    "targets",
    1,
    "The real images that prototypes name, encoded at the size that a prior generates, where discovery works at another.",
    {
        "members": ArraySpec(
            ("prototype", "latent_channel", "latent_height", "latent_width"),
            "float32",
            "scaled latent",
            "of each image",
            (-1e4, 1e4),
        ),
        "labels": ArraySpec(("prototype",), "int32", "class index", "class of the prototype", (0, 2**31 - 1)),
    },
)
CLUSTERS = Schema(
    "clusters",
    1,
    "Clusters of every class in an embedding: the IPC-free fit of the discoveries density and patches.",
    {
        "clusters": ArraySpec(
            ("image",), "int32", "cluster", "counted from 0 within the class; -1 for an outlier", (-1, 2**31 - 1)
        ),
        "probabilities": ArraySpec(("image",), "float32", "1", "of membership in the cluster", (0, 1)),
        "distances": ArraySpec(("image",), "float32", "embedding", "to the centre of a k-means cluster", (0, 1e6), optional=True),
        "labels": _LABELS,
    },
)
SCORES = Schema(
    "scores",
    1,
    "Typicality maps: how much the class helps the prior to denoise each place of an image, higher is more (diffusion-driven patch "
    "selection, Eq. 6).",
    {
        "maps": ArraySpec(
            ("image", "latent_height", "latent_width"),
            "float16",
            "squared noise",
            "error without the class minus error with it, summed over channels, averaged over draws",
            (-6e4, 6e4),
        ),
        "rows": ArraySpec(("image",), "int64", "row", "which of the class's images: its row among them", (0, 2**62)),
        "labels": _LABELS,
    },
)
PATCHES = Schema(
    "patches",
    1,
    "The best patch of every scored image: of the highest typicality, or of the lowest loss under a teacher.",
    {
        "rows": ArraySpec(
            ("patch",), "int64", "row", "its image: row in the shard's images, of a windowed view of its first window", (0, 2**62)
        ),
        "boxes": ArraySpec(("patch", "edge"), "int32", "pixels", "top, left and side in the image", (0, 2**31 - 1)),
        "scores": ArraySpec(("patch",), "float32", "squared noise; nats", "mean typicality; minus the cross-entropy", (-1e6, 1e6)),
        "labels": ArraySpec(("patch",), "int32", "class index", "index into the attribute 'classes'", (0, 2**31 - 1)),
    },
)
_STEP = ("image", "guided_step")
TANGENTS = Schema(
    "tangents",
    1,
    "Tangent spaces at every guided step of every image to distil, sorted by class. A basis is the neighbours' points (noised, "
    "where the estimator is monte_carlo) times their coefficients.",
    {
        "labels": _LABELS,
        "patch": ArraySpec(
            ("image", "point"),
            "int32",
            "row",
            "real neighbourhood: rows of the shard's images, nearest to the prototype first; -1 pads",
            (-1, 2**31 - 1),
            compress=True,
            optional=True,
        ),
        "patch_counts": ArraySpec(_STEP, "int32", "points", "points of the patch at this step: its first ones", (1, 2**31 - 1)),
        "radii": ArraySpec(_STEP, "float32", "scaled latent", "radius of the neighbourhood", (0, 1e6)),
        "neighbours": ArraySpec(
            (*_STEP, "neighbour"),
            "int32",
            "point",
            "points of the patch nearest to the query; -1 pads",
            (-1, 2**31 - 1),
            compress=True,
        ),
        "coefficients": ArraySpec(
            (*_STEP, "neighbour", "tangent"), "float32", "1 / scaled latent", "of each neighbour in each basis vector", (-1e8, 1e8)
        ),
        "counts": ArraySpec(_STEP, "int32", "points", "neighbours used", (1, 2**31 - 1)),
        "ranks": ArraySpec(_STEP, "int32", "vectors", "basis vectors found, at most d", (0, 2**31 - 1)),
        "spectrum": ArraySpec(
            (*_STEP, "value"), "float32", "scaled latent squared", "largest eigenvalues of the neighbours' covariance", (0, 1e10)
        ),
        "variance": ArraySpec(_STEP, "float32", "scaled latent squared", "sum of all its eigenvalues", (0, 1e10)),
        "iterations": ArraySpec(_STEP, "int32", "1", "of the subspace iteration; 0 for the exact solver", (0, 2**31 - 1)),
        "residuals": ArraySpec(_STEP, "float32", "1", "of the subspace iteration, relative to the largest eigenvalue", (0, 1e6)),
    },
)
_PER_DIM = ("class", "latent_channel", "latent_height", "latent_width")
_PER_RUNG = ("class", "rung")
STATISTICS = Schema(
    "statistics",
    1,
    "Every class as one Gaussian per dimension: moments of its training latents inverted to step i of the sampling grid. A "
    "distilled representation of its own, from which any number of images is drawn (D3HR Secs. 4.3, 6.7). Rung 0 of the grid "
    "holds the clean latents, the last one step i. Moments are added up in float64 and stored as float32, as what is drawn from "
    "them is float32 and its rounding, 6e-8, far below their standard error.",
    {
        "labels": ArraySpec(("class",), "int32", "class index", "index into the attribute 'classes'", (0, 2**31 - 1)),
        "counts": ArraySpec(("class",), "int64", "images", "training latents behind the moments", (1, 2**62)),
        "mean": ArraySpec(_PER_DIM, "float32", "scaled latent", "of the latents at step i", (-1e4, 1e4)),
        "variance": ArraySpec(_PER_DIM, "float32", "scaled latent squared", "unbiased; 0 for a class of one image", (0, 1e8)),
        "skewness": ArraySpec(_PER_DIM, "float32", "1", "m3 / m2^1.5; 0 where all latents are equal", (-1e4, 1e4)),
        "kurtosis": ArraySpec(_PER_DIM, "float32", "1", "excess, m4 / m2² - 3; 0 where all latents are equal", (-3, 1e8)),
        "tested": ArraySpec(
            _PER_RUNG, "int32", "dimensions", "tested for normality: those that vary, none below 20 images", (0, 2**31 - 1)
        ),
        "rejected": ArraySpec(
            _PER_RUNG, "float32", "1", "share of them that D'Agostino and Pearson's test rejects at 5 %; -1 where none is", (-1, 1)
        ),
        "mean_skewness": ArraySpec(_PER_RUNG, "float32", "1", "mean over dimensions of its absolute value", (0, 1e4)),
        "mean_kurtosis": ArraySpec(_PER_RUNG, "float32", "1", "mean over dimensions of its absolute value", (0, 1e8)),
        "round_trip": ArraySpec(
            ("class",), "float32", "1", "relative error of the first images' latents after step i and sampling back", (0, 1e6)
        ),
        "latents": ArraySpec(
            ("image", "latent_channel", "latent_height", "latent_width"),
            "float32",
            "scaled latent",
            "at step i, in the order of the shard's images",
            (-1e4, 1e4),
            optional=True,
        ),
    },
)
STARTS = Schema(
    "starts",
    1,
    "Where sampling starts: per class the group of latents chosen among random ones, as the candidates' indices. "
    "The latents are drawn again from them and the class's statistics.",
    {
        "indices": ArraySpec(("class", "block"), "int64", "candidate", "winner of every block of dimensions", (0, 2**62)),
        "labels": ArraySpec(("class",), "int32", "class index", "index into the attribute 'classes'", (0, 2**31 - 1)),
        "losses": ArraySpec(("class",), "float64", "scaled latent squared", "of the winner (D3HR Eq. 5)", (0, 1e30)),
        "terms": ArraySpec(
            ("class", "term"), "float64", "scaled latent squared; 1", "mean, deviation, skewness, unweighted (Eqs. 6-8)", (0, 1e30)
        ),
        "spread": ArraySpec(
            ("class", "term"), "float32", "scaled latent squared; 1", "standard deviation of each over the candidates", (0, 1e30)
        ),
    },
)
_GROUP = ("class", "group")
SUBGROUPS = Schema(
    "subgroups",
    1,
    "Which of its candidate groups every class keeps (IMS3 Eq. 10), and the terms of the choice.",
    {
        "labels": ArraySpec(("class",), "int32", "class index", "index into the attribute 'classes'", (0, 2**31 - 1)),
        "groups": ArraySpec(("class",), "int64", "group", "the chosen one", (0, 999)),
        "near": ArraySpec(_GROUP, "float64", "1", "log(1 - cosine) of the group's centroid and the class's", (-14, 1)),
        "apart": ArraySpec(_GROUP, "float64", "1", "mean log(1 - cosine) to all candidates of other classes", (-14, 1)),
        "scores": ArraySpec(_GROUP, "float64", "1", "alpha near - beta apart; the lowest is the best", (-1e9, 1e9)),
    },
)
DISTILLED = Schema(
    "distilled",
    2,
    "A distilled set: IPC images per class, chosen or generated, sorted by class.",
    {
        "images": _IMAGES,
        "labels": _LABELS,
        "indices": ArraySpec(("image",), "int64", "row", "chosen images: row in the shard's images", (0, 2**62), optional=True),
        "latents": ArraySpec(
            ("image", "latent_channel", "latent_height", "latent_width"),
            "float32",
            "scaled latent",
            "generated images: the final z0",
            (-1e4, 1e4),
            optional=True,
        ),
        "step_norms": ArraySpec(
            ("image", "step"),
            "float32",
            "scaled latent",
            "generated images: |x_next - x| of every solver step",
            (0, 1e6),
            optional=True,
        ),
        "x0_norms": ArraySpec(
            ("image", "step"),
            "float32",
            "scaled latent",
            "generated images: |x0_hat| at every solver step, after guidance",
            (0, 1e6),
            optional=True,
        ),
        "tangent_share": ArraySpec(
            _STEP,
            "float32",
            "1",
            "manifold guidance: share of the mode guidance's norm inside the tangent space (the cosine of their angle)",
            (0, 1 + 1e-3),
            optional=True,
        ),
    },
)
FEATURES = Schema(
    "features",
    1,
    "Features of images under an extractor, in the images' order.",
    {
        "features": ArraySpec(
            ("image", "feature"),
            "float32",
            "extractor's own",
            "a classifier's penultimate activations, a trunk's pooled output, CLIP's embeddings",
            (-1e6, 1e6),
        ),
        "labels": _LABELS,
        "correct": ArraySpec(
            ("image",),
            "uint8",
            "boolean",
            "whether the extractor's classifier gives the image its label",
            (0, 1),
            compress=True,
            optional=True,
        ),
    },
)

HELD_OUT = Schema(
    "held_out",
    1,
    "Real training images by which students of a dataset may select their epoch.",
    {"images": _IMAGES, "labels": _LABELS},
)
SOFT_LABELS = Schema(
    "soft_labels",
    1,
    "A teacher's logits of every image of a distilled set as one training sees it, epoch by epoch. The views are drawn again.",
    {
        "logits": ArraySpec(("epoch", "image", "entry"), "float16", "logit", "of all classes, or of the largest", (-6.1e4, 6.1e4)),
        "indices": ArraySpec(
            ("epoch", "image", "entry"), "uint16", "class index", "of top-k: whose logits they are", (0, 2**16 - 1), optional=True
        ),
        "rest": ArraySpec(
            ("epoch", "image"), "float16", "logit", "of top-k: the logit of every other class", (-6.1e4, 6.1e4), optional=True
        ),
    },
)
SCHEMAS: dict[str, Schema] = {
    s.name: s
    for s in (
        IMAGES,
        LATENTS,
        EMBEDDING,
        TREE,
        CLUSTERS,
        SCORES,
        PATCHES,
        PROTOTYPES,
        TARGETS,
        TANGENTS,
        STATISTICS,
        STARTS,
        HELD_OUT,
        SOFT_LABELS,
        SUBGROUPS,
        DISTILLED,
        FEATURES,
    )
}
# classes up to which a confusion matrix is kept: of more it would be larger than all else, and nobody could read it
CONFUSED = 100
JSON_SCHEMAS: dict[str, tuple[int, str]] = {
    "classes": (1, "canonical class order of an exported image folder, with the manifest of its files"),
    "prior": (1, "hashes of a stored prior's files"),
    "teacher": (2, "test accuracy and training record of a teacher"),
    "metrics": (2, "metrics of a distilled set in the features of one extractor, which every name carries; null: undefined"),
    "student": (
        3,
        "accuracies of the trainings of one student on one distilled set, by three rules of picking an epoch; at the last one by "
        "class, and which class is taken for which (counts; null for more than 100 classes)",
    ),
}
