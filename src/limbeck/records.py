"""JSON results, and the sidecar ``<name>.prov.json`` in which every job says what it has written, with their hashes.

Both are written in one form only, so that any changed byte shows. An artifact's reader compares what its sidecar says of it; where
there is none, e.g. beside files fetched from object storage, an artifact's own checksums must do.
"""

import hashlib
import json
import os
import shlex
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.artifacts import JSON_SCHEMAS
from limbeck.commit import digest, write_text
from limbeck.errors import ArtifactError

SUFFIX = ".zarr.zip"
SIDECAR = ".prov.json"
# Parts of a spec that decide reruns but are not parameters: they must not change an artifact's bytes.
NOT_PARAMS = ("code", "stamp")
COMMAND = "LIMBECK_SNAKEMAKE"  # the command line up to the target with which the run was started


def command(snakefile: str, configfiles: Sequence[Path], settings: Sequence[str] | None) -> str:
    """Snakemake as it was started in the current folder."""
    here = os.path.relpath(snakefile)
    main = ["--snakefile", here] if here != "Snakefile" else []
    files = ["--configfile", *map(os.path.relpath, configfiles)] if configfiles else []
    return shlex.join(["snakemake", *main, *files, *(["--config", *settings] if settings else [])])


def rebuild(*paths: Path | str) -> str:
    """What to do about damaged files: the command that makes them again and nothing else."""
    started = os.environ.get(COMMAND) or "snakemake"
    return f"rebuild {'it' if len(paths) == 1 else 'them'}: {started} --force {shlex.join(map(str, paths))}"


def write_json(path: Path | str, schema: str, params: Mapping[str, Any], results: Any) -> None:
    """Write a JSON result with its schema, its parameters and a checksum over all of them; NaN is refused."""
    body: dict[str, Any] = {"schema": schema, "version": JSON_SCHEMAS[schema][0], "params": params, "results": results}
    write_text(path, _sealed(body))


def read_json(path: Path | str, schema: str) -> Any:
    """The ``results`` of a JSON artifact of the given schema and version.

    Raises
    ------
    ArtifactError: missing, no JSON, of another schema or version, changed since it was written.
    """
    body = _unsealed(Path(path), path)
    found = body.get("schema"), body.get("version")
    if found != (schema, JSON_SCHEMAS[schema][0]):
        said = f"is {found[0]} version {found[1]}, expected {schema} version {JSON_SCHEMAS[schema][0]}"
        raise ArtifactError(f"{path}: {said}; {rebuild(path)}")
    expected = recorded(Path(path)).get("sha256")
    if expected not in (None, digest(path)):
        raise foreign(path)
    return body["results"]


def read_result(path: Path) -> dict[str, Any]:
    """All of a JSON artifact of any schema: its schema, version, parameters, results and checksum.

    Raises
    ------
    ArtifactError: missing, no JSON of a stage, changed since it was written.
    """
    return _unsealed(path, path)


def foreign(path: Path | str) -> ArtifactError:
    """The error of a file that is whole but not the one that its sidecar tells of."""
    return ArtifactError(f"{path}: not what its job wrote (changed since, or another file copied into its place); {rebuild(path)}")


def sidecar_of(path: Path) -> Path:
    """Where the job that wrote an artifact or a JSON result says so."""
    return path.with_name(path.name.removesuffix(SUFFIX).removesuffix(".json") + SIDECAR)


def spec_digest(spec: Mapping[str, Any]) -> str:
    """SHA-256 of a job's parameters, without what decides reruns alone."""
    kept = {key: value for key, value in spec.items() if key not in NOT_PARAMS}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def write_sidecar(path: Path, about: Mapping[str, Any], written: Mapping[Path, str]) -> None:
    """Write a sidecar: what is to be said about a job, and the hashes of the files that it wrote."""
    outputs: dict[str, dict[str, str]] = {}
    for file, sha256 in sorted(written.items()):
        if not file.exists():  # moved on, or a state of a training that has ended
            continue
        directory = {"directory": directory_digest(file)} if file.name.endswith(SUFFIX) else {}
        outputs[os.path.relpath(file, path.parent)] = {"sha256": sha256, **directory}
    write_text(path, _sealed({**about, "outputs": outputs}))


def read_sidecar(path: Path) -> dict[str, Any]:
    """All that a sidecar says.

    Raises
    ------
    ArtifactError: missing, no JSON, changed since it was written.
    """
    return _unsealed(path, *outputs_of(path))


def outputs_of(sidecar: Path) -> list[Path]:
    """Those artifacts that may stand beside a sidecar."""
    stem = sidecar.name.removesuffix(SIDECAR)
    beside = (sidecar.with_name(stem + suffix) for suffix in (SUFFIX, ".json"))
    return [path for path in beside if path.exists()] or [sidecar]


def recorded(path: Path) -> dict[str, str]:
    """What the sidecar beside an artifact says of it: ``sha256``, of an array artifact ``directory``; empty without a sidecar."""
    sidecar = sidecar_of(path)
    if not sidecar.is_file():
        return {}
    found: dict[str, str] = read_sidecar(sidecar)["outputs"].get(path.name, {})
    return found


def directory_digest(path: Path) -> str:
    """SHA-256 of a zip's directory, which has the CRC of every entry: cheap to compare, and no two artifacts have the same."""
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        file.seek(archive.start_dir)
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hashes(folder: Path, hashes: Mapping[str, str], names: Iterable[str], target: Path) -> None:
    """Refuse files below a folder that are missing or have other bytes than a manifest recorded.

    names: those to look at. target: what is to be made again if they have.
    """
    for name in names:
        path = folder / name
        if name in hashes and not (path.is_file() and digest(path) == hashes[name]):
            said = "missing" if not path.is_file() else "changed since it was written"
            raise ArtifactError(f"{path}: {said}; {rebuild(target)}")


def _sealed(body: Mapping[str, Any]) -> str:
    """The one text of a JSON object, with a checksum over the rest of it."""
    rest = {key: value for key, value in body.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, allow_nan=False)
    sealed = {**rest, "checksum": hashlib.sha256(text.encode()).hexdigest()}
    return json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _unsealed(path: Path, *targets: Path | str) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode()
        body = json.loads(text)
        intact = isinstance(body, dict) and _sealed(body) == text
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: damaged ({' '.join(str(error).split())}); {rebuild(*targets)}") from None
    if not intact:
        raise ArtifactError(f"{path}: changed since it was written; {rebuild(*targets)}")
    return dict(body)
