"""Training and testing one classifier under a protocol."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.protocols import Protocol
from limbeck.seeds import torch_generator

Report = Callable[[int, int, float], None]


def to_input(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, C) to float32 (N, C, H, W) on [-1, 1]."""
    return _plain(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1)


def _plain(x: Tensor) -> Tensor:
    """Strides of the default memory format. A permuted image of one channel passes for either format, so ``contiguous`` leaves it,
    and convolutions then take the other one, in which the rest of a ConvNet is slower.
    """
    return x.clone(memory_format=torch.contiguous_format)


def shift_images(x: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Translate each image by up to ``pixels`` in both directions, filled with the darkest value (-1)."""
    n, _, h, w = x.shape
    padded = F.pad(x, (pixels,) * 4, value=-1.0)
    dy, dx = torch.randint(0, 2 * pixels + 1, (2, n), generator=generator)
    rows = dy[:, None] + torch.arange(h)
    cols = dx[:, None] + torch.arange(w)
    return _plain(padded[torch.arange(n)[:, None, None], :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2))


def cutmix(x: Tensor, labels: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Paste one box of a shuffled batch into the batch (Yun et al. 2019); returns the mixed images, the other labels and
    the share that keeps its own label. lambda ~ Beta(alpha, alpha), drawn as the closed form where alpha = 1."""
    n, _, h, w = x.shape
    u = torch.rand(3, generator=generator).tolist()
    lam = u[0] if alpha == 1 else float(np.random.Generator(np.random.Philox(int(u[0] * 2**53))).beta(alpha, alpha))
    side = math.sqrt(1 - lam)
    cy, cx = u[1] * h, u[2] * w
    y0, y1 = (int(min(max(cy + sign * side * h / 2, 0), h)) for sign in (-1, 1))
    x0, x1 = (int(min(max(cx + sign * side * w / 2, 0), w)) for sign in (-1, 1))
    order = torch.randperm(n, generator=generator)
    mixed = x.clone()
    mixed[:, :, y0:y1, x0:x1] = x[order, :, y0:y1, x0:x1]
    return mixed, labels[order], 1 - (y1 - y0) * (x1 - x0) / (h * w)


def augment(x: Tensor, protocol: Protocol, generator: torch.Generator) -> Tensor:
    """The protocol's label-preserving augmentation of a batch."""
    if protocol.flip:
        mask = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(mask[:, None, None, None], x.flip(3), x)
    if protocol.shift:
        x = shift_images(x, protocol.shift, generator)
    return x


def train(
    build: Callable[[], nn.Module],
    images: np.ndarray,
    labels: np.ndarray,
    protocol: Protocol,
    steps: int,
    seed: int,
    item: int,
    report: Report,
) -> nn.Module:
    """A trained classifier.

    Parameters
    ----------
    images, labels: (N, H, W, C) uint8 and (N,).
    seed, item: name the stream of initial weights, batches and augmentations; the same for every method, so comparisons are paired.

    Raises
    ------
    FloatingPointError: the loss is not a number; the message names the step and the learning rate.
    """
    generator = torch_generator(seed, "train", item=item)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        model = build().train()
    x, y = to_input(images), torch.from_numpy(labels.astype(np.int64))
    optimiser = torch.optim.SGD(model.parameters(), lr=protocol.lr, momentum=protocol.momentum, weight_decay=protocol.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order, used = torch.randperm(len(x), generator=generator), 0
    for step in range(steps):
        if used + min(protocol.batch_size, len(x)) > len(x):
            order, used = torch.randperm(len(x), generator=generator), 0
        batch = order[used : used + protocol.batch_size]
        used += len(batch)
        loss = _loss(model, x[batch], y[batch], protocol, generator)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} at step {step} of {steps} (learning rate {scheduler.get_last_lr()[0]:.2e})"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        scheduler.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            report(step + 1, steps, value)
    return model.eval()


def _loss(model: nn.Module, x: Tensor, y: Tensor, protocol: Protocol, generator: torch.Generator) -> Tensor:
    x = augment(x, protocol, generator)
    if not protocol.cutmix:
        return F.cross_entropy(model(x), y)
    mixed, other, kept = cutmix(x, y, protocol.cutmix, generator)
    logits = model(mixed)
    return kept * F.cross_entropy(logits, y) + (1 - kept) * F.cross_entropy(logits, other)


@torch.inference_mode()
def predict(model: nn.Module, images: np.ndarray, batch: int = 500) -> np.ndarray:
    """(N,) predicted class of every image."""
    return np.concatenate([model(to_input(images[i : i + batch])).argmax(1).numpy() for i in range(0, len(images), batch)])
