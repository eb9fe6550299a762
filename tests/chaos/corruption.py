"""Damage to files under results: found by ``limbeck check`` and by whoever reads them, with the command that makes them again."""

import os
import random
import re
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from limbeck.artifacts import JSON_SCHEMAS
from limbeck.checking import check_folder
from limbeck.errors import ArtifactError
from limbeck.priors.files import DELTA, LOSS, MANIFEST, RECORD, verify
from limbeck.records import SIDECAR, SUFFIX, check_hashes, read_json, read_sidecar
from limbeck.store import Artifact
from tests.chaos.outcome import Fault, Lost, Wrong
from tests.chaos.runs import OPTIONS, SmallRun, clean_environment

Damage = Callable[[bytes, random.Random], bytes]


def flipped(content: bytes, rng: random.Random) -> bytes:
    """One bit of it changed."""
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def truncated(content: bytes, rng: random.Random) -> bytes:
    """Only its beginning."""
    return content[: rng.randrange(len(content))]


def emptied(content: bytes, rng: random.Random) -> bytes:  # noqa: ARG001
    """Nothing of it."""
    return b""


def cut(content: bytes, rng: random.Random) -> bytes:
    """A piece in the middle gone."""
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randint(1, 100) :]


def appended(content: bytes, rng: random.Random) -> bytes:
    """Something behind it."""
    return content + rng.randbytes(rng.randint(1, 100))


def files_of(results: Path) -> dict[Path, Path]:
    """Every file that a job wrote -> the folder whose check covers it."""
    found: dict[Path, Path] = {}
    for sidecar in sorted(results.rglob(f"*{SIDECAR}")):
        found[sidecar] = sidecar.parent
        found |= {sidecar.parent / name: sidecar.parent for name in read_sidecar(sidecar)["outputs"]}
    for manifest in results.rglob("classes.json"):
        found |= {manifest.parent / name: manifest.parent.parent for name in read_json(manifest, "classes")["sha256"]}
    return found


def kind(path: Path) -> str:
    """What a file is, so that each kind gets its share."""
    return next(end for end in (SIDECAR, SUFFIX, path.suffix) if path.name.endswith(end))


@contextmanager
def damaged(path: Path, content: bytes) -> Iterator[None]:
    """The file with other bytes, and the times that it had."""
    good, status = path.read_bytes(), path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    try:
        yield
    finally:
        path.write_bytes(good)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def harm(results: Path, count: int, seed: int, how: Damage) -> int:
    """Damage files one after the other, each kind in turn: each must be found, and named."""
    rng, files = random.Random(seed), files_of(results)
    kinds: dict[str, list[Path]] = {}
    for path in files:
        kinds.setdefault(kind(path), []).append(path)
    for number in range(count):
        path = rng.choice(kinds[sorted(kinds)[number % len(kinds)]])
        good = path.read_bytes()
        bad = how(good, rng)
        if bad == good:
            continue
        with damaged(path, bad):
            found = check_folder(files[path])
            if len(found.damaged) != 1:
                raise Wrong(f"seed {seed}, {number}: {how.__name__} {path}: check found {found.damaged}")
            line = found.damaged[0]
            if not line.startswith(str(results)) or "; rebuild it: snakemake" not in line or "\n" in line:
                raise Wrong(f"seed {seed}, {number}: {how.__name__} {path}: check says {line!r}")
            _read(path, good, f"seed {seed}, {number}: {how.__name__}")
    return count


def _read(path: Path, good: bytes, where: str) -> None:
    """Whoever reads it as a stage does is told, or gets what was there: bytes of a zip that nobody reads may differ."""
    try:
        if path.name.endswith(SUFFIX):
            with Artifact(path) as artifact:
                attrs, arrays = artifact.attrs, {name: artifact[name] for name in artifact.group}
        elif path.name.endswith(SIDECAR) or (path.suffix == ".json" and path.name == MANIFEST):
            (read_sidecar if path.name.endswith(SIDECAR) else lambda p: read_json(p, "prior"))(path)
            raise Wrong(f"{where}: {path} is read without a word")
        elif (path.parent / MANIFEST).is_file() or (path.parent.parent / MANIFEST).is_file():
            folder = path.parent if (path.parent / MANIFEST).is_file() else path.parent.parent
            verify(folder)
            if path.name not in (RECORD, LOSS, DELTA):
                raise Wrong(f"{where}: {path} is read without a word")
            return
        elif path.name == "model.safetensors":
            record = path.with_name("teacher.json")
            check_hashes(path.parent, read_json(record, "teacher")["sha256"], [path.name], record)
            raise Wrong(f"{where}: {path} is read without a word")
        elif path.suffix == ".json" and b'"schema"' in good:
            read_json(path, next(name for name in JSON_SCHEMAS if f'"schema": "{name}"'.encode() in good))
            raise Wrong(f"{where}: {path} is read without a word")
        else:
            return  # for people: no stage reads it
    except ArtifactError as error:
        if "rebuild it: snakemake" not in str(error) or "\n" in str(error):
            raise Wrong(f"{where}: {path}: {error}") from None
        return
    with damaged(path, good), Artifact(path) as original:
        same = attrs == original.attrs and all((values == original[name]).all() for name, values in arrays.items())
    if not same:
        raise Wrong(f"{where}: {path} is read and has other values")


