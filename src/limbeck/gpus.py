"""Several GPUs in one machine: every job takes one of them for as long as it runs, and sees no other."""

import fcntl
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

VARIABLE = "LIMBECK_GPUS"  # devices as CUDA numbers them, e.g. 0,1,2,3
# the stages that compute with networks
GPU_STAGES = (
    *("prior", "finetune", "encode", "reencode", "score", "patch_features", "invert", "sample"),
    *("crop", "teacher", "features", "embed", "soft_labels", "train"),
)
_held: list[IO[str]] = []  # locks of this process; the system frees them when it ends, however it ends


def take(stage: str | None) -> str | None:
    """Of the devices that ``LIMBECK_GPUS`` lists one that no other job has, once there is one; set as ``CUDA_VISIBLE_DEVICES``.

    None, and nothing happens, for a stage without networks or where the variable is not set. Call it before torch is imported.
    """
    devices = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    if stage not in GPU_STAGES or not devices:
        return None
    device, lock = claimed(devices, Path(tempfile.gettempdir()))
    _held.append(lock)
    os.environ["CUDA_VISIBLE_DEVICES"] = device
    return device


def claimed(devices: Sequence[str], folder: Path, wait: float = 0.5) -> tuple[str, IO[str]]:
    """The first device whose lock file is free, and the file, which holds the lock while it is open; tries every ``wait`` s."""
    while True:
        for device in devices:
            file = open(folder / f"limbeck-{os.getuid()}-gpu-{device.replace('/', '_')}.lock", "w")  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
            else:
                return device, file
        time.sleep(wait)
