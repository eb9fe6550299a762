"""Counter-based random streams: every draw is addressed, none depends on what was drawn before it.

A stream is named by ``(seed, stage, class_id, item, step)``. The name is hashed into a 128-bit Philox key, so the
noise of an image is the same whatever the batch, shard, device or order of jobs. Draws happen on the CPU.
"""

import hashlib
import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream(seed: int, stage: str, class_id: int = 0, item: int = 0, step: int = 0) -> np.random.Generator:
    """The generator of one named stream.

    Parameters
    ----------
    seed: the run's seed, any integer that fits 64 bits.
    stage: who draws, e.g. ``"sample"``; part of the name, so two stages never share numbers.
    class_id, item, step: which class, which image of it, which step.
    """
    name = struct.pack("<4q", seed, class_id, item, step) + stage.encode()
    key = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))


def normal(shape: tuple[int, ...], seed: int, stage: str, class_id: int = 0, item: int = 0, step: int = 0) -> "torch.Tensor":
    """A standard normal float32 tensor of ``shape`` from one named stream."""
    import torch

    return torch.from_numpy(stream(seed, stage, class_id, item, step).standard_normal(shape, dtype=np.float32))


def torch_generator(seed: int, stage: str, class_id: int = 0, item: int = 0, step: int = 0) -> "torch.Generator":
    """A torch CPU generator whose state is derived from one named stream (for training loops)."""
    import torch

    return torch.Generator().manual_seed(int(stream(seed, stage, class_id, item, step).integers(2**63)))
