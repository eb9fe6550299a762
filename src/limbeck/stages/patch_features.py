"""patch_features: features of every patch, for clustering: diffusion features (DIFT), latents, or those of an extractor."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from limbeck.artifacts import EMBEDDING, PATCHES
from limbeck.components import EXTRACTORS
from limbeck.config import VAE
from limbeck.data.preprocessing import resized
from limbeck.diffusion.hidden import block_of, hidden
from limbeck.priors.files import weight_digests
from limbeck.priors.registry import load_prior
from limbeck.seeds import normal
from limbeck.stages.common import Spec, class_rows, header_of, params, progress, write_joined
from limbeck.stages.cut import Cutter
from limbeck.store import Artifact

SEED = 0  # features belong to no generation seed


def run(spec: Spec, images: Path, patches: Path, embedding: Path, prior: Path | None = None, **teacher: Path | None) -> None:
    """Write ``embedding`` of the patches, in their order; a batch of them is in memory at a time.

    prior: of features ``dift`` and ``vae``. teacher: ``teacher`` and ``record``, of the extractor 'teacher'.
    """
    with Cutter(images) as pixels, Artifact(patches, PATCHES) as source, progress("patch_features") as report:
        labels, rows, boxes = source["labels"], source["rows"], source["boxes"]
        header = header_of(source)
        features = _Prior(spec, prior, header["classes"]) if prior else _Extractor(spec, **teacher)
        starts = {label: at.start for label, at in class_rows(pixels["labels"])}
        found: dict[str, list[np.ndarray]] = {"coordinates": [], "labels": [labels]}
        for label, at in class_rows(labels):
            for start in range(at.start, at.stop, spec["patches"]["dift_batch"]):
                block = range(start, min(start + spec["patches"]["dift_batch"], at.stop))
                cut = [pixels.cut(int(rows[i]), boxes[i]) for i in block]
                square = np.stack([resized(each, features.size or len(each)) for each in cut])
                found["coordinates"].append(features(square, label, [int(rows[i]) - starts[label] for i in block]))
                report(block.stop, len(labels))
    inputs = {"images": images, "patches": patches, **features.files}
    write_joined(embedding, EMBEDDING, found, params(spec, "weights"), inputs, features.digests, **header)


class _Extractor:
    """Features of an extractor by name."""

    def __init__(self, spec: Spec, teacher: Path | None = None, record: Path | None = None):
        self.extractor = import_module(EXTRACTORS[spec["kind"]]).load(spec, teacher, record)
        self.size, self.files, self.digests = self.extractor.size, self.extractor.files, dict[str, str]()

    def __call__(self, images: np.ndarray, label: int, items: Sequence[int]) -> np.ndarray:  # noqa: ARG002
        return np.concatenate([values for values, _ in self.extractor.batches(images)])


class _Prior:
    """A prior's latents, or what a block of its denoiser makes of them: the mean of several noised at one timestep (DIFT).

    Noise belongs to an image, its row in its class, however many others are scored.
    """

    def __init__(self, spec: Spec, prior: Path, classes: Sequence[str]):
        self.options: dict[str, Any] = spec["patches"]
        self.model = load_prior(spec["family"], prior.parent, **spec["prior"])
        self.size, self.files, self.digests = spec["prior"]["size"], dict[str, Path](), weight_digests(prior.parent)
        self.ids = self.model.class_ids(classes)
        if self.options["features"] != VAE:
            self.block = block_of(self.model, self.options["dift_block"])

    def __call__(self, images: np.ndarray, label: int, items: Sequence[int]) -> np.ndarray:
        z = self.model.encode(images)
        if self.options["features"] == VAE:
            return z.flatten(1).numpy()
        t, labels = torch.full((len(z),), self.options["dift_t"]), torch.full((len(z),), self.ids[label])
        total = torch.zeros(())
        for draw in range(self.options["dift_ensemble"]):
            eps = torch.stack([normal(tuple(z.shape[1:]), SEED, "patch_features", label, item, draw) for item in items])
            total = total + hidden(self.model, self.model.schedule.noised(z, eps, t), t, labels, self.block)
        return F.normalize(total / self.options["dift_ensemble"]).numpy()
