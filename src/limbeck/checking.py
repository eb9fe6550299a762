"""Whether everything below a folder is as the jobs that made it left it: what ``limbeck check`` does."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from limbeck.artifacts import JSON_SCHEMAS
from limbeck.commit import digest
from limbeck.errors import ArtifactError, LimbeckError
from limbeck.exports.manifest import changed
from limbeck.exports.manifest import read as exported
from limbeck.records import SIDECAR, SUFFIX, foreign, outputs_of, read_json, read_sidecar, rebuild, sidecar_of, spec_digest
from limbeck.store import Artifact


@dataclass
class Findings:
    """files: how many were looked at. damaged: a line for each that is damaged. again: what is to be made again."""

    files: int = 0
    damaged: list[str] = field(default_factory=list)
    again: list[Path] = field(default_factory=list)

    def add(self, path: Path, said: str) -> None:
        """A file that is damaged, and what makes it again."""
        if path not in self.again:
            self.again.append(path)
            self.damaged.append(said)


def check_folder(folder: Path) -> Findings:
    """Read every file that a job below ``folder`` has written, or an artifact alone, and compare it with its hash.

    Array artifacts and JSON results are opened too: they may be of another version. Those without a sidecar are read whole, and
    what a manifest among them lists.

    Raises
    ------
    LimbeckError: there is no such folder.
    """
    if not folder.exists():
        raise LimbeckError(f"{folder}: no such folder or file")
    found, known = Findings(), set[Path]()
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves Python's lock
        for sidecar in sorted(folder.rglob(f"*{SIDECAR}")) if folder.is_dir() else [sidecar_of(folder)]:
            known |= _outputs(sidecar, found, pool)
    for path in sorted(folder.rglob(f"*{SUFFIX}")) if folder.is_dir() else [folder] * folder.name.endswith(SUFFIX):
        if path not in found.again:
            _artifact(path, found, path in known)
    for path in sorted(folder.rglob("*.json")) if folder.is_dir() else [folder] * (folder.suffix == ".json"):
        if path not in found.again and not path.name.endswith(SIDECAR):
            _json(path, found, path in known)
    return found


def check_planned(found: Findings, configfiles: Sequence[Path], snakefile: Path) -> None:
    """Compare the parameters that every job of a run would have now with those that its sidecar says it had.

    Raises
    ------
    LimbeckError: a file is missing, or the config is refused.
    """
    from limbeck.costs.jobs import planned

    for job in planned(configfiles, snakefile=snakefile, cores=1, everything=True).jobs:
        sidecar = Path(job.sidecar)
        if job.sidecar and sidecar.is_file():
            with suppress(ArtifactError):  # found already
                if read_sidecar(sidecar)["spec"] != spec_digest(json.loads(job.spec)):
                    path = outputs_of(sidecar)[0]
                    found.add(path, f"{path}: made with other parameters than the config has now; {rebuild(path)}")


def _outputs(sidecar: Path, found: Findings, pool: ThreadPoolExecutor) -> set[Path]:
    """Compare what a sidecar lists."""
    if not sidecar.is_file():
        return set()
    found.files += 1
    try:
        listed = read_sidecar(sidecar)["outputs"]
    except ArtifactError as error:
        found.add(outputs_of(sidecar)[0], str(error))
        return set()
    hashes = {Path(os.path.normpath(sidecar.parent / name)): about["sha256"] for name, about in listed.items()}
    found.files += len(hashes)
    for path, same in zip(hashes, pool.map(_same, hashes, hashes.values()), strict=True):
        if not path.is_file():
            found.add(path, f"{path}: missing; {rebuild(path)}")
        elif not same:
            found.add(path, _what(path))
    return set(hashes)


def _same(path: Path, sha256: str) -> bool:
    return path.is_file() and digest(path) == sha256


def _what(path: Path) -> str:
    """What is wrong with a file of other bytes than it should have."""
    try:
        if path.name.endswith(SUFFIX):
            with Artifact(path) as artifact:
                artifact.verify()
        elif (schema := _schema(path)) is not None:
            read_json(path, schema)
    except ArtifactError as error:
        return str(error)
    return str(foreign(path))


def _artifact(path: Path, found: Findings, hashed: bool) -> None:
    found.files += not hashed
    try:
        with Artifact(path) as artifact:
            if not hashed:
                artifact.verify()
    except ArtifactError as error:
        found.add(path, str(error))


def _json(path: Path, found: Findings, hashed: bool) -> None:
    schema = _schema(path)
    if schema is None and (manifest := exported(path)) is not None:
        found.files += 1 + len(manifest["files"])
        found.damaged += [
            f"{path.parent / name}: missing, added or changed; export it again" for name in changed(path.parent, manifest)
        ]
        return
    if schema is None and (hashed or _parsed(path) is not None):
        return  # none of ours
    found.files += not hashed
    try:
        results = read_json(path, str(schema))
    except ArtifactError as error:
        found.add(path, str(error))
        return
    if schema == "classes":
        _exported(path, results["sha256"], found)
    elif not hashed:
        for name in _changed(path.parent, results.get("sha256", {})):
            found.add(path, f"{path.parent / name}: missing or changed since {path.name} was written; {rebuild(path)}")


def _exported(manifest: Path, hashes: dict[str, str], found: Findings) -> None:
    """The images beside a manifest, and those in the archive of their folder. Object storage has the archive alone."""
    archive = manifest.parent.with_name(f"{manifest.parent.name}.zip")
    packed = archive.is_file()
    if not packed or any(each.is_dir() for each in manifest.parent.iterdir()):
        found.files += len(hashes)
        for name in _changed(manifest.parent, hashes):
            found.add(manifest, f"{manifest.parent / name}: missing or changed since it was written; {rebuild(manifest)}")
    if packed and archive not in found.again:
        try:
            with ZipFile(archive) as members:
                changed = [name for name, sha256 in hashes.items() if hashlib.sha256(members.read(name)).hexdigest() != sha256]
        except (BadZipFile, KeyError, OSError) as error:
            changed = [str(error)]
        if changed:
            found.add(archive, f"{archive}: damaged ({changed[0]}); {rebuild(archive)}")


def _changed(folder: Path, hashes: dict[str, str]) -> Iterator[str]:
    return (name for name, sha256 in hashes.items() if not _same(folder / name, sha256))


def _schema(path: Path) -> str | None:
    """Which of the JSON results a file says it is."""
    body = _parsed(path)
    name = body.get("schema") if isinstance(body, dict) else None
    return name if isinstance(name, str) and name in JSON_SCHEMAS else None


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None


def report(found: Findings) -> Iterable[str]:
    """Lines for people."""
    yield from found.damaged
    yield f"{found.files} files checked, {len(found.damaged)} damaged"
    if len(found.again) > 1:
        yield rebuild(*found.again)
