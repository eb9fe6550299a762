"""Artifacts on disk: one immutable ``<name>.zarr.zip`` each. The only module that imports zarr.

What zarr's ZipStore would let pass, and this module does not: a partial zip left by an exception, entries written twice,
chunks missing or misnamed (they would read as zeros), timestamps (they would change the bytes of identical work).
"""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import ZipStore

from limbeck.artifacts import SCHEMAS, ArraySpec, Schema
from limbeck.commit import digest, replacing
from limbeck.errors import ArtifactError
from limbeck.faults import explained
from limbeck.records import directory_digest, foreign, rebuild, recorded

CHUNK_BYTES = 512 * 1024
EPOCH = (1980, 1, 1, 0, 0, 0)
# what a damaged file makes zipfile and zarr raise
DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, NotImplementedError, RuntimeError, zipfile.BadZipFile)


class _FixedDateZip(ZipStore):
    """A ZipStore whose entries carry a fixed date, so that identical content gives identical bytes."""

    def _set(self, key: str, value: Buffer) -> None:
        if key in self._zf.NameToInfo:
            raise ArtifactError(f"{self.path}: key {key} written twice")
        entry = zipfile.ZipInfo(key, EPOCH)
        entry.external_attr = 0o644 << 16
        self._zf.writestr(entry, value.to_bytes())


class Writer:
    """Appends rows to presized arrays; each chunk is written exactly once, in order."""

    def __init__(self, group: zarr.Group, schema: Schema, shapes: Mapping[str, tuple[int, ...]]):
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._buffers: dict[str, list[np.ndarray]] = {}
        self._written: dict[str, int] = {}
        self._schema = schema
        for name, shape in shapes.items():
            spec = schema.arrays[name]
            self._arrays[name] = _create_array(group, name, spec, shape)
            self._buffers[name] = []
            self._written[name] = 0

    def append(self, name: str, rows: np.ndarray) -> None:
        """Add rows to an array; they reach the disk a whole chunk at a time."""
        spec, array = self._schema.arrays[name], self._arrays[name]
        rows = np.ascontiguousarray(rows, dtype=spec.dtype)
        if rows.shape[1:] != array.shape[1:]:
            raise ValueError(f"{self._schema.name}.{name}: rows of shape {rows.shape[1:]}, expected {array.shape[1:]}")
        _check_range(f"{self._schema.name}.{name}", rows, spec)
        self._buffers[name].append(rows)
        pending = sum(map(len, self._buffers[name]))
        if self._written[name] + pending > array.shape[0]:
            raise ValueError(f"{self._schema.name}.{name}: more rows than its {array.shape[0]}")
        if pending >= array.chunks[0] or self._written[name] + pending == array.shape[0]:
            self._flush(name)

    def _flush(self, name: str) -> None:
        array, start = self._arrays[name], self._written[name]
        block = np.concatenate(self._buffers[name])
        size = array.chunks[0]
        used = 0
        while used < len(block) and (len(block) - used >= size or start + len(block) == array.shape[0]):
            rows = block[used : used + size]
            array[start + used : start + used + len(rows)] = rows
            used += len(rows)
        self._written[name] = start + used
        self._buffers[name] = [block[used:]]

    def finish(self) -> None:
        """Refuse an array that was not filled."""
        for name, array in self._arrays.items():
            if self._written[name] != array.shape[0]:
                raise ValueError(f"{self._schema.name}.{name}: {self._written[name]} of {array.shape[0]} rows written")


