"""Training one classifier under a protocol."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.devices import device
from limbeck.rows import Images, ahead
from limbeck.seeds import stream
from limbeck.settings import Settings
from limbeck.students.inputs import normalised, pixels
from limbeck.students.labels import Labels, divergence
from limbeck.students.views import Views

Report = Callable[[int, int, float], None]
State = dict[str, Any]
Watch = Callable[[int, nn.Module, Callable[[], State]], None]


def train(
    build: Callable[[], nn.Module],
    images: Images,
    labels: np.ndarray,
    settings: Settings,
    seed: int,
    repeat: int,
    report: Report,
    soft: Labels | None = None,
    watch: Watch | None = None,
    resume: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A trained classifier.

    Parameters
    ----------
    images, labels: (N, H, W, C) uint8 of the input's size, and (N,).
    seed, repeat: name the streams of initial weights, batches and views; the same for every method, so comparisons are paired.
    soft: where the labels come from if they are a teacher's.
    watch: called with (epochs done, model, state) at every epoch of ``Views.evaluated``; state() is what ``resume`` takes.

    Raises
    ------
    FloatingPointError: the loss is not a number, or the weights that it leaves are not, which is looked for where a student is
        tested and at the end; the message names the epoch and the learning rate.
    """
    views = Views(settings, len(images), seed, repeat)
    with torch.random.fork_rng():
        torch.manual_seed(_seed(seed, "init", repeat))
        model = build().to(where := device())
        optimiser = make_optimiser(model, settings)
        start = 0
        if resume is not None:
            model.load_state_dict(resume["model"])
            optimiser.load_state_dict(resume["optimiser"])
            start = resume["epoch"]
        y = torch.from_numpy(labels.astype(np.int64)).to(where)
        stops = set(views.evaluated())
        for epoch in range(start, views.epochs):
            torch.manual_seed(_seed(seed, "dropout", repeat, epoch))
            loss = _epoch(model.train(), optimiser, views, epoch, images, y, soft)
            whole = math.isfinite(loss) and (epoch + 1 not in stops | {views.epochs} or finite(model))
            if not whole:
                what = "the weights are not numbers after" if math.isfinite(loss) else f"the loss is {loss} at"
                rate = views.rate(epoch * views.per_epoch)
                raise FloatingPointError(f"{what} epoch {epoch + 1} of {views.epochs} (learning rate {rate:.1e})")
            report(epoch + 1, views.epochs, loss)
            if watch is not None and epoch + 1 in stops:
                done = epoch + 1
                watch(done, model.eval(), lambda: {"epoch": done, "model": model.state_dict(), "optimiser": optimiser.state_dict()})  # noqa: B023
    return model.eval()


def finite(model: nn.Module) -> bool:
    """Whether all its weights and statistics are numbers."""
    return all(bool(torch.isfinite(values).all()) for values in model.state_dict().values() if values.is_floating_point())


def _seed(seed: int, what: str, repeat: int, epoch: int = 0) -> int:
    return int(stream(seed, f"train.{what}", item=repeat, step=epoch).integers(2**62))


def make_optimiser(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """The protocol's, over groups with and without weight decay."""
    decayed = [p for p in model.parameters() if settings.decay == "all" or p.ndim > 1]
    rest = [p for p in model.parameters() if not (settings.decay == "all" or p.ndim > 1)]
    groups: list[dict[str, Any]] = [{"params": decayed}, *([{"params": rest, "weight_decay": 0.0}] if rest else [])]
    # fused: every parameter's step is one operation, not ten
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=True)


def _epoch(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    views: Views,
    epoch: int,
    images: Images,
    y: Tensor,
    soft: Labels | None,
) -> float:
    """One epoch; its mean loss."""
    total = torch.zeros((), device=y.device)
    number = 0
    for number, (batch, own_images) in enumerate(ahead(images, views.epoch(epoch), lambda batch: batch.rows), 1):
        x, kept = views.seen(pixels(own_images).to(y.device), batch)
        logits = model(normalised(x, views.settings.normalise))
        if soft is not None:
            loss = divergence(logits, soft(epoch, batch, x), views.settings.temperature)
        else:
            own = y[torch.from_numpy(batch.rows)]
            loss = F.cross_entropy(logits, own)
            if views.settings.mix is not None:
                other = own[torch.from_numpy(batch.other)]
                loss = kept * loss + (1 - kept) * F.cross_entropy(logits, other)
        for group in optimiser.param_groups:
            group["lr"] = views.rate(epoch * views.per_epoch + number - 1)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += loss.detach()
    return float(total) / number
