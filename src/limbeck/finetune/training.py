"""The loop that tunes a denoiser: gradient accumulation, moving average, checkpoints that it goes on from.

Every image's timestep, noise and label dropout have their own stream per epoch, and each epoch's order has one, so the same weights
come out whether or not the loop was interrupted.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from limbeck.commit import replacing
from limbeck.finetune.criteria import Batch, Criterion, Model
from limbeck.finetune.difffit import trained
from limbeck.seeds import stream

Report = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Data:
    """latents: (N, C, H, W), any float type. classes: (N,) of the dataset. labels: the prior's of each class. null: its label of no
    class. timesteps: of its training table. names: of the classes, for messages.
    """

    latents: np.ndarray
    classes: np.ndarray
    labels: Sequence[int]
    null: int
    timesteps: int
    names: Sequence[str] = ()

    def called(self, label: int) -> str:
        """What a class is called in a message."""
        return repr(self.names[label]) if self.names else str(label)


@dataclass
class Progress:
    """How far the training is: steps taken, and mean terms of the loss between two points of the history."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    running: dict[str, float] = field(default_factory=dict)
    counted: int = 0


class Checkpoint:
    """One file with everything needed to go on; written whole or not at all, read only if it is of this very task.

    seconds: least time between two of them; of no effect on the weights.
    """

    def __init__(self, path: Path, task: str, seconds: float = 60.0):
        self.path, self.task, self.seconds = path, task, seconds
        self.saved, self._last = 0, time.monotonic()

    def due(self) -> bool:
        """Whether it is time for another."""
        return time.monotonic() - self._last >= self.seconds

    def load(self) -> tuple[Progress, dict[str, Tensor]] | None:
        """What was saved; None where there is nothing of this task that can be read."""
        try:
            with safe_open(self.path, "pt") as file:
                about = json.loads(file.metadata()["progress"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if about.pop("task") != self.task or about.pop("seal") != _seal(about, tensors):
                return None
            self.saved = about["step"]
            return Progress(**about), tensors
        except Exception:  # whatever is wrong with it, training from the start is right
            return None

    def save(self, progress: Progress, tensors: dict[str, Tensor]) -> None:
        """Replace the file."""
        contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        about = {**vars(progress), "seal": _seal(vars(progress), contiguous)}
        with replacing(self.path) as part:
            save_file(contiguous, part, {"progress": json.dumps({"task": self.task, **about})})
        self.saved, self._last = progress.step, time.monotonic()

    def remove(self) -> None:
        """When the training has ended."""
        self.path.unlink(missing_ok=True)


def _seal(progress: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """A hash of everything in a checkpoint, whose format has none."""
    seal = hashlib.sha256(json.dumps(progress, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        seal.update(name.encode())
        seal.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return seal.hexdigest()


def steps_of(images: int, batch: int, accumulate: int, epochs: int) -> tuple[int, int]:
    """Optimiser steps per epoch, the short last one dropped, and in all.

    Raises
    ------
    ValueError: fewer images than one step takes.
    """
    per_epoch = images // (batch * accumulate)
    if not per_epoch:
        raise ValueError(f"{images} images are fewer than batch_size * accumulate = {batch * accumulate}; lower them")
    return per_epoch, per_epoch * epochs


def batch_of(data: Data, rows: np.ndarray, epoch: int, seed: int, dropout: float) -> Batch:
    """Images ``rows`` with this epoch's timesteps, noise and dropped labels."""
    shape = data.latents.shape[1:]
    t, noise, drop = np.empty(len(rows), np.int64), np.empty((len(rows), *shape), np.float32), np.empty(len(rows), bool)
    for at, row in enumerate(rows):
        draw = stream(seed, "finetune", int(data.classes[row]), int(row), epoch)
        t[at], drop[at], noise[at] = draw.integers(data.timesteps), draw.random() < dropout, draw.standard_normal(shape, np.float32)
    classes = torch.from_numpy(data.classes[rows].astype(np.int64))
    labels = torch.tensor(data.labels)[classes]
    return Batch(
        clean=torch.from_numpy(data.latents[rows].astype(np.float32)),
        noise=torch.from_numpy(noise),
        t=torch.from_numpy(t),
        classes=classes,
        labels=labels,
        dropped=torch.where(torch.from_numpy(drop), torch.full_like(labels, data.null), labels),
    )


def tune(
    network: nn.Module, predict: Model, criterion: Criterion, data: Data, options: Any, checkpoint: Checkpoint, report: Report
) -> list[dict[str, float]]:
    """Train the parameters of ``network`` that require gradients; returns the history: mean terms at up to 100 points.

    predict: asks the network. options: ``limbeck.config.Finetune``. With ``ema`` > 0 the network is left with the moving average.

    Raises
    ------
    ValueError: the loss is no longer a number (class, step, learning rate and last checkpoint named), or fewer images than a step
        takes.
    """
    per_epoch, steps = steps_of(len(data.latents), options.batch_size, options.accumulate, options.epochs)
    weights, size = trained(network), options.batch_size * options.accumulate
    optimiser = torch.optim.AdamW(weights.values(), lr=options.rate, weight_decay=options.weight_decay, fused=True)
    average = {name: w.detach().clone() for name, w in weights.items()} if options.ema else {}
    now = _resume(checkpoint, weights, optimiser, average, criterion)
    every = -(-steps // 100)
    order = np.empty(0, np.int64)
    for step in range(now.step, steps):
        epoch, at = divmod(step, per_epoch)
        if not len(order) or at == 0:
            order = stream(options.seed, "finetune.order", step=epoch).permutation(len(data.latents))
        rows = order[at * size : (at + 1) * size]
        value = 0.0
        for part in np.split(rows, options.accumulate):
            batch = batch_of(data, part, epoch, options.seed, options.cfg_dropout)
            terms = criterion(predict, batch)
            means = {name: term.mean() / options.accumulate for name, term in terms.items()}
            loss = torch.stack(list(means.values())).sum()
            loss.backward()
            value += loss.item()
            if not math.isfinite(value):
                name = data.called(_first_class(terms, batch))
                raise ValueError(_diverged(value, step, steps, options.rate, name, checkpoint))
            for name, mean in means.items():
                now.running[name] = now.running.get(name, 0.0) + mean.item()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            # as the priors are trained: a short memory at first
            keep = min(options.ema, (step + 1) / (step + 10))
            for name, mean in average.items():
                mean.lerp_(weights[name], 1 - keep)
        now.step, now.counted = step + 1, now.counted + 1
        if now.step % every == 0:
            point = {name: total / now.counted for name, total in now.running.items()}
            now.history.append({"step": now.step, "loss": sum(point.values()), **point})
            report(now.step, steps, now.history[-1]["loss"])
            now.running, now.counted = {}, 0
        if checkpoint.due() and now.step < steps:
            checkpoint.save(now, _state(weights, optimiser, average, criterion))
    with torch.no_grad():
        for name, mean in average.items():
            weights[name].copy_(mean)
    return now.history


def _first_class(terms: dict[str, Tensor], batch: Batch) -> int:
    """The class of the first image whose loss is no number; that of the largest where it is their sum that overflows."""
    total = torch.stack([term.detach() for term in terms.values()]).sum(dim=0).nan_to_num(nan=torch.inf)
    return int(batch.classes[int(total.argmax())])


def _diverged(value: float, step: int, steps: int, rate: float, name: str, checkpoint: Checkpoint) -> str:
    last = f"the last checkpoint, {checkpoint.path}, is of step {checkpoint.saved}"
    last = last if checkpoint.saved else "there is no checkpoint yet"
    where = f"at step {step + 1} of {steps}, first of class {name}"
    return f"the loss is {value} {where} (learning rate {rate:.2e}); lower finetune.lr; {last}"


def _state(
    weights: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer, average: dict[str, Tensor], criterion: Criterion
) -> dict[str, Tensor]:
    state = {f"weights/{name}": w for name, w in weights.items()} | {f"average/{name}": a for name, a in average.items()}
    for name, weight in weights.items():
        state |= {f"{key}/{name}": value for key, value in optimiser.state[weight].items()}
    return state | {f"criterion/{name}": value for name, value in criterion.state.items()}


@torch.no_grad()
def _resume(
    checkpoint: Checkpoint,
    weights: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    average: dict[str, Tensor],
    criterion: Criterion,
) -> Progress:
    found = checkpoint.load()
    if found is None:
        return Progress()
    progress, state = found
    for key, value in state.items():
        kind, name = key.split("/", 1)
        if kind == "weights":
            weights[name].copy_(value)
        elif kind == "average":
            average[name].copy_(value)
        elif kind == "criterion":
            criterion.state[name] = value
        else:
            # the count of steps too: a fused optimiser has it where the weights are
            optimiser.state[weights[name]][kind] = value.to(weights[name].device)
    return progress
