"""Where networks compute, and how much of a batch fits there.

Networks alone are moved, and their inputs and outputs with every call: random draws, latents, schedules, guidance and all that is
stored are on the CPU, so the same code runs on any device. Which one it is is no parameter of an artifact.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from limbeck.errors import LimbeckError

VARIABLE = "LIMBECK_DEVICE"  # what --device sets
AUTO = "auto"
T = TypeVar("T")


def device() -> torch.device:
    """The device that was asked for; ``auto``: CUDA where there is one, else the CPU.

    Raises
    ------
    LimbeckError: it is not there.
    """
    name = os.environ.get(VARIABLE) or AUTO
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there["cuda"] and name in (AUTO, "cuda"):
        repeatable()
        return torch.device("cuda")
    if name == AUTO:
        return torch.device("cpu")
    if name not in there:
        raise LimbeckError(f"--device ({VARIABLE}): unknown device {name!r}; choose one of {[AUTO, *there]}")
    if not there[name]:
        found = ", ".join(each for each, present in there.items() if present)
        raise LimbeckError(f"--device ({VARIABLE}): torch {torch.__version__} finds no {name} here, but {found}; set that, or auto")
    return torch.device(name)


def repeatable() -> None:
    """From here on a GPU gives the same bytes in every run: cuDNN and cuBLAS take algorithms that add up in one order.

    A kernel that has no such form warns. That convolutions are rounded to TF32's 10 bits, torch's default, stays.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA is first used
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # for debugging, and slow


def cores() -> int:
    """The CPU's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Fitting:
    """Calls a function on a batch, in as few equal pieces as the device's memory takes.

    A batch that does not fit is halved, and later ones are cut to what was found to fit. Each image's result is its own, so this
    changes it by rounding at most.
    """

    def __init__(self) -> None:
        self.most: int | None = None  # images that fit, once that is known

    def __call__(self, function: Callable[..., T], *batch: Any) -> list[T]:
        """The results of its pieces, in order. batch: arguments that are cut along their first axis, (N, …).

        Raises
        ------
        LimbeckError: one image is too many.
        """
        found: list[T] = []
        start, n = 0, len(batch[0])
        while start < n:
            stop = min(n, start + (self.most or n))
            try:
                found.append(function(*(part[start:stop] for part in batch)))
                start = stop
                continue
            except torch.OutOfMemoryError as error:
                said = " ".join(str(error).split())[:200]
            # outside the handler: until it is left the error keeps what had been computed
            if stop - start == 1:
                raise LimbeckError(f"not even one image fits into the device's memory; set --device cpu ({said})")
            self.most = (stop - start + 1) // 2
            _release()
        return found


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Pieces of a batch as one."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _release() -> None:
    """Give back what torch keeps of the failed attempt."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
