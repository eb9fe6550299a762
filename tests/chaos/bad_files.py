"""Damaged files of datasets, priors and rates: read, or refused in one line that names the dataset, key or file."""

import gzip
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from limbeck.config import Dataset
from limbeck.costs.rates import SHIPPED, load
from limbeck.data.decoding import decode
from limbeck.data.folders import class_files
from limbeck.data.paths import package_path
from limbeck.data.sources import open_source
from limbeck.data.sources.base import SPLITS, Source
from limbeck.errors import LimbeckError
from limbeck.stages import ingest
from tests import miniatures
from tests.chaos.bad_configs import ODD_NUMBERS, ODD_STRINGS, ROOT, judge, mutated
from tests.chaos.bad_images import damaged, files
from tests.chaos.messages import in_one_line

WNIDS = ("n02086240", "n02087394", "n02088364")
WEIGHTS = ".safetensors"
HEADER = 40_000  # bytes of weights that are damaged; what follows are numbers, which the manifest's hash guards


def _npz(root: Path) -> dict[str, Any]:
    rng, labels = np.random.default_rng(0), np.arange(12) % 3
    images = {f"{split}_images": rng.integers(0, 256, (12, 8, 8), np.uint8) for split in SPLITS}
    classes = {"classes": np.array(["a", "b", "c"]), **{f"{split}_labels": labels for split in SPLITS}}
    np.savez_compressed(root / "set.npz", **images, **classes)
    return {"source": "npz", "path": str(root / "set.npz")}