def swapped(results: Path, count: int, seed: int) -> int:
    """Whole artifacts in the place of others: of other parameters, or of another version of their schema."""
    rng = random.Random(seed)
    arrays = sorted(results.rglob(f"*{SUFFIX}"))
    contents = {path: path.read_bytes() for path in arrays}
    for number in range(count):
        path = rng.choice(arrays)
        if number % 2:
            bad, wanted = _of_version(path, 99), "version 99"
        else:
            with Artifact(path) as artifact:
                alike = [other for other in arrays if contents[other] != contents[path] and _schema(other) == artifact.schema.name]
            if not alike:
                continue
            bad, wanted = contents[rng.choice(alike)], "not what its job wrote"
        with damaged(path, bad):
            said = [*check_folder(path).damaged]
            try:
                Artifact(path).close()
            except ArtifactError as error:
                said.append(str(error))
        if len(said) != 2 or not all(wanted in line and line.startswith(f"{path}: ") for line in said):
            raise Wrong(f"seed {seed}, {number}: {path}: {said}")
    return count


def _schema(path: Path) -> str:
    with Artifact(path) as artifact:
        return artifact.schema.name


def _of_version(path: Path, version: int) -> bytes:
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    entries["zarr.json"] = re.sub(rb'"version": ?\d+', f'"version": {version}'.encode(), entries["zarr.json"])
    other = path.with_name(f"{path.name}.other")
    with zipfile.ZipFile(other, "w") as file:
        for name, data in entries.items():
            file.writestr(name, data)
    content = other.read_bytes()
    other.unlink()
    return content


def repaired(run: SmallRun, count: int, seed: int) -> int:
    """Damage distilled sets and start the run: it stops with a line that has the command which repairs them, and that one does."""
    rng, env, results = random.Random(seed), clean_environment(), run.results
    read = sorted(path for path in files_of(results) if path.name.startswith("distilled") and path.name.endswith(SUFFIX))
    for number in range(count):
        path = rng.choice(read)
        good = path.read_bytes()
        path.write_bytes(rng.choice([truncated, emptied])(good, rng))
        where = f"seed {seed}, {number}: {path}"
        code, said = _done(run.command, run.folder, env)
        found = re.search(rf"limbeck: error: {re.escape(str(path))}: [^\n]*; rebuild it: ([^\n]*)", said)
        if not code or found is None:
            raise Wrong(f"{where}: the run ends with {code} and {said[-1500:]}")
        for command in (f"{found[1]} --cores 2 {OPTIONS}", run.command):
            code, said = _done(command, run.folder, env)
            if code or path.read_bytes() != good:
                raise Lost(f"{where}: {command} ends with {code}: {said[-1500:]}")
        if damage := check_folder(results).damaged:
            raise Wrong(f"{where}: {damage[0]}")
    return count


def _done(command: str, folder: Path, env: Mapping[str, str]) -> tuple[int, str]:
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=dict(env), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def _harmed(count: int, seed: int) -> int:
    """Every kind of damage to the files of one run."""
    with tempfile.TemporaryDirectory() as folder:
        run = _made(Path(folder))
        done = sum(harm(run.results, count, seed, how) for how in (flipped, truncated, emptied, cut, appended))
        return done + swapped(run.results, count, seed)


def _repaired(count: int, seed: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return repaired(_made(Path(folder)), count, seed)


def _made(folder: Path) -> SmallRun:
    run = SmallRun(folder / "w", ["random", "mgd", "manifoldgd", "d3hr", "ims3"])
    subprocess.run(["bash", "-c", run.command], cwd=run.folder, env=clean_environment(), check=True, capture_output=True)
    return run


FAULTS: list[Fault] = [
    ("damaged or exchanged files", _harmed, 40, 500),
    ("damage, then the command that is named", _repaired, 1, 8),
]
