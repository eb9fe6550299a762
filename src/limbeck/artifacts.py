"""The schema of every artifact: arrays, dims, dtype, units, range, version. docs/ARTIFACTS.md is generated from it.

No zarr here: this is data that ``limbeck.store`` enforces when it writes and when it opens.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ArraySpec:
    """One array of an artifact. ``dims[0]`` is the axis that is streamed."""

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
PROTOTYPES = Schema(
    "prototypes",
    1,
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
    },
)
DISTILLED = Schema(
    "distilled",
    1,
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
    },
)
FEATURES = Schema(
    "features",
    1,
    "Features of images under an extractor, in the images' order.",
    {
        "features": ArraySpec(("image", "feature"), "float32", "extractor's own", "penultimate activations", (-1e6, 1e6)),
        "labels": _LABELS,
        "correct": ArraySpec(
            ("image",), "uint8", "boolean", "whether the extractor's classifier gives the image its label", (0, 1), compress=True
        ),
    },
)

SCHEMAS: dict[str, Schema] = {s.name: s for s in (IMAGES, LATENTS, PROTOTYPES, DISTILLED, FEATURES)}
JSON_SCHEMAS: dict[str, tuple[int, str]] = {
    "classes": (1, "canonical class order of an exported image folder, with the manifest of its files"),
    "prior": (1, "hashes of a stored prior's files"),
    "teacher": (1, "test accuracy and training record of a teacher"),
    "metrics": (1, "metrics of a distilled set; every name carries its extractor"),
    "student": (1, "accuracies of the trainings of one student on one distilled set"),
}
