"""sample: the distilled set of a method that generates, one shard of classes."""

import math
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck.artifacts import DISTILLED
from limbeck.components import DRAWN, GUIDANCE
from limbeck.diffusion.levels import clean, levels
from limbeck.diffusion.sampling import Sampled, sample
from limbeck.errors import LimbeckError
from limbeck.guidance.base import Guidance
from limbeck.priors.base import Prior
from limbeck.priors.files import weight_digests
from limbeck.priors.registry import load_prior
from limbeck.seeds import normal, torch_generator
from limbeck.stages.common import Spec, header_of, params, progress, resize_to
from limbeck.stages.guided import Guided
from limbeck.stages.numbers import WEIGHTS, Watch, append
from limbeck.store import Artifact, create

REMEDY = f"lower the guidance weight or cfg_scale; {WEIGHTS}"


def run(
    spec: Spec, images: Path, prior: Path, distilled: Path, refiner: Path | None = None, **guided: Path | None
) -> dict[str, float]:
    """Write ``distilled``; returns the seconds of sampling per image.

    Every image draws from its own streams; batches never span classes.

    ``images`` is read for its class names and range alone. refiner: a second prior for the last steps. guided: the artifacts
    ``prototypes``, ``targets``, ``latents``, ``tangents``, where the method's guidance needs them, ``statistics`` and ``starts``,
    where it starts from class statistics. ``prototypes`` or ``targets`` also where it starts from them.
    """
    options: dict[str, Any] = {"refiner": refiner.parent} if refiner else {}
    model = load_prior(spec["family"], prior.parent, **spec["prior"], **options)
    with Artifact(images) as source:
        header = header_of(source)
    first, stop = header["class_range"]
    labels = model.class_ids(header["classes"])
    statistics, starts = guided.pop("statistics", None), guided.pop("starts", None)
    targets = Guided(spec, grid=levels(model.scheduler(spec["sampler"]["solver"], spec["sampler"]["steps"])), **guided)
    beginning = _Start(spec, model, targets, statistics, starts)
    ipc, settings = spec["ipc"], spec["sampler"]
    n = (stop - first) * ipc
    shapes = {
        "images": (n, spec["size"], spec["size"], spec["channels"]),
        "labels": (n,),
        "latents": (n, *model.latent_shape),
        "step_norms": (n, settings["steps"]),
        "x0_norms": (n, settings["steps"]),
        **targets.trace_shapes(n),
    }
    inputs = {name: path for name, path in {**guided, **beginning.inputs}.items() if path}
    weights = weight_digests(prior.parent)
    if refiner:
        weights |= {f"refiner/{name}": value for name, value in weight_digests(refiner.parent).items()}
    started, watch = time.monotonic(), Watch(distilled, math.prod(model.latent_shape), settings["steps"])
    with (
        create(distilled, DISTILLED, shapes, params(spec), inputs, weights, **header) as out,
        progress("sample") as report,
    ):
        for label in range(first, stop):
            for start in range(0, ipc, settings["batch_size"]):
                items = range(start, min(start + settings["batch_size"], ipc))
                guidance = _guidance(spec, targets, label, items, model.device)
                where = f"class {header['classes'][label]!r}"
                try:
                    found = _batch(model, spec, guidance, beginning, label, labels[label], items)
                    pixels = model.decode(found.latents, spec["channels"])
                except ArithmeticError as error:
                    raise LimbeckError(f"{where}: {error}; {REMEDY}") from None
                out.append("images", resize_to(pixels, spec["size"]))
                watch(header["classes"][label], found.x0_norms.cpu().numpy())
                traces = {name: getattr(found, name).cpu().numpy() for name in ("latents", "step_norms", "x0_norms")}
                append(out, {**traces, **targets.traces(guidance)}, where, REMEDY)
                out.append("labels", np.full(len(items), label))
                report((label - first) * ipc + items.stop, n)
    watch.close(stop - first)
    return {"seconds_per_image": round((time.monotonic() - started) / n, 4)}


def _guidance(spec: Spec, targets: Guided, label: int, items: range, where: torch.device) -> list[Guidance]:
    if not spec["guidance"]:
        return []
    batch = targets.batch(label, items).to(where)
    return [import_module(GUIDANCE.format(g["kind"])).build(g, batch, spec["sampler"]["solver"]) for g in spec["guidance"]]


class _Start:
    """Where the images start: pure noise at the first step; latents drawn from class statistics, or noised prototypes, later."""

    def __init__(self, spec: Spec, model: Prior, targets: Guided, statistics: Path | None, starts: Path | None):
        self.inputs = {"statistics": statistics, "starts": starts}
        self.shape, self.seed, self.step = model.latent_shape, spec["seed"], 0
        self.drawn, self.noised, self.targets = None, None, targets
        options, steps = spec["start"], spec["sampler"]["steps"]
        if options and options["kind"] == "gaussian":
            self.step = steps - options["inversion_step"]
            # by name, so that an edit there reruns only methods that start so
            self.drawn = import_module(DRAWN).Drawn(spec, statistics, starts)
        elif options:
            # as image-to-image pipelines count: the last strength * steps are taken
            self.step, self.which = steps - int(steps * options["strength"]), options["target"]
            # some schedules end a little above clean latents; what is not denoised is not noised
            self.noised = clean() if self.step == steps else levels(model.scheduler(spec["sampler"]["solver"], steps))[self.step]

    def latents(self, label: int, items: range) -> torch.Tensor:
        """Of images ``items`` of a class."""
        if self.drawn:
            return self.drawn.latents(label, items).reshape(-1, *self.shape)
        noise = torch.stack([normal(self.shape, self.seed, "sample", label, item) for item in items])
        if self.noised is None:
            return noise
        return self.noised.alpha * self.targets.batch(label, items).prototype(self.which) + self.noised.sigma * noise


def _batch(
    model: Prior, spec: Spec, guidance: list[Guidance], beginning: _Start, label: int, prior_label: int, items: range
) -> Sampled:
    settings, seed = spec["sampler"], spec["seed"]
    return sample(
        model.denoise,
        model.scheduler(settings["solver"], settings["steps"]),
        beginning.latents(label, items).to(model.device),
        torch.full((len(items),), prior_label),
        null=model.null,
        cfg_scale=settings["cfg_scale"],
        cfg_channels=settings["cfg_channels"],
        guidance=guidance,
        start=beginning.step,
        generators=lambda step: [torch_generator(seed, "sample.step", label, item, step) for item in items],
    ).checked()
