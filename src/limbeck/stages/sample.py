"""sample: the distilled set of a method that generates, one shard of classes."""

from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from limbeck.artifacts import DISTILLED, IMAGES, PROTOTYPES
from limbeck.diffusion.sampling import sample
from limbeck.errors import LimbeckError
from limbeck.methods import GUIDANCE
from limbeck.priors.files import PRIOR_FILES
from limbeck.priors.registry import load_prior
from limbeck.seeds import normal, torch_generator
from limbeck.stages.common import Spec, params, progress
from limbeck.store import Artifact, create


def run(spec: Spec, images: Path, prior: Path, prototypes: Path | None, distilled: Path) -> None:
    """Write ``distilled``. Every image draws from its own streams; batches never span classes.

    ``images`` is read for its class names and range alone.
    """
    model = load_prior(spec["family"], prior.parent)
    with Artifact(images, IMAGES) as source:
        header = {key: source.attrs[key] for key in ("classes", "class_range")}
    first, stop = header["class_range"]
    labels = model.class_ids(header["classes"])
    targets = _targets(prototypes)
    ipc, settings = spec["ipc"], spec["sampler"]
    n = (stop - first) * ipc
    probe = model.decode(torch.zeros(1, *model.latent_shape), spec["channels"])
    shapes = {
        "images": (n, *probe.shape[1:]),
        "labels": (n,),
        "latents": (n, *model.latent_shape),
        "step_norms": (n, settings["steps"]),
    }
    inputs = {"prototypes": prototypes} if prototypes else {}
    weights = {name: prior.parent / name for name in PRIOR_FILES if name.endswith(".safetensors")}
    with (
        create(distilled, DISTILLED, shapes, params(spec, "batch"), {**inputs, **weights}, **header) as out,
        progress("sample") as report,
    ):
        for label in range(first, stop):
            for start in range(0, ipc, settings["batch_size"]):
                items = range(start, min(start + settings["batch_size"], ipc))
                latents, norms = _batch(model, spec, targets, label, labels[label], items, (label - first) * ipc)
                if not torch.isfinite(latents).all():
                    raise LimbeckError(
                        f"class {header['classes'][label]!r}: the latents are not numbers after {settings['steps']} steps; "
                        "lower the guidance weight or cfg_scale"
                    )
                out.append("latents", latents.numpy())
                out.append("images", model.decode(latents, spec["channels"]))
                out.append("step_norms", norms.numpy())
                out.append("labels", np.full(len(items), label))
                report((label - first) * ipc + items.stop, n)


def _targets(prototypes: Path | None) -> dict[str, torch.Tensor]:
    if prototypes is None:
        return {}
    with Artifact(prototypes, PROTOTYPES) as found:
        return {name: torch.from_numpy(found[name]) for name in ("centroids", "members")}


def _batch(model, spec: Spec, targets: dict, label: int, prior_label: int, items: range, offset: int):  # type: ignore[no-untyped-def]
    settings, seed = spec["sampler"], spec["seed"]
    rows = slice(offset + items.start, offset + items.stop)
    chosen = {name: target[rows] for name, target in targets.items()}
    guidance = [import_module(GUIDANCE[g["kind"]].module).build(g, chosen, settings["solver"]) for g in spec["guidance"]]
    noise = torch.stack([normal(model.latent_shape, seed, "sample", label, item) for item in items])
    return sample(
        model.denoise,
        model.scheduler(settings["solver"], settings["steps"]),
        noise,
        torch.full((len(items),), prior_label),
        null=model.null,
        cfg_scale=settings["cfg_scale"],
        cfg_channels=settings["cfg_channels"],
        guidance=guidance,
        generators=lambda step: [torch_generator(seed, "sample.step", label, item, step) for item in items],
    )
