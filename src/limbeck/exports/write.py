"""The command ``limbeck export``: a folder with the data, a dataset card and a manifest."""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from limbeck.commit import digest, scratch
from limbeck.data.folders import class_entry
from limbeck.errors import LimbeckError
from limbeck.exports import card
from limbeck.exports.cell import Distilled, distilled_set
from limbeck.exports.formats import FORMATS
from limbeck.exports.manifest import CARD, MANIFEST, SCHEMA, VERSION, changed, read
from limbeck.report.cells import Cell
from limbeck.stages.common import progress

LABELS = "soft_labels"


def export(source: Path, to: str, out: Path) -> str:
    """Write ``out`` as a whole, in place of an earlier export there that nobody has changed; returns the line that loads it.

    Raises
    ------
    LimbeckError: no finished cell, or ``out`` holds something else.
    """
    found, target = distilled_set(source), Path(os.path.abspath(out))
    _check_free(target, out)
    with scratch(target) as part, scratch(target) as before:
        with progress("export") as report:
            extra = FORMATS[to].write(found, part, report)
        for name, path in found.labels.items():
            (part / LABELS / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, part / LABELS / name)
        about = {**_about(found, to), **extra}
        (part / CARD).write_text(card.text(found, about, _files(part)), encoding="utf-8")
        text = json.dumps({**about, "files": _files(part)}, indent=1, sort_keys=True, ensure_ascii=False)
        (part / MANIFEST).write_text(text + "\n", encoding="utf-8")
        part.chmod(0o755)
        if target.exists():
            target.rename(before)
        part.rename(target)
    return FORMATS[to].line(out)


def _check_free(target: Path, out: Path) -> None:
    """Refuse to replace what is no export, or has been changed since."""
    if not os.path.lexists(target):
        return
    if not target.is_dir() or target.is_symlink():
        raise LimbeckError(f"{out}: is no folder; name one that is empty, or not there yet")
    if not any(target.iterdir()):
        return
    said = read(target / MANIFEST)
    if said is None:
        raise LimbeckError(f"{out}: has files of something else than an export; name a folder that is empty, or not there yet")
    if odd := changed(target, said):
        raise LimbeckError(f"{out}: {odd[0]} was added or changed since it was exported; move it away, or name another folder")


def _files(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below it."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest(path) for path in found}


def _about(found: Distilled, to: str) -> dict[str, Any]:
    """What the manifest says of the set: nothing of when and where it was exported, so that the same set gives the same bytes."""
    height, width, channels = found.shape
    entries = (class_entry(index, name, len(found.classes)) for index, name in enumerate(found.classes))
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "limbeck": version("limbeck"),
        "format": to,
        **found.names,
        "ipc": found.ipc,
        "images": found.images,
        "image": {"height": height, "width": width, "channels": channels},
        "classes": [{**entry, "images": count} for entry, count in zip(entries, found.counts, strict=True)],
        "params": {"distilled": found.params, **found.made_from()},
        "distilled": found.provenance(),
        "accuracies": [_accuracy(*column, each) for column, each in found.accuracies().items()],
    }


def _accuracy(protocol: str, student: str, found: Cell) -> dict[str, Any]:
    """Of one student under one protocol: fractions, one per training."""
    values = [value for repeats in found.accuracies.values() for value in repeats]
    tested = {"test_images": found.test_images, "labels": dict(found.labels), "failed": len(found.failures)}
    return {"protocol": protocol, "student": student, "mean": found.mean, "trainings": values, **tested}
