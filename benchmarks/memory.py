"""What the stages take of memory at three sizes, against what ``limbeck.resources`` asks a scheduler for."""

import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from snakemake.utils import update_config

from benchmarks.measure import Line, alone, judged
from limbeck.config import Config, DitTraining, VaeTraining
from limbeck.data.sources.arrays import FASHION_CLASSES
from limbeck.plan import Plan
from limbeck.resources import estimate

STEPS = 3  # of sampling: more take no more memory
# what a formula may say of a measured M megabytes: from M to 3 M + 600
FACTOR, ROOM = 3, 600


@dataclass(frozen=True)
class Case:
    """A synthetic set with a random prior and a student. per_class: training images; a fifth of them is the test set."""

    name: str
    per_class: int
    side: int
    channels: int
    ipc: int
    vae: tuple[int, ...]
    dit: DitTraining
    student: str


CASES = (
    Case("600 images of 32", 60, 32, 1, 2, (16, 32, 64), DitTraining(layers=2, heads=2, head_dim=16), "convnet3-w32"),
    Case("5,000 images of 32", 500, 32, 1, 50, (16, 32, 64), DitTraining(layers=6, heads=5, head_dim=32), "convnet3"),
    Case("1,000 images of 128", 100, 128, 3, 10, (64, 128, 128, 128), DitTraining(layers=8, heads=8, head_dim=64), "resnet18"),
)


def dataset(case: Case, path: Path) -> None:
    """Noise whose brightness tells the class, class by class, as an npz of one's own."""
    rng, arrays = np.random.default_rng(0), {"classes": np.array(FASHION_CLASSES)}
    for split, count in (("train", case.per_class), ("test", case.per_class // 5)):
        n = 10 * count
        shape = (n, case.side, case.side, case.channels)
        labels = np.repeat(np.arange(10), count).astype(np.uint8)
        pixels = rng.integers(0, 64, shape, dtype=np.uint8) + (20 * labels)[:, None, None, None]
        arrays[f"{split}_images"] = pixels.squeeze()
        arrays[f"{split}_labels"] = labels
        arrays[f"{split}_ids"] = np.arange(n)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def prior(case: Case, folder: Path) -> None:
    """A random one."""
    import torch

    from limbeck.priors import dit
    from limbeck.priors.training import build_dit, build_vae
    from limbeck.stages.prior import SCHEDULER

    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = build_vae(case.channels, case.side, VaeTraining(block_out_channels=case.vae))
        model = build_dit(4, case.side // 2 ** (len(case.vae) - 1), 10, case.dit)
    dit.save(folder, model, vae, SCHEDULER, dict(enumerate(FASHION_CLASSES)))


def planned(case: Case, folder: Path) -> Plan:
    """The plan of a run of one guided method."""
    config = Config().model_dump(mode="json", exclude_unset=True)
    view = {"v": {"size": case.side, "resize": "pad"}}
    run = {"datasets": ["d"], "ipc": [case.ipc], "prior": "p", "methods": ["mgd"], "references": [], "repeats": 1, "held_out": 0}
    overlay: dict[str, Any] = {
        "results": str(folder / "results"),
        "run": {**run, "protocols": ["smoke"], "students": [case.student], "teacher": "t"},
        "datasets": {"d": {"source": "npz", "path": str(folder / "d.npz"), "channels": case.channels, "views": view}},
        "priors": {"p": {"weights": str(folder / "p"), "view": "v"}},
        "methods": {"mgd": {"base": "mgd", "steps": STEPS, "t_stop": 2}},
        "teachers": {"t": {"student": case.student, "protocol": "smoke-teacher"}},
    }
    update_config(config, overlay)
    return Plan(config)


def jobs(plan: Plan, case: Case) -> Iterator[tuple[str, dict[str, str], str]]:
    """(stage, wildcards, options of the command) in the order that they need each other."""
    images, test = plan.images("d", "train")[0], plan.images("d", "test")[0]
    latents, method = plan.latents("d", 0), plan.method("mgd", case.ipc, "d")
    cell, index = plan.cell("d", "mgd", case.ipc, 0), f"{plan.root}/priors/p/model_index.json"
    prototypes, teacher = plan.prototypes("d", method, case.ipc, 0, 0), f"{plan.root}/d/teachers/t"
    shard, made = f"{cell}/distilled-0.zarr.zip", f"--teacher {teacher}/model.safetensors --record {teacher}/teacher.json"
    one = {"dataset": "d", "shard": "0", "ipc": str(case.ipc), "seed": "0", "view": "v", "vae": "p", "prior": "p", "method": "mgd"}
    features = {split: plan.features("d", split, "teacher")[0] for split in ("train", "test")}
    own = plan.distilled_features("d", "mgd", case.ipc, 0, "teacher")[0]
    yield "ingest", {**one, "split": "train"}, f"--images {images}"
    yield "ingest", {**one, "split": "test"}, f"--images {test}"
    yield "prior", one, f"--images '' --index {index}"
    yield "encode", one, f"--images {images} --prior {index} --latents {latents}"
    yield "select", {**one, "discovery": method.discovery_name}, f"--points {latents} --prototypes {prototypes}"
    yield "sample", one, f"--images {images} --prior {index} --prototypes {prototypes} --distilled {shard}"
    files = f"--weights {teacher}/model.safetensors --record {teacher}/teacher.json"
    yield "teacher", {**one, "teacher": "t"}, f"--train '{images}' --test '{test}' {files}"
    for split, source in (("train", images), ("test", test)):
        yield "features", {**one, "split": split, "extractor": "teacher"}, f"--images {source} {made} --features {features[split]}"
    yield "embed", {**one, "extractor": "teacher"}, f"--images {shard} {made} --features {own}"
    sets = f"--distilled '{own}' --images '{shard}' --train '{features['train']}' --test '{features['test']}'"
    yield "measure", {**one, "extractor": "teacher"}, f"{sets} --metrics {cell}/metrics.json"
    trained = f"--distilled '{shard}' --test '{test}' --teachers '' --stored '' --result {cell}/student.json"
    yield "train", {**one, "protocol": "smoke", "student": case.student}, trained


def measured(case: Case, folder: Path) -> Iterator[Line]:
    """Every job of a case: its peak, what its formula says, and their ratio."""
    folder.mkdir()
    dataset(case, folder / "d.npz")
    prior(case, folder / "p")
    plan = planned(case, folder)
    for stage, w, options in jobs(plan, case):
        about = ["--threads", "1", stage, "--spec", plan.spec(stage, w)]
        used = alone([*about, *shlex.split(options), "--prov", str(folder / "prov.json")])
        asked = estimate(plan, stage, w).memory.cpu
        line: Line = {"benchmark": "memory", "case": f"{stage}, {case.name}", "seconds": used.seconds, "peak_mb": used.peak_mb}
        line |= {"ratio": asked / used.peak_mb, "of": "its peak, by its formula"}
        yield judged(line, ratio=(1, round(FACTOR + ROOM / used.peak_mb, 2)))


def run(folder: Path) -> list[Line]:
    """One line per stage and size."""
    return [line for number, case in enumerate(CASES) for line in measured(case, folder / f"case{number}")]


def main() -> int:
    """All of it; the status says whether every formula is within its bounds."""
    with tempfile.TemporaryDirectory() as place:
        lines = run(Path(place))
    for line in lines:
        result = "met" if line["met"] else "MISSED"
        print(f"{line['case']:32} {line['peak_mb']:6.0f} MB; {line['ratio']:.2f} x {line['of']}; {line['target']}: {result}")
    return int(not all(line["met"] for line in lines))


if __name__ == "__main__":
    sys.exit(main())
