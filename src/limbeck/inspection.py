"""Looking at artifacts: show, check, and the files generated from the schemas."""

import hashlib
import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from rich.console import Console
from rich.table import Table

from limbeck.artifacts import JSON_SCHEMAS, SCHEMAS, Schema
from limbeck.config import Config, Model
from limbeck.errors import LimbeckError
from limbeck.protocols import PROTOCOLS, Protocol
from limbeck.settings import Crop, CutMix, Flip, Jitter, Lighting, MixUp, RandAugment, Shift, Shuffle
from limbeck.store import SUFFIX, Artifact, ArtifactError, digest, read_json, write_text

GENERATED_SCHEMA = "workflow/schemas/config.schema.json"
GENERATED_DOC = "docs/ARTIFACTS.md"
GENERATED_PROTOCOLS = "docs/PROTOCOLS.md"


def show_artifact(path: Path) -> None:
    """Print one artifact to the terminal."""
    console = Console(width=None if Console().is_terminal else 140)
    if not path.name.endswith(SUFFIX):
        if not path.is_file():
            raise LimbeckError(f"{path}: no such artifact")
        console.print_json(path.read_text())
        return
    with Artifact(path) as artifact:
        console.print(f"[bold]{artifact.schema.name}[/] version {artifact.schema.version}: {artifact.schema.doc}")
        table = Table("array", "dims", "dtype", "units", "range", "what")
        for name, spec in artifact.schema.arrays.items():
            if name not in artifact:
                continue
            values = artifact[name]
            dims = ", ".join(f"{d} {n}" for d, n in zip(spec.dims, values.shape, strict=True))
            table.add_row(name, dims, spec.dtype, spec.units, _span(values), spec.doc)
        console.print(table)
        for key, value in artifact.attrs.items():
            if key not in ("schema", "version"):
                console.print(f"[bold]{key}[/] {json.dumps(value, sort_keys=True)}", highlight=False, soft_wrap=True)
    sidecar = path.with_name(path.name.removesuffix(SUFFIX) + ".prov.json")
    if sidecar.is_file():
        console.print(f"[bold]provenance[/] {sidecar.name}")
        console.print_json(sidecar.read_text())


def _span(values: np.ndarray) -> str:
    return f"{values.min():.4g} … {values.max():.4g}" if values.size else "empty"


def check_folder(folder: Path) -> bool:
    """Read every artifact below ``folder`` whole; print a line per damaged one and a closing count."""
    if not folder.exists():
        raise LimbeckError(f"{folder}: no such folder")
    paths = sorted(folder.rglob(f"*{SUFFIX}")) if folder.is_dir() else [folder]
    jsons = sorted(folder.rglob("*.json")) if folder.is_dir() else []
    bad, seen = [], 0
    for path in paths:
        seen += 1
        try:
            with Artifact(path) as artifact:
                artifact.verify()
        except ArtifactError as error:
            bad.append(str(error))
    for path in jsons:
        body = _peek(path)
        if body is None or body.get("schema") in JSON_SCHEMAS:
            seen += 1
            try:
                results = read_json(path, str((body or {}).get("schema")))
                archive = path.parent.with_name(f"{path.parent.name}.zip")
                packed = (body or {}).get("schema") == "classes" and archive.is_file()
                bad += _changed_members(archive, results["sha256"]) if packed else []
                if not packed or any(each.is_dir() for each in path.parent.iterdir()):  # object storage has the archive alone
                    bad += _changed_files(path, results.get("sha256", {}))
            except (ArtifactError, KeyError) as error:
                bad.append(str(error) if isinstance(error, ArtifactError) else f"{path}: not JSON; delete it and run again")
    for line in bad:
        print(line)
    print(f"{seen} artifacts checked, {len(bad)} damaged")
    return not bad


def _changed_files(manifest: Path, hashes: dict[str, str]) -> list[str]:
    """A line for each file beside a manifest that is missing or has other bytes than it recorded."""
    lines = []
    for name, expected in hashes.items():
        path = manifest.parent / name
        if not path.is_file() or digest(path) != expected:
            lines.append(f"{path}: missing or changed since {manifest.name} was written; delete {manifest.name} and run again")
    return lines


