"""What a dry run of ImageNet-1K takes before any job: 50 shards, 3 IPC, 6 methods, 3 seeds, over as many (empty) files."""

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from snakemake.utils import update_config

from benchmarks.measure import Line, alone, judged
from limbeck.data.benchmarks import members

SECONDS, MEGABYTES = 60, 2000  # what it may take
OVERLAY: dict[str, Any] = {
    "run": {"ipc": [10, 50, 100], "methods": ["random", "dit", "mgd", "coda", "d3hr", "s3"], "seeds": [0, 1, 2]},
    "datasets": {"imagenet1k": {"shards": 50}},
}
TRAIN, TEST = 1281, 50  # images per class


def tree(root: Path, train: int, test: int) -> Path:
    """ImageNet's folders with so many empty files in each."""
    for split, count in (("train", train), ("val", test)):
        for wnid in members("imagenet1k"):
            folder = root / split / wnid
            folder.mkdir(parents=True)
            for number in range(count):
                os.close(os.open(f"{folder}/{wnid}_{number}.JPEG", os.O_CREAT | os.O_WRONLY))
    return root


def arguments(folder: Path, images: Path, overlay: dict[str, Any]) -> list[str]:
    """Snakemake's for a run on the images of a folder, in another; ``overlay`` goes over ImageNet-1K's config."""
    file = folder / "overlay.yaml"
    update_config(overlay, {"datasets": {"imagenet1k": {"path": str(images)}}, "teachers": {"resnet18": {"weights": None}}})
    file.write_text(yaml.safe_dump(overlay))
    return ["-n", "--directory", str(folder), "--configfile", "config.yaml", "workflow/configs/imagenet1k.yaml", str(file)]


def run(folder: Path) -> list[Line]:
    """One line: seconds and their share of what is allowed."""
    images = tree(folder / "imagenet", TRAIN, TEST)
    with patch.dict(os.environ, {"HF_HUB_OFFLINE": "0"}):  # the prior's name is enough here
        used = alone([*arguments(folder, images, OVERLAY), "--quiet", "all"], module="snakemake")
    line: Line = {"benchmark": "planning", "case": "snakemake -n of ImageNet-1K in 50 shards", "ratio": used.seconds / SECONDS}
    line |= {"of": f"the {SECONDS} s allowed", "seconds": used.seconds, "peak_mb": used.peak_mb}
    return [judged(line, seconds=(None, SECONDS), peak_mb=(None, MEGABYTES))]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        print(run(Path(place)))
