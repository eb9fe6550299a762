"""sample: the distilled set of a method that generates, one shard of classes."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from limbeck.stages.guided import Guided, Part
from limbeck.stages.numbers import WEIGHTS, Watch, append
from limbeck.store import Artifact, create

REMEDY = f"lower the guidance weight or cfg_scale; {WEIGHTS}"


def run(
    spec: Spec, images: Path, prior: Path, distilled: Path, refiner: Path | None = None, **guided: Path | None
) -> dict[str, float]:
    """Write ``distilled``; returns the seconds of sampling per image.

    Every image draws from its own streams, so a batch may hold images of several classes: few per class would leave a device idle.

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
        for batch in batches(range(first, stop), ipc, settings["batch_size"]):
            made = _Batch(spec, model, targets, beginning, batch, labels, header["classes"])
            found = made.sampled()
            out.append("images", resize_to(made.decoded(found.latents), spec["size"]))
            traces = {key: getattr(found, key).cpu().numpy() for key in ("latents", "step_norms", "x0_norms")}
            traces |= targets.traces(made.guidance)
            for part, rows in made.parts():
                name = header["classes"][part.label]
                watch(name, traces["x0_norms"][rows])
                append(out, {key: values[rows] for key, values in traces.items()}, f"class {name!r}", REMEDY)
                out.append("labels", np.full(len(part.items), part.label))
            report((part.label - first) * ipc + part.items.stop, n)
    watch.close(stop - first)
    return {"seconds_per_image": round((time.monotonic() - started) / n, 4)}


def batches(classes: range, ipc: int, size: int) -> Iterator[list[Part]]:
    """``ipc`` images of every class, in order, in as few batches of at most ``size`` as it takes: equal but for one."""
    n = len(classes) * ipc
    count = math.ceil(n / size)
    for k in range(count):
        start, stop = n * k // count, n * (k + 1) // count
        labels = range(start // ipc, (stop - 1) // ipc + 1)
        yield [Part(classes[c], range(max(start - c * ipc, 0), min(stop - c * ipc, ipc))) for c in labels]


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

    def latents(self, batch: Sequence[Part]) -> torch.Tensor:
        """Of a batch's images."""
        if self.drawn:
            return torch.cat([self.drawn.latents(*part).reshape(-1, *self.shape) for part in batch])
        noise = torch.stack([normal(self.shape, self.seed, "sample", label, item) for label, items in batch for item in items])
        if self.noised is None:
            return noise
        return self.noised.alpha * self.targets.prototypes_of(batch).prototype(self.which) + self.noised.sigma * noise


class _Batch:
    """Images of one class or several, sampled together."""

    def __init__(
        self,
        spec: Spec,
        model: Prior,
        targets: Guided,
        beginning: _Start,
        batch: Sequence[Part],
        prior_labels: Sequence[int],
        classes: Sequence[str],
    ):
        self.spec, self.model, self.beginning, self.batch = spec, model, beginning, batch
        self.prior_labels, self.classes = prior_labels, classes
        self.guidance: list[Guidance] = []
        if spec["guidance"]:
            own, solver = targets.batch(batch).to(model.device), spec["sampler"]["solver"]
            self.guidance = [import_module(GUIDANCE.format(g["kind"])).build(g, own, solver) for g in spec["guidance"]]

    def parts(self) -> Iterator[tuple[Part, slice]]:
        """Each class's images, and where they are in the batch."""
        start = 0
        for part in self.batch:
            yield part, slice(start, start := start + len(part.items))

    def sampled(self) -> Sampled:
        """Its latents.

        Raises
        ------
        LimbeckError: they are not numbers; names the first class and step.
        """
        settings, seed = self.spec["sampler"], self.spec["seed"]
        images = [(part.label, item) for part in self.batch for item in part.items]
        found = sample(
            self.model.denoise,
            self.model.scheduler(settings["solver"], settings["steps"]),
            self.beginning.latents(self.batch).to(self.model.device),
            torch.tensor([self.prior_labels[label] for label, _ in images]),
            null=self.model.null,
            cfg_scale=settings["cfg_scale"],
            cfg_channels=settings["cfg_channels"],
            guidance=self.guidance,
            start=self.beginning.step,
            generators=lambda step: [torch_generator(seed, "sample.step", label, item, step) for label, item in images],
        )
        for part, rows in self.parts():
            with self._naming(part):
                found.of(rows).checked()
        return found

    def decoded(self, latents: torch.Tensor) -> np.ndarray:
        """uint8 (N, H, W, channels); errors as :meth:`sampled`."""
        try:
            return self.model.decode(latents, self.spec["channels"])
        except ArithmeticError:
            for part, rows in self.parts():
                with self._naming(part):
                    self.model.decode(latents[rows], self.spec["channels"])
            raise

    @contextmanager
    def _naming(self, part: Part) -> Iterator[None]:
        try:
            yield
        except ArithmeticError as error:
            raise LimbeckError(f"class {self.classes[part.label]!r}: {error}; {REMEDY}") from None