def _changed_members(archive: Path, hashes: dict[str, str]) -> list[str]:
    """The same of the images in an archive."""
    try:
        with ZipFile(archive) as packed:
            changed = [name for name, expected in hashes.items() if hashlib.sha256(packed.read(name)).hexdigest() != expected]
    except (BadZipFile, KeyError, OSError) as error:
        changed = [str(error)]
    return [f"{archive}: damaged ({changed[0]}); delete it and run again"] if changed else []


def _peek(path: Path) -> dict[str, Any] | None:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return body if isinstance(body, dict) else {}


def config_schema() -> str:
    """The JSON schema of config.yaml."""
    return json.dumps(Config.model_json_schema(), indent=1, sort_keys=True) + "\n"


def artifacts_page() -> str:
    """docs/ARTIFACTS.md from the schemas."""
    lines = [
        "# Artifacts",
        "",
        "Generated by `limbeck schema .` from `src/limbeck/artifacts.py`; do not edit.",
        "",
        "Every array artifact is one immutable `<name>.zarr.zip` (Zarr v3), with its parameters and the SHA-256 of its inputs as",
        "attributes. Times and machines stand in `<name>.prov.json` beside it, which is no rule's input.",
        "",
    ]
    for schema in SCHEMAS.values():
        lines += [f"## {schema.name}, version {schema.version}", "", schema.doc, "", *_array_table(schema), ""]
    lines += ["## JSON results", "", "| schema | version | what |", "| --- | --: | --- |"]
    lines += [f"| {name} | {version} | {doc} |" for name, (version, doc) in JSON_SCHEMAS.items()]
    return "\n".join(lines) + "\n"


def _array_table(schema: Schema) -> list[str]:
    rows = ["| array | dims | dtype | units | range | what |", "| --- | --- | --- | --- | --- | --- |"]
    for name, spec in schema.arrays.items():
        span = "" if spec.range is None else f"{spec.range[0]:g} … {spec.range[1]:g}"
        what = spec.doc + (" (optional)" if spec.optional else "")
        rows.append(f"| {name} | {', '.join(spec.dims)} | {spec.dtype} | {spec.units} | {span} | {what} |")
    return rows


def protocols_page() -> str:
    """docs/PROTOCOLS.md from the registry."""
    lines = [
        "# Protocols",
        "",
        "Generated by `limbeck schema .` from `src/limbeck/protocols.py`; do not edit.",
        "",
        "How a classifier is trained on a set. `run.protocols` names those of a table; a user's own are a base and what differs",
        "from it, e.g. `protocols: {long: {base: rded-soft, epochs: 1000, teacher: resnet50}}`. A table by IPC gives the entry of",
        "the least IPC that is not below the set's; a batch is never larger than the set. Views are drawn from streams of (seed,",
        "repeat, epoch), every image its own numbers, so a protocol shows every method the same.",
        "",
        *_fields(Protocol),
        "",
        "## Augmentations",
        "",
        "Before them images are resized to `size`; after them they are normalised. Test images are resized and normalised.",
        "",
    ]
    for kind in (Crop, Shift, Flip, Jitter, Lighting, RandAugment, Shuffle, CutMix, MixUp):
        lines += [f"- `{kind.model_fields['kind'].default}`: {kind.__doc__}"]
    for name, protocol in PROTOCOLS.items():
        lines += ["", f"## {name}", "", protocol.source + ".", "", "| key | value |", "| --- | --- |"]
        values = protocol.model_dump(mode="json", exclude={"source"})
        lines += [f"| {key} | `{json.dumps(value)}` |" for key, value in values.items() if value not in (None, [], ())]
    return "\n".join(lines) + "\n"


def _fields(model: type[Model]) -> list[str]:
    rows = ["| key | what |", "| --- | --- |"]
    return rows + [f"| {name} | {field.description or ''} |" for name, field in model.model_fields.items()]


def write_generated(root: Path) -> None:
    """Write the generated files below a repository root."""
    write_text(root / GENERATED_SCHEMA, config_schema())
    write_text(root / GENERATED_DOC, artifacts_page())
    write_text(root / GENERATED_PROTOCOLS, protocols_page())