def _create_array(group: zarr.Group, name: str, spec: ArraySpec, shape: tuple[int, ...]) -> "zarr.Array[Any]":
    row = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(spec.dtype).itemsize
    rows = max(1, min(shape[0], CHUNK_BYTES // max(1, row)))
    attributes: dict[str, Any] = {"units": spec.units, "doc": spec.doc}
    return group.create_array(
        name,
        shape=shape,
        chunks=(rows, *shape[1:]),
        dtype=spec.dtype,
        compressors=(ZstdCodec(level=3), Crc32cCodec()) if spec.compress else (Crc32cCodec(),),
        fill_value=0,
        dimension_names=spec.dims,
        attributes=attributes,
        config={"write_empty_chunks": True},
    )


@contextmanager
def create(
    path: Path | str,
    schema: Schema,
    shapes: Mapping[str, tuple[int, ...]],
    params: Mapping[str, Any],
    inputs: Mapping[str, Path | str],
    digests: Mapping[str, str] | None = None,
    **attributes: Any,
) -> Iterator[Writer]:
    """Write an artifact; it appears under ``path`` only when it is complete and has been read back.

    Parameters
    ----------
    shapes: the shape of every array that is written; optional arrays may be left out.
    params: the stage's resolved parameters. No times, no machine: identical work must give identical bytes.
    inputs: files whose content digests go into the attributes, by name. digests: those that are known already.
    attributes: more attributes, e.g. ``classes``.
    """
    path = Path(path)
    missing = [name for name, spec in schema.arrays.items() if not spec.optional and name not in shapes]
    if missing:
        raise ValueError(f"{schema.name}: arrays without a shape: {missing}")
    header = {
        "schema": schema.name,
        "version": schema.version,
        "params": dict(params),
        "inputs": dict(sorted({**(digests or {}), **{name: digest(file) for name, file in inputs.items()}}.items())),
        **attributes,
    }
    with replacing(path) as part:
        store = _FixedDateZip(part, mode="w")
        store._sync_open()  # create_group would otherwise ask a closed store
        try:
            writer = Writer(zarr.create_group(store, attributes=header), schema, shapes)
            yield writer
            writer.finish()
        finally:
            store.close()
        with Artifact(part, schema):
            pass


class Artifact:
    """An opened, validated artifact. Index it by array name; use it as a context manager.

    Raises
    ------
    ArtifactError: not a zip, of another schema or version, keys missing or extra, wrong dtype, dims or shape, or not the one that
    its sidecar, if there is one, tells of.
    """

    def __init__(self, path: Path | str, schema: Schema | None = None):
        self.path = Path(path)
        try:
            self._store = ZipStore(self.path, mode="r")
            self._store._sync_open()
            self.group = zarr.open_group(self._store, mode="r")
        except FileNotFoundError:
            raise ArtifactError(f"{path}: no such artifact") from None
        except DAMAGED as error:
            raise self._unreadable(error) from None
        try:
            self.attrs: dict[str, Any] = dict(self.group.attrs)
            self.schema = self._match(schema)
            self._validate()
            if recorded(self.path).get("directory") not in (None, directory_digest(self.path)):
                raise foreign(self.path)
        except ArtifactError:
            self.close()
            raise
        except DAMAGED as error:
            self.close()
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception, what: str = "unreadable") -> Exception:
        """What to raise: of a fault of the machine itself, e.g. missing permissions."""
        if isinstance(error, OSError) and explained(error):
            error.filename = error.filename or str(self.path)
            return error
        return self._broken(f"{what} ({' '.join(str(error).split()) or type(error).__name__})")

    def _broken(self, what: str) -> ArtifactError:
        return ArtifactError(f"{self.path}: {what}; {rebuild(self.path)}")

    def _match(self, expected: Schema | None) -> Schema:
        name, version = self.attrs.get("schema"), self.attrs.get("version")
        schema = SCHEMAS.get(str(name)) if expected is None else expected
        if schema is None or name != schema.name or version != schema.version:
            wanted = f"{schema.name} version {schema.version}" if schema else f"one of {sorted(SCHEMAS)}"
            raise self._broken(f"is {name} version {version}, expected {wanted}")
        return schema

    def _validate(self) -> None:
        names = self._store._zf.namelist()
        arrays = {name: array for name, array in self.group.members() if isinstance(array, zarr.Array)}
        needed = {name for name, spec in self.schema.arrays.items() if not spec.optional}
        if not needed <= set(arrays) <= set(self.schema.arrays):
            raise self._broken(f"has arrays {sorted(arrays)}, expected {sorted(needed)}")
        keys = {"zarr.json"}
        for name, array in arrays.items():
            spec = self.schema.arrays[name]
            dims = array.metadata.dimension_names  # type: ignore[union-attr]
            if str(array.dtype) != spec.dtype or dims != spec.dims:
                raise self._broken(f"{name} is {array.dtype} {dims}, expected {spec.dtype} {spec.dims}")
            keys.add(f"{name}/zarr.json")
            zeros = "/0" * (array.ndim - 1)
            keys.update(f"{name}/c/{i}{zeros}" for i in range(-(-array.shape[0] // array.chunks[0])))
        if len(names) != len(set(names)) or set(names) != keys:
            odd = sorted(set(names) ^ keys)[:3]
            raise self._broken(f"its entries are not what its metadata implies (e.g. {odd})")
        for axis in {self.schema.arrays[name].dims[0] for name in arrays}:
            lengths = {array.shape[0] for name, array in arrays.items() if self.schema.arrays[name].dims[0] == axis}
            if len(lengths) > 1:
                raise self._broken(f"its arrays along {axis!r} have different lengths {sorted(lengths)}")

    def __contains__(self, name: str) -> bool:
        return name in self.group

    def __len__(self) -> int:
        first = next(iter(self.schema.arrays))
        return int(self.shape(first)[0])

    def _array(self, name: str) -> "zarr.Array[Any]":
        found = self.group[name]
        assert isinstance(found, zarr.Array)
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array."""
        return tuple(self._array(name).shape)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows ``start:stop`` of an array; checksums and range are verified."""
        try:
            rows = np.asarray(self._array(name)[start:stop])
        except DAMAGED as error:
            raise self._unreadable(error, f"{name} is damaged") from None
        try:
            _check_range(name, rows, self.schema.arrays[name])
        except ValueError as error:
            raise self._broken(str(error)) from None
        return rows

    def __getitem__(self, name: str) -> np.ndarray:
        return self.read(name)

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Rows of an array in any order; a chunk is read once, whatever the number of its rows."""
        size = self._array(name).chunks[0]
        out = np.empty((len(rows), *self.shape(name)[1:]), self.schema.arrays[name].dtype)
        chunks = rows // size
        for chunk in np.unique(chunks).tolist():
            own = chunks == chunk
            out[own] = self.read(name, chunk * size, (chunk + 1) * size)[rows[own] - chunk * size]
        return out

    def verify(self) -> None:
        """Read everything once: every chunk's crc32c, every array's range."""
        for name in self.group:
            array = self._array(name)
            step = array.chunks[0]
            for start in range(0, array.shape[0], step):
                self.read(name, start, start + step)

    def close(self) -> None:
        """Release the file."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _check_range(name: str, rows: np.ndarray, spec: ArraySpec) -> None:
    if spec.range is None or not rows.size:
        return
    low, high = spec.range
    if rows.dtype == np.float16:  # numpy's extremes of halves are five times slower than of floats
        rows = rows.astype(np.float32)
    if not (rows.min() >= low and rows.max() <= high):  # false for NaN too
        raise ValueError(f"{name}: values outside {spec.range} or not numbers")
