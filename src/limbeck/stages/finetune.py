"""finetune: a prior trained further on a dataset's latents, stored in diffusers' layout like any other; DiffFit's delta too."""

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from limbeck.artifacts import LATENTS
from limbeck.commit import digest
from limbeck.config import Finetune
from limbeck.diffusion.schedule import Schedule
from limbeck.errors import LimbeckError
from limbeck.finetune.criteria import Criterion, Diffusion, InversionMatching, Minimax
from limbeck.finetune.difffit import add_scales, choose, fold_scales, named, trained
from limbeck.finetune.labels import relabel
from limbeck.finetune.training import Checkpoint, Data, tune
from limbeck.priors.files import DELTA, INDEX, LOSS, MANIFEST, RECORD, all_files, class_table, known_classes, weight_digests
from limbeck.priors.registry import load_prior
from limbeck.stages.common import Spec, classes_of, params, progress, read_all
from limbeck.stages.numbers import check_weights
from limbeck.stages.prior import forget_places, stored, weights_bytes

NETWORK = {"dit": "transformer", "sd": "unet", "sdxl": "unet"}  # the folder of a family's denoiser


def run(spec: Spec, latents: Sequence[Path], base: Path, index: Path, checkpoint_seconds: float = 60.0) -> dict[str, float]:
    """Tune the prior of which ``base`` is the index and write it beside ``index``, whole or not at all; returns its weights' bytes.

    A killed job goes on from its last checkpoint, ``.<prior>.checkpoint`` beside the folder, to the same weights.
    """
    options = Finetune.model_validate(spec["finetune"])
    folder, classes, name = base.parent, classes_of(latents[0]), NETWORK[spec["family"]]
    prior: Any = load_prior(spec["family"], folder, **spec["prior"])
    network = prior.transformer if spec["family"] == "dit" else prior.pipe.unet
    labels, about = _labels(spec, options, prior, network, classes)
    if options.mode == "difffit":
        add_scales(network)
    counts = choose(network, options.mode)
    about["trained"] = str(counts)
    points, of = read_all(latents, LATENTS, "latents", "labels")
    if points.shape[1:] != prior.latent_shape:
        raise LimbeckError(f"prior {folder.name}: takes latents {prior.latent_shape}, those to tune on are {points.shape[1:]}")
    schedule = prior.schedule
    data = Data(points, of, labels, prior.null, len(schedule), classes)
    checkpoint = Checkpoint(
        index.parent.with_name(f".{index.parent.name}.checkpoint"), _task(spec, latents, folder), checkpoint_seconds
    )
    with progress("finetune") as report:
        print(*named(network), f"finetune: {counts}", sep="\n", flush=True, file=sys.stderr)
        try:
            history = tune(network, prior.denoise, _criterion(options, schedule, len(classes)), data, options, checkpoint, report)
        except ValueError as error:
            raise LimbeckError(f"priors.{index.parent.name}: {error}") from None
        except torch.OutOfMemoryError:
            raise LimbeckError(
                f"priors.{index.parent.name}.finetune.batch_size: {options.batch_size} do not fit into the device's memory; lower "
                "it, and raise accumulate as much"
            ) from None
    with stored(spec, index) as part:
        _save(part, folder, spec, network, name, options, classes if about.get("new_classes") else None)
        check_weights(part, f"priors.{index.parent.name}", "lower finetune.lr, or store them as dtype: float32")
        _plot(part / LOSS, history)
        record = {"params": params(spec), "base": folder.name, "images": len(points), **about, "loss": history}
        (part / RECORD).write_text(json.dumps(record, indent=1))
    checkpoint.remove()
    return weights_bytes(index, spec["family"])


def _labels(spec: Spec, options: Finetune, prior: Any, network: Any, classes: list[str]) -> tuple[list[int], dict[str, Any]]:
    """The prior's label of every class; in full, a DiT that does not know them all gets their class table."""
    if spec["family"] == "dit" and options.mode == "full":
        known = known_classes(class_table(prior.name), classes)
        if len(known) < len(classes):
            kept = relabel(network, classes, known, options.seed)
            prior.null = len(classes)
            return list(range(len(classes))), {"new_classes": len(classes) - kept}
    return prior.class_ids(classes), {}


def _criterion(options: Finetune, schedule: Schedule, classes: int) -> Criterion:
    if options.criterion == "inversion_matching":
        return InversionMatching(schedule, options.lambda_im, options.matching, options.inversion_steps, options.variant)
    if options.criterion == "minimax":
        return Minimax(schedule, options.representativeness, options.diversity, options.memory, classes)
    return Diffusion(schedule)


def _task(spec: Spec, latents: Sequence[Path], base: Path) -> str:
    """What a checkpoint must be of: the same options, sources, data and base."""
    parts = [dict(spec), [digest(path) for path in latents], digest(base / MANIFEST)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _save(part: Path, base: Path, spec: Spec, network: nn.Module, name: str, options: Finetune, classes: list[str] | None) -> None:
    """The base's files with the tuned denoiser in place of its own; DiffFit's trained values beside them."""
    if options.mode == "difffit":
        delta = {key: value.detach().contiguous() for key, value in trained(network).items()}
        # one entry: safetensors writes several in random order
        save_file(delta, part / DELTA, {"about": json.dumps({"base": weight_digests(base), "network": name}, sort_keys=True)})
        fold_scales(network)
    network.to(getattr(torch, spec["dtype"])).save_pretrained(part / name, max_shard_size="1000GB")  # type: ignore[operator]
    forget_places(part)
    for file in all_files(base, spec["family"]):
        if not file.startswith(f"{name}/"):
            (part / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(base / file, part / file)
    if classes is not None:
        path = part / INDEX
        about = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**about, "id2label": {str(i): c for i, c in enumerate(classes)}}, indent=2) + "\n")


def _plot(path: Path, history: list[dict[str, float]]) -> None:
    """Every term of the loss over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="optimiser step", ylabel="weighted term of the loss", yscale="log")
    steps = [point["step"] for point in history]
    for name in [key for key in history[-1] if key not in ("step", "loss")] if history else []:
        axes.plot(steps, np.maximum([point[name] for point in history], 1e-12), label=name)
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})
