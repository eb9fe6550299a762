"""Whose labels a student learns: the images' own, or a teacher's of every augmented image."""

import functools
from collections.abc import Callable, Sequence
from typing import Protocol as Typed

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.students.inputs import Normalisation, normalised
from limbeck.students.views import Batch

Packed = dict[str, np.ndarray]


class Network(Typed):
    """A trained classifier and the input that it takes."""

    model: torch.nn.Module
    size: int
    normalise: Normalisation


class Labels(Typed):
    """Where soft labels come from."""

    def __call__(self, epoch: int, batch: Batch, x: Tensor) -> Tensor:
        """(b, classes) logits, rounded as stored, of the images x on [0, 1] that the student sees of a batch of an epoch."""


@torch.inference_mode()
def teacher_logits(teachers: Sequence[Network], x: Tensor, temperature: float) -> Tensor:
    """(b, classes) logits of images (b, C, H, W) on [0, 1]; of several teachers those whose softmax at T is the mean of theirs."""
    found = []
    for teacher in teachers:
        side = teacher.size
        scaled = x if x.shape[2] == side else F.interpolate(x, (side, side), mode="bilinear", antialias=True)
        found.append(teacher.model(normalised(scaled, teacher.normalise)))
    if len(found) == 1:
        return found[0]
    return temperature * torch.stack([F.log_softmax(z / temperature, 1) for z in found]).logsumexp(0)


def pack(logits: Tensor, top_k: int | None, temperature: float) -> Packed:
    """Logits (b, C) as they are stored: halves; with ``top_k`` the largest, their classes and one value for all others, so that the
    probability these have at T is spread evenly (Shen & Xing 2022, marginal smoothing).
    """
    if top_k is None or top_k >= logits.shape[1]:
        return {"logits": _halves(logits)}
    values, classes = logits.topk(top_k, dim=1)
    others = logits.scatter(1, classes, -torch.inf)
    rest = temperature * ((others / temperature).logsumexp(1) - np.log(logits.shape[1] - top_k))
    return {"logits": _halves(values), "indices": classes.cpu().numpy().astype(np.uint16), "rest": _halves(rest)}


def _halves(values: Tensor) -> np.ndarray:
    return values.clamp(-6e4, 6e4).half().cpu().numpy()


def unpack(packed: Packed, classes: int) -> Tensor:
    """(b, classes) float32 logits."""
    logits = torch.from_numpy(packed["logits"]).float()
    if "indices" not in packed:
        return logits
    rest = torch.from_numpy(packed["rest"]).float()[:, None].expand(-1, classes).clone()
    return rest.scatter(1, torch.from_numpy(packed["indices"].astype(np.int64)), logits)


class Online:
    """Labels of teachers that look on, rounded as a store of them would have it."""

    def __init__(self, teachers: Sequence[Network], classes: int, top_k: int | None, temperature: float):
        self.teachers, self.classes, self.top_k, self.temperature = teachers, classes, top_k, temperature

    def __call__(self, epoch: int, batch: Batch, x: Tensor) -> Tensor:  # noqa: ARG002
        """See ``Labels``."""
        return unpack(self.packed(x), self.classes).to(x.device)

    def packed(self, x: Tensor) -> Packed:
        """As stored."""
        return pack(teacher_logits(self.teachers, x, self.temperature), self.top_k, self.temperature)


class Cached:
    """Labels that were stored by (epoch, image); stored: reads an epoch's. One is in memory."""

    def __init__(self, stored: Callable[[int], Packed], classes: int):
        self.stored, self.classes = functools.lru_cache(maxsize=1)(stored), classes

    def __call__(self, epoch: int, batch: Batch, x: Tensor) -> Tensor:
        """See ``Labels``."""
        return unpack({name: values[batch.rows] for name, values in self.stored(epoch).items()}, self.classes).to(x.device)


def divergence(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) at T from logits (b, C), the batch's mean, without a factor T² (RDED)."""
    student = F.log_softmax(logits / temperature, dim=1)
    return F.kl_div(student, F.log_softmax(target / temperature, dim=1), reduction="batchmean", log_target=True)
