"""invert: training latents taken up the sampling grid to step i, as statistics of every class; streamed."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.artifacts import LATENTS, STATISTICS
from limbeck.diffusion.inversion import inverted, noised
from limbeck.diffusion.sampling import sample
from limbeck.discovery.gaussian import Moments, normality
from limbeck.errors import LimbeckError
from limbeck.priors.files import weight_digests
from limbeck.priors.registry import load_prior
from limbeck.seeds import normal
from limbeck.stages.common import Spec, class_rows, header_of, params, progress
from limbeck.stages.numbers import WEIGHTS, append
from limbeck.store import Artifact, Writer, create

ROUND_TRIP = 16  # a class's first images, which are sampled back
REMEDY = f"lower inversion_scale; {WEIGHTS}"
SEED = 0  # of the noise of ``inversion: ddpm``: statistics belong to no generation seed


def run(spec: Spec, latents: Path, prior: Path, statistics: Path, refiner: Path | None = None) -> dict[str, float]:
    """Write ``statistics``; returns the seconds per image and the mean relative error of the round trip.

    A batch is in memory at a time, with four moments per dimension and rung. Batches never span classes.
    """
    options = spec["inversion"]
    started, errors = time.monotonic(), []
    with Artifact(latents, LATENTS) as source, progress("invert") as report:
        labels, shape = source["labels"], source.shape("latents")[1:]
        header = header_of(source)
        climb = _Climb(spec, prior, refiner, header["classes"], shape)
        shapes = _shapes(len(np.unique(labels)), len(labels), shape, options)
        with create(statistics, STATISTICS, shapes, params(spec), {"latents": latents}, climb.digests, **header) as out:
            for label, rows in class_rows(labels):
                moments, error = [Moments.none(*shape)] * (options["inversion_step"] + 1), 0.0
                for start in range(rows.start, rows.stop, options["inversion_batch"]):
                    stop = min(start + options["inversion_batch"], rows.stop)
                    clean = top = torch.from_numpy(source.read("latents", start, stop).astype(np.float32))
                    for rung, top in enumerate(climb.rungs(clean, label, range(start - rows.start, stop - rows.start))):
                        moments[rung] += Moments.of(top.numpy())
                    if start == rows.start:
                        error = climb.round_trip(clean[:ROUND_TRIP], top[:ROUND_TRIP], label)
                    if options["keep_latents"]:
                        append(out, {"latents": top.numpy()}, f"class {header['classes'][label]!r}", REMEDY)
                    report(stop, len(labels))
                _write(out, label, header["classes"][label], moments, error)
                errors.append(error)
    seconds = (time.monotonic() - started) / len(labels)
    return {"seconds_per_image": round(seconds, 4), "round_trip_error": round(float(np.mean(errors)), 5)}


class _Climb:
    """A prior and the way up its sampling grid.

    Raises
    ------
    LimbeckError: latents of another size than the prior's.
    """

    def __init__(self, spec: Spec, prior: Path, refiner: Path | None, classes: list[str], shape: tuple[int, ...]):
        more: dict[str, Any] = {"refiner": refiner.parent} if refiner else {}
        self.model = load_prior(spec["family"], prior.parent, **spec["prior"], **more)
        if shape != self.model.latent_shape:
            raise LimbeckError(
                f"prior {prior.parent.name}: generates latents {self.model.latent_shape}, those to invert are {shape}"
            )
        self.digests = weight_digests(prior.parent)
        if refiner:
            self.digests |= {f"refiner/{name}": value for name, value in weight_digests(refiner.parent).items()}
        self.options, self.classes, self.labels = spec["inversion"], classes, self.model.class_ids(classes)
        self.scheduler = self.model.scheduler("ddim", self.options["steps"])
        self.scale = {"cfg_scale": self.options["inversion_scale"], "cfg_channels": self.options["cfg_channels"]}

    def rungs(self, clean: Tensor, label: int, items: range) -> Iterator[Tensor]:
        """Images ``items`` of a class on every rung."""
        step = self.options["inversion_step"]
        if self.options["inversion"] == "ddpm":
            noise = torch.stack([normal(clean.shape[1:], SEED, "invert", label, item) for item in items])
            found = noised(self.scheduler, clean, noise, step)
        else:
            labels = torch.full((len(clean),), self.labels[label])
            found = inverted(self.model.denoise, self.scheduler, clean, labels, step, null=self.model.null, **self.scale)
        for rung, z in enumerate(found):
            if not torch.isfinite(z).all():
                name = self.classes[label]
                raise LimbeckError(f"class {name!r}: its latents are not numbers after {rung} of {step} steps up; {REMEDY}")
            yield z

    def round_trip(self, clean: Tensor, top: Tensor, label: int) -> float:
        """|sampled back - clean| / |clean|, by DDIM at the inversion's scale."""
        labels = torch.full((len(clean),), self.labels[label])
        start = self.options["steps"] - self.options["inversion_step"]
        try:
            found = sample(self.model.denoise, self.scheduler, top, labels, null=self.model.null, start=start, **self.scale)
            back = found.checked()
        except ArithmeticError as error:
            raise LimbeckError(f"class {self.classes[label]!r}, sampled back: {error}; {REMEDY}") from None
        return float((back.latents - clean).norm()) / (float(clean.norm()) or 1.0)


def _shapes(classes: int, images: int, shape: tuple[int, ...], options: Spec) -> dict[str, tuple[int, ...]]:
    rungs = options["inversion_step"] + 1
    return {
        **dict.fromkeys(("labels", "counts", "round_trip"), (classes,)),
        **dict.fromkeys(("mean", "variance", "skewness", "kurtosis"), (classes, *shape)),
        **dict.fromkeys(("tested", "rejected", "mean_skewness", "mean_kurtosis"), (classes, rungs)),
        **({"latents": (images, *shape)} if options["keep_latents"] else {}),
    }


def _write(out: Writer, label: int, name: str, moments: list[Moments], error: float) -> None:
    """One class: moments on the last rung, how Gaussian it is on every rung."""
    top, found = moments[-1], [normality(each) for each in moments]
    rows = {
        "labels": label,
        "counts": top.count,
        "round_trip": error,
        "mean": top.mean,
        "variance": top.variance,
        "skewness": top.skewness,
        "kurtosis": top.kurtosis,
        "tested": [each.tested for each in found],
        "rejected": [-1 if each.rejected is None else each.rejected for each in found],
        "mean_skewness": [each.skewness for each in found],
        "mean_kurtosis": [each.kurtosis for each in found],
    }
    append(out, {key: np.asarray(values)[np.newaxis] for key, values in rows.items()}, f"class {name!r}", REMEDY)
