"""Testing classifiers, and what a confusion says of the order of their classes."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from limbeck.devices import Fitting
from limbeck.rows import Images, ahead
from limbeck.students.inputs import Normalisation, network_input

# standard errors by which another assignment of classes must explain more images than the labels do
CLEARLY = 3.0
# images of a batch: a ConvNet of width 32 then has no activations of 32 MB, which glibc gives back to the kernel after every layer
MOST = 250
PIXELS = 1 << 22  # of a batch, which bounds the memory of its activations: 64 images of 256 x 256


@torch.inference_mode()
def predict(model: nn.Module, images: Images, normalise: Normalisation) -> np.ndarray:
    """(N,) predicted class of every image (N, H, W, C) uint8."""
    device, fitting = next(model.parameters()).device, Fitting()
    batch = min(MOST, max(1, PIXELS // (images.shape[1] * images.shape[2])))

    def classes(part: np.ndarray) -> np.ndarray:
        return model(network_input(part, normalise).to(device)).argmax(1).cpu().numpy()

    parts = (slice(i, i + batch) for i in range(0, len(images), batch))
    return np.concatenate([found for _, part in ahead(images, parts, lambda part: part) for found in fitting(classes, part)])


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Share of right predictions."""
    return float((predicted == labels).mean())


def per_class(predicted: np.ndarray, labels: np.ndarray, classes: int) -> list[float | None]:
    """Accuracy within every class; None for one without images."""
    return [accuracy(predicted[labels == c], labels[labels == c]) if (labels == c).any() else None for c in range(classes)]


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes) images by their label and the class that they are taken for."""
    return np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes**2).reshape(classes, classes)


def permuted(predicted: np.ndarray, labels: np.ndarray, classes: int) -> list[tuple[int, int]]:
    """(label, the class that its images are taken for) of every class that another order of classes explains clearly better.

    The best assignment of predicted classes to labels is compared with the identity, class by class, on the images of the classes
    that it moves: a bad classifier confuses, but not one class with one other so often that both names fit better exchanged.
    """
    found = confusion(predicted, labels, classes)
    _, best = linear_sum_assignment(-found)
    moved = np.flatnonzero(best != np.arange(classes))
    if not len(moved):
        return []
    gain = found[moved, best[moved]] - found[moved, moved]
    images, agreed = found[moved].sum(), found[moved, best[moved]].sum()
    clear = gain.sum() > CLEARLY * np.sqrt(images) and agreed > images / 2
    # a class that merely moves because another did stays out
    return [(int(c), int(best[c])) for c, g in zip(moved, gain, strict=True) if clear and g > 0]


def order_complaint(found: Sequence[tuple[int, int]], names: Sequence[str]) -> str:
    """What ``permuted`` found, in words."""
    shown = "; ".join(f"those of {names[label]!r} look like {names[taken]!r}" for label, taken in found[:4])
    return shown + (f"; and {len(found) - 4} more classes" if len(found) > 4 else "")