def _idx(root: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    arrays = {"images-idx3": rng.integers(0, 256, (9, 6, 6), np.uint8), "labels-idx1": (np.arange(9) % 3).astype(np.uint8)}
    for split, zipped in (("train", True), ("t10k", False)):
        for name, values in arrays.items():
            content = np.array([0x0800 + values.ndim, *values.shape], ">i4").tobytes() + values.tobytes()
            path = root / f"{split}-{name}-ubyte{'.gz' * zipped}"
            path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return {"source": "idx", "path": str(root)}


def _cifar(root: Path, binary: bool = False) -> dict[str, Any]:
    return {"source": "cifar", "path": str(miniatures.cifar100(root, 2, binary=binary))}


def _tiny_imagenet(root: Path) -> dict[str, Any]:
    return {"source": "tiny_imagenet", "path": str(miniatures.tiny_imagenet(root, WNIDS, 2))}


def _folder(root: Path) -> dict[str, Any]:
    return {"source": "folder", "path": str(miniatures.folders(root, WNIDS, 2))}


def _flat(root: Path) -> dict[str, Any]:
    """ImageNet's validation images in one folder with Kaggle's table."""
    miniatures.folders(root, WNIDS, 2)
    lines = ["ImageId,PredictionString"]
    for path in sorted((root / "val").glob("*/*")):
        lines.append(f"{path.stem},{path.parent.name} 1 2 3 4")
        path.replace(root / "val" / path.name)
        path.parent.rmdir()
    (root / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")
    return {"source": "folder", "path": str(root)}


def _parquet(root: Path) -> dict[str, Any]:
    pictures, about = list(files().values()), {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    for split in SPLITS:
        rows = pa.array([{"bytes": content, "path": None} for content in pictures[:6]])
        table = pa.table({"image": rows, "label": pa.array([n % 2 for n in range(6)])})
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
        pq.write_table(table, root / f"{split}-0.parquet", row_group_size=3)
    return {"source": "parquet", "path": str(root)}


SOURCES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "npz": _npz,
    "idx": _idx,
    "cifar": _cifar,
    "cifar binary": lambda root: _cifar(root, binary=True),
    "tiny_imagenet": _tiny_imagenet,
    "folder": _folder,
    "flat folder": _flat,
    "parquet": _parquet,
}


def damaged_json(content: bytes, rng: np.random.Generator) -> bytes:
    """Its bytes damaged, or a value, a key or a kind exchanged in it."""
    if rng.random() < 0.3:
        return damaged(content, rng)
    odd = [None, True, [], {}, [[]], [None], {"a": 1}, *ODD_NUMBERS[:12], *ODD_STRINGS[:12], float("nan")]
    body = json.loads(content)
    if rng.random() < 0.05 or not isinstance(body, dict):
        return json.dumps(odd[int(rng.integers(len(odd)))]).encode(errors="replace")
    kinds = ("replace", "replace", "copy", "rename", "add", "delete")
    changes = []
    for _ in range(int(rng.integers(1, 3))):
        which, other = rng.integers(10**6, size=2).tolist()
        changes.append((kinds[int(rng.integers(len(kinds)))], which, odd[int(rng.integers(len(odd)))], "word", other))
    return json.dumps(mutated(body, changes)).encode()


@contextmanager
def spoiled(root: Path, rng: np.random.Generator) -> Iterator[str]:
    """One of the files below a folder is damaged, emptied, missing or a folder for the time; its name."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    path = paths[int(rng.integers(len(paths)))]
    content, how = path.read_bytes(), rng.random()
    try:
        if how < 0.04:
            path.unlink()
        elif how < 0.06:
            path.unlink()
            path.mkdir()
        elif how < 0.08:
            path.write_bytes(b"")
        elif path.suffix == ".json":
            path.write_bytes(damaged_json(content, rng))
        elif path.suffix == WEIGHTS:
            path.write_bytes(damaged(content[:HEADER], rng) + content[HEADER:])
        else:
            path.write_bytes(damaged(content, rng))
        yield str(path.relative_to(root))
    finally:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)


def one_line(read: Callable[[], Any], *allowed: type[Exception]) -> Any:
    """What is read; None where it is refused in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Pillow's, of metadata that it passes over
            return read()
    except (LimbeckError, *allowed) as error:
        in_one_line(error)
        return None


def read_all(name: str, spec: dict[str, Any]) -> Source:
    """A dataset opened, counted, and every image of it decoded."""
    source = open_source(name, Dataset.model_validate(spec))
    for split in SPLITS:
        source.counts(split)  # every class has images
        labels = source.labels(split)
        assert labels.min() >= 0
        assert labels.max() < len(source.classes)
        for index in range(len(labels)):
            source.source_id(split, index)
            one_line(lambda: decode(source.raw(split, index)), ValueError)  # noqa: B023
    source.stamp()
    return source


def _each(count: int, seed: int, make: Callable[[Path], dict[str, Callable[[], Any]]]) -> int:
    """Readers by name, each over a folder of that name, asked while one of its files is spoiled."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        readers = make(root)
        names = sorted(readers)
        for name in names:
            assert readers[name]() is not None, f"{name} cannot be read as it is"
        for number in range(count):
            rng = np.random.default_rng([seed, number])
            name, what = names[int(rng.integers(len(names)))], ""
            try:
                with spoiled(root / name, rng) as what:
                    one_line(readers[name])
            except Exception as error:
                raise AssertionError(f"seed {seed}, fault {number} ({name}: {what}): {type(error).__name__}: {error}") from error
    return count


def datasets(count: int, seed: int) -> int:
    """A damaged file in a dataset of every source."""

    def make(root: Path) -> dict[str, Callable[[], Any]]:
        found = {}
        for name, write in SOURCES.items():
            (root / name).mkdir()
            spec = write(root / name)
            found[name] = lambda name=name, spec=spec: read_all(name.split()[0], spec)
        return found

    return _each(count, seed, make)


def ingested(count: int, seed: int) -> int:
    """Damaged images in a folder: the stage names every one of them, and no other."""
    content = [each for name, each in files().items() if name != "tiff float"]
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        with tempfile.TemporaryDirectory() as folder:
            bad = _write_folder(Path(folder), content, rng)
            spec = {"source": "folder", "path": folder, "classes": None, "channels": 3}
            about = {"dataset": "own", "source": spec, "split": "train", "classes": [0, 2], "bad_files": 0}
            about["view"] = {"size": 16, "resize": "squash"}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    ingest.run(about, Path(folder, "images.zarr.zip"), threads=2)
                said = ""
            except LimbeckError as error:
                said = str(error)
            except Exception as error:
                raise AssertionError(f"seed {seed}, folder {number}: {type(error).__name__}: {error}") from error
            named = {path for path in bad if path in said}
            assert named == bad, f"seed {seed}, folder {number}: {bad - named} not named: {said}"
            assert bool(bad) == bool(said), f"seed {seed}, folder {number}: {said}"
    return count


def _write_folder(root: Path, content: list[bytes], rng: np.random.Generator) -> set[str]:
    """Twelve images in two classes, a third of them damaged; those that cannot be decoded."""
    bad = set()
    for split, name, number in ((s, c, n) for s in ("train", "val") for c in "ab" for n in range(6)):
        picture = content[int(rng.integers(len(content)))]
        picture = damaged(picture, rng) if split == "train" and rng.random() < 0.3 else picture
        path = root / split / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
        if split == "train" and one_line(lambda: decode(picture), ValueError) is None:  # noqa: B023
            bad.add(f"{name}/{number}.png")
    return bad


def given(count: int, seed: int) -> int:
    """Damaged files of a prior, of rates, and of a set that another method left."""

    def make(root: Path) -> dict[str, Callable[[], Any]]:
        config = yaml.safe_load((ROOT / "config.yaml").read_text())
        config["run"]["methods"] = ["dit", "d3hr"]
        shutil.copytree(package_path("package:fashion-dit"), root / "prior")
        for path in (root / "prior").iterdir():
            if path.is_file() and path.name != "model_index.json":
                path.unlink()  # what nothing reads
        config["priors"]["fashion-dit"]["weights"] = str(root / "prior")
        (root / "rates").mkdir()
        shutil.copy(SHIPPED, root / "rates/rates.json")
        exported = miniatures.folders(root / "exported", ("a", "b"), 1) / "train"
        rows = [{"folder": name, "name": call} for name, call in (("a", "alpha"), ("b", "beta"))]
        (exported / "classes.json").write_text(json.dumps({"results": {"classes": rows}}))
        return {
            "prior": lambda: judge(config) or None,
            "rates": lambda: load(root / "rates/rates.json", ""),
            "exported": lambda: class_files(str(exported), ("alpha", "beta"), 1, "methods.mine.path"),
        }

    return _each(count, seed, make)
