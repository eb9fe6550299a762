"""Numbers that went wrong: what is not one ends the stage with its class and step, what grows beyond reason is said aloud."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open
from torch import Tensor, isfinite

from limbeck.errors import LimbeckError
from limbeck.store import Writer
from limbeck.terminal import say

# Root mean square of x0_hat over its dimensions. Latents have a variance of 1 by their scaling factor. Measured with the embedded
# prior, largest over steps: real latents 1.3; guidance and scale as shipped 1.3, CoDA 1.5; cfg_scale 4: 3, 15: 11, 50: 38; CoDA's
# gamma times 10: 12, times 100: beyond the artifact's range.
DIVERGED = 10.0
WEIGHTS = "are the prior's weights whole, and do they compute in this precision? set priors.*.compute: float32"


def append(out: Writer, values: Mapping[str, np.ndarray], where: str, remedy: str) -> None:
    """Add rows to a writer's arrays.

    Raises
    ------
    LimbeckError: values beyond an array's range, or not numbers: ``where`` (the class) and what to do.
    """
    for name, rows in values.items():
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what a half cannot hold is out of range
                out.append(name, rows)
        except ValueError as error:
            if "not numbers" not in str(error):
                raise
            raise LimbeckError(f"{where}: {error}; {remedy}") from None


class Watch:
    """Says of every class once that its |x0_hat| diverges, and in how many it did."""

    def __init__(self, artifact: Path, dims: int, steps: int):
        self.artifact, self.expected, self.steps = artifact, math.sqrt(dims), steps
        self.diverged: set[str] = set()

    def __call__(self, name: str, x0_norms: np.ndarray) -> None:
        """Of a batch (N, steps) of a class."""
        largest = x0_norms.max(axis=0)
        step = int(largest.argmax())
        if largest[step] <= DIVERGED * self.expected or name in self.diverged:
            return
        self.diverged.add(name)
        say(
            f"warning: {self.artifact}: class {name!r}: |x0_hat| is {largest[step]:.4g} at step {step + 1} of {self.steps}, where "
            f"{self.expected:.4g} is expected; a lower cfg_scale or guidance weight keeps it from diverging"
        )

    def close(self, classes: int) -> None:
        """The closing count."""
        if self.diverged:
            say(f"warning: {self.artifact}: |x0_hat| diverged in {len(self.diverged)} of {classes} classes")


def first_bad(values: Tensor, labels: np.ndarray, classes: Sequence[str]) -> str | None:
    """The class of the first of N samples that has a value which is no number; None where all are numbers."""
    bad = ~isfinite(values).flatten(1).all(dim=1).cpu().numpy()
    return classes[int(labels[bad][0])] if bad.any() else None


def check_weights(folder: Path, where: str, remedy: str) -> None:
    """Refuse a prior of whose weights one is no number.

    Raises
    ------
    LimbeckError: the prior by ``where``, the file, the first such tensor and what to do.
    """
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                values = file.get_tensor(name)
                if values.is_floating_point() and not isfinite(values).all():
                    raise LimbeckError(f"{where}: {name} in {path.relative_to(folder)} has weights that are not numbers; {remedy}")
