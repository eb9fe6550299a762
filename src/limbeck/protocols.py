"""Training protocols by name, as typed data. A number without a protocol's name means nothing; later work only adds rows."""

from dataclasses import asdict, dataclass
from typing import Any

from limbeck.errors import LimbeckError


@dataclass(frozen=True)
class Protocol:
    """How a classifier is trained on a set.

    steps: {largest IPC: optimiser steps}; None stands for "any more". shift: largest random translation, pixels.
    flip: mirror half of the images. cutmix: alpha of its Beta distribution, 0 for none.
    """

    steps: dict[int | None, int]
    batch_size: int
    lr: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    shift: int = 0
    flip: bool = False
    cutmix: float = 0.0

    def steps_for(self, ipc: int) -> int:
        """Optimiser steps for a set of ``ipc`` images per class."""
        for limit in sorted(k for k in self.steps if k is not None):
            if ipc <= limit:
                return self.steps[limit]
        return self.steps[None]

    def spec(self) -> dict[str, Any]:
        """As JSON-able parameters."""
        return {**asdict(self), "steps": {str(k): v for k, v in self.steps.items()}}


PROTOCOLS: dict[str, Protocol] = {
    # The embedded benchmark's: chosen once on random real images with the training set as the judge, never tuned per method.
    "tiny-hard": Protocol(steps={1: 1000, 10: 1200, 50: 1500, None: 4000}, batch_size=25, lr=0.02, shift=2, cutmix=1.0),
    # The teacher sees the whole real training set: 26 epochs of 5,000 images, 9 of 60,000.
    "tiny-teacher": Protocol(steps={500: 2000, None: 8000}, batch_size=64, lr=0.03, shift=2),
    # To see a whole run end in seconds; the numbers mean nothing.
    "smoke": Protocol(steps={None: 15}, batch_size=20, lr=0.02),
    "smoke-teacher": Protocol(steps={None: 60}, batch_size=64, lr=0.03),
}


def get(name: str, key: str) -> Protocol:
    """The protocol ``name``; an unknown one is an error that names the config key."""
    if name not in PROTOCOLS:
        raise LimbeckError(f"{key}: unknown protocol {name!r}; choose one of {sorted(PROTOCOLS)}")
    return PROTOCOLS[name]
