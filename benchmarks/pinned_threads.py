"""Two pinned jobs side by side on 2 cores take no longer than the same two in turn."""

import json
from pathlib import Path

import numpy as np

from benchmarks.measure import Line, alone, judged, together
from limbeck.artifacts import IMAGES
from limbeck.protocols import PROTOCOLS
from limbeck.store import create
from limbeck.students.registry import architecture


def run(folder: Path) -> list[Line]:
    """Time of two student trainings at once over their time in turn; pinned to 1 thread each, and unpinned."""
    rng = np.random.default_rng(0)
    path = folder / "set.zarr.zip"
    shapes = {"images": (100, 32, 32, 1), "labels": (100,), "source_ids": (100, 1)}
    with create(path, IMAGES, shapes, {}, {}, classes=[str(c) for c in range(10)], class_range=[0, 10]) as out:
        out.append("images", rng.integers(0, 256, (100, 32, 32, 1), dtype=np.uint8))
        out.append("labels", np.arange(100) // 10)
        out.append("source_ids", np.full((100, 1), 48, np.uint8))
    settings = PROTOCOLS["tiny-hard"].settings(10, 10, "convnet").model_copy(update={"steps": 600})
    spec = {
        "architecture": architecture("convnet3-w32"),
        "protocol": "tiny-hard",
        "settings": settings.model_dump(mode="json"),
        "teachers": [],
        "seed": 0,
        "repeats": 1,
        "code": "x",
    }

    def job(name: str, threads: int) -> list[str]:
        files = ["--distilled", str(path), "--test", str(path), "--result", str(folder / f"{name}.json")]
        return ["--threads", str(threads), "train", "--spec", json.dumps(spec), *files, "--prov", str(folder / f"{name}.prov.json")]

    turn = sum(alone(job(name, 1)).seconds for name in ("a", "b"))
    lines: list[Line] = []
    for case, threads in (("two at once, 1 thread each", 1), ("two at once, 2 threads each", 2)):
        used = together(job("a", threads), job("b", threads))
        seconds = max(u.seconds for u in used)
        line: Line = {"benchmark": "train", "case": case, "seconds": seconds, "peak_mb": max(u.peak_mb for u in used)}
        line |= {"ratio": seconds / turn, "of": "time in turn"}
        lines.append(judged(line, ratio=(None, 1)) if threads == 1 else line)
    return lines
