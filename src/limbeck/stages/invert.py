"""invert: training latents taken to a step of the solver's grid, as per-class statistics; streamed class by class."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from limbeck.artifacts import LATENTS, STATISTICS
from limbeck.diffusion.inversion import inverted, noised
from limbeck.diffusion.sampling import sample
from limbeck.discovery.gaussian import Moments, normality
from limbeck.priors.base import Prior
from limbeck.priors.files import weight_digests
from limbeck.priors.registry import load_prior
from limbeck.seeds import normal
from limbeck.stages.common import Spec, class_rows, params, progress
from limbeck.store import Artifact, create

ROUND_TRIP = 16  # latents per class that are sampled back


def run(spec: Spec, latents: Path, prior: Path, statistics: Path) -> dict[str, float]:
    """Write ``statistics``; returns the mean relative error of the round trip.

    Batches never span classes and memory does not grow with the images.
    """
    options = spec["inversion"]
    model = load_prior(spec["family"], prior.parent, **spec["prior"])
    digests = weight_digests(prior.parent)
    with Artifact(latents, LATENTS) as source, progress("invert") as report:
        labels, shape = source["labels"], source.shape("latents")[1:]
        header = {key: source.attrs[key] for key in ("classes", "class_range")}
        prior_labels = model.class_ids(header["classes"])
        ranges = list(class_rows(labels))
        shapes = _shapes(len(ranges), len(labels), shape, options)
        with create(statistics, STATISTICS, shapes, params(spec), {"latents": latents}, digests, **header) as out:
            errors = []
            for label, rows in ranges:
                errors.append(_round_trip(model, spec, source, rows, prior_labels[label]))
                moments = [Moments.none(*shape) for _ in range(options["inversion_step"] + 1)]
                for start in range(rows.start, rows.stop, options["inversion_batch"]):
                    part = slice(start, min(start + options["inversion_batch"], rows.stop))
                    for rung, z in enumerate(_rungs(model, spec, source, part, label, prior_labels[label], rows.start)):
                        moments[rung] = moments[rung] + Moments.of(z.numpy())
                    if options["keep_latents"]:
                        out.append("latents", z.numpy())
                    report(part.stop, len(labels))
                _write(out, label, moments, errors[-1])
    return {"round_trip_error": round(float(np.mean(errors)), 5)}


def _shapes(classes: int, images: int, shape: tuple[int, ...], options: Spec) -> dict[str, tuple[int, ...]]:
    rungs = options["inversion_step"] + 1
    found: dict[str, tuple[int, ...]] = dict.fromkeys(("mean", "variance", "skewness", "kurtosis"), (classes, *shape))
    found |= dict.fromkeys(("rejected", "mean_skewness", "mean_kurtosis"), (classes, rungs))
    found |= dict.fromkeys(("labels", "counts", "round_trip"), (classes,))
    return found | ({"latents": (images, *shape)} if options["keep_latents"] else {})


def _rungs(
    model: Prior, spec: Spec, source: Artifact, rows: slice, label: int, prior_label: int, first: int
) -> Iterator[torch.Tensor]:
    """A batch's latents on every rung."""
    options = spec["inversion"]
    z0 = torch.from_numpy(source.read("latents", rows.start, rows.stop).astype(np.float32))
    scheduler = model.scheduler("ddim", options["steps"])
    if options["inversion"] == "ddpm":
        items = range(rows.start - first, rows.stop - first)  # counted within the class: shards change nothing
        noise = torch.stack([normal(z0.shape[1:], 0, "invert", label, item) for item in items])
        return noised(scheduler, z0, noise, options["inversion_step"])
    labels = torch.full((len(z0),), prior_label)
    guided = {"null": model.null, "cfg_scale": options["inversion_scale"]}
    return inverted(model.denoise, scheduler, z0, labels, options["inversion_step"], **guided)


def _round_trip(model: Prior, spec: Spec, source: Artifact, rows: slice, prior_label: int) -> float:
    """|sampled back - clean| / |clean| over a class's first latents, both ways at the inversion's scale."""
    options = spec["inversion"]
    if options["inversion"] == "ddpm":
        return 0.0
    few = slice(rows.start, min(rows.start + ROUND_TRIP, rows.stop))
    *_, top = _rungs(model, spec, source, few, 0, prior_label, rows.start)
    clean = torch.from_numpy(source.read("latents", few.start, few.stop).astype(np.float32))
    start = options["steps"] - options["inversion_step"]
    back = sample(
        model.denoise,
        model.scheduler("ddim", options["steps"]),
        top,
        torch.full((len(top),), prior_label),
        null=model.null,
        cfg_scale=options["inversion_scale"],
        start=start,
    ).latents
    return float((back - clean).norm() / clean.norm().clamp_min(torch.finfo(clean.dtype).tiny))


def _write(out, label: int, moments: list[Moments], error: float) -> None:  # type: ignore[no-untyped-def]
    top, found = moments[-1], [normality(each) for each in moments]
    rows = {
        "mean": top.mean,
        "variance": top.variance,
        "skewness": top.skewness,
        "kurtosis": top.kurtosis,
        "labels": label,
        "counts": top.count,
        "rejected": [-1 if each.rejected is None else each.rejected for each in found],
        "mean_skewness": [each.skewness for each in found],
        "mean_kurtosis": [each.kurtosis for each in found],
        "round_trip": error,
    }
    for name, values in rows.items():
        out.append(name, np.asarray(values)[np.newaxis])
