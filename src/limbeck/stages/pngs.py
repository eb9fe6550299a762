"""pngs: a distilled set as a PNG ImageFolder in canonical class order, for people; and that as one file, for object storage."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
from PIL import Image

from limbeck.artifacts import DISTILLED
from limbeck.commit import committed, digest, replacing, scratch
from limbeck.data import benchmarks
from limbeck.data.folders import folder_name
from limbeck.records import write_json
from limbeck.stages.common import Spec, class_rows, classes_of, params, progress
from limbeck.store import Artifact


def run(spec: Spec, distilled: Sequence[Path], classes: Path, archive: Path) -> None:
    """Write ``<folder of classes>/<class>/<image>.png`` and ``classes``, replacing the folder as a whole, and ``archive`` of it."""
    target = classes.parent
    with scratch(target) as part:
        names = classes_of(distilled[0])
        table, files = [], {}
        with progress("pngs") as report:
            for label, images in _classes(distilled):
                folder = part / folder_name(label, names[label], len(names))
                folder.mkdir()
                table.append({"index": label, "name": names[label], "folder": folder.name, **_imagenet(names[label])})
                for number, image in enumerate(images):
                    file = folder / f"{number:05d}.png"
                    Image.fromarray(np.squeeze(image, -1) if image.shape[-1] == 1 else image).save(file)
                    files[f"{folder.name}/{file.name}"] = digest(file)
                report(len(table), len(names))
        write_json(part / classes.name, "classes", params(spec), {"classes": table, "sha256": files})
        _pack(part, archive)
        part.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        committed(classes)


def _classes(distilled: Sequence[Path]) -> Iterator[tuple[int, np.ndarray]]:
    """(class, its images), one class in memory."""
    for path in distilled:
        with Artifact(path, DISTILLED) as shard:
            for label, rows in class_rows(shard["labels"]):
                yield label, shard.read("images", rows.start, rows.stop)


def _pack(folder: Path, archive: Path) -> None:
    """A zip of a folder's files: of equal ones equal bytes, and uncompressed, as PNG is already."""
    with replacing(archive) as part, ZipFile(part, "w") as out:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            about = ZipInfo(str(file.relative_to(folder)))  # of 1980
            about.external_attr = 0o644 << 16
            out.writestr(about, file.read_bytes())


def _imagenet(name: str) -> dict[str, Any]:
    """What ImageNet calls a class, for tools that ask for its own labels; nothing of other classes."""
    wnid = benchmarks.wnid(name)
    return {"wnid": wnid, "imagenet_index": benchmarks.index(wnid)} if wnid else {}
