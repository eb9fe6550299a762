"""A distilled set as an image folder: which of its folders is which class's, and their files. Nothing is decoded here."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from limbeck.data import benchmarks
from limbeck.data.decoding import IMAGE_SUFFIXES, image_files
from limbeck.data.paths import package_path
from limbeck.errors import LimbeckError


def folder_name(index: int, name: str, classes: int) -> str:
    """A folder whose sorted order is the canonical order and whose name is harmless on any file system."""
    width = len(str(classes - 1))
    return f"{index:0{width}d}-{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-') or 'class'}"


def class_entry(index: int, name: str, classes: int) -> dict[str, Any]:
    """What is told of a class beside its images: where it stands, its name, its folder, and what ImageNet calls it, if it does."""
    wnid = benchmarks.wnid(name)
    known = {"wnid": wnid, "imagenet_index": benchmarks.index(wnid)} if wnid else {}
    return {"index": index, "name": name, "folder": folder_name(index, name, classes), **known}


def class_files(path: str, classes: Sequence[str], ipc: int, key: str) -> list[list[Path]]:
    """The ``ipc`` images of every class in ``path``, classes in their order, files by name.

    A class's folder has the class's name, the one of :func:`folder_name`, or the one in a ``classes.json`` of ours beside it.

    Raises
    ------
    LimbeckError: one line that names ``key``: no such folder, a class without a folder or with two, a folder of no class, or a
    class with another number of images.
    """
    root = package_path(path)
    if not root.is_dir():
        raise LimbeckError(f"{key}: no folder {root}; expected {root}/<class>/<image>, {ipc} images per class")
    try:
        return [_images(folder, name, ipc, key) for name, folder in zip(classes, _folders(root, classes, key), strict=True)]
    except OSError as error:
        raise LimbeckError(f"{key}: cannot read {root} ({error})") from None


def stamp(files: Iterable[Path]) -> str:
    """Changes when a file is added, removed, renamed or replaced; none is opened."""
    found = ((file, file.stat()) for file in files)
    lines = [f"{file.parent.name}/{file.name} {status.st_size} {status.st_mtime_ns}" for file, status in found]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def _folders(root: Path, classes: Sequence[str], key: str) -> list[Path]:
    """Every class's folder."""
    harmless = {folder_name(index, name, len(classes)): name for index, name in enumerate(classes)}
    owners = harmless | {name: name for name in classes} | _exported(root)
    found: dict[str, list[str]] = {name: [] for name in classes}
    others = []
    for folder in sorted(entry.name for entry in root.iterdir() if entry.is_dir()):
        if owners.get(folder) in found:
            found[owners[folder]].append(folder)
        elif not folder.startswith("."):
            others.append(folder)
    other = f"{others[0]!r} in {root} is the folder of no class" if others else ""
    for call, name in harmless.items():
        if not found[name]:
            allowed = repr(call) if "/" in name else f"{name!r} or {call!r}"
            raise LimbeckError(f"{key}: class {name!r} has no folder in {root}; call it {allowed}" + (other and f" ({other})"))
        if len(found[name]) > 1:
            two = " and ".join(map(repr, found[name][:2]))
            raise LimbeckError(f"{key}: class {name!r} has two folders in {root}, {two}; keep one")
    if other:
        raise LimbeckError(f"{key}: {other}; rename or remove it")
    return [root / found[name][0] for name in classes]


def _exported(root: Path) -> dict[str, str]:
    """Folder -> class, where the stage ``pngs`` wrote the folder: its classes may be in another order."""
    try:
        table = json.loads((root / "classes.json").read_text(encoding="utf-8"))["results"]["classes"]
        return {str(row["folder"]): str(row["name"]) for row in table}
    except (OSError, ValueError, KeyError, TypeError):  # none, or someone else's
        return {}


def _images(folder: Path, name: str, ipc: int, key: str) -> list[Path]:
    files = image_files(folder)
    where = f"{key}: class {name!r} has"
    if not files:
        raise LimbeckError(f"{where} no images in {folder}; put {ipc} there ({' '.join(sorted(IMAGE_SUFFIXES))})")
    if len(files) != ipc:
        raise LimbeckError(f"{where} {len(files)} instead of {ipc} images in {folder}; put exactly IPC there, or map 'path' by IPC")
    return files
