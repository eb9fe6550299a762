"""Pickles of plain data and NumPy arrays, as CIFAR is published, read without running what they name."""

import io
import pickle
import pickletools
from typing import Any

import numpy as np


class _Dtype:
    """Stands in for ``numpy.dtype`` while a pickle is read."""

    def __init__(self, code: Any, *_: Any):
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        self.order = state[1].decode() if isinstance(state[1], bytes) else state[1]


class _Array:
    """Stands in for ``numpy.ndarray``: what an array's pickle says of it."""

    def __init__(self, *_: Any):
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _encode(text: str, _: str) -> bytes:
    """How Python 2's protocol writes bytes."""
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How the older protocols write bytes where there are none."""
    return b""


# All that a pickle may name. None of it is what it names, so nothing is imported and nothing runs.
_KNOWN: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{(builtins, "bytes"): _no_bytes for builtins in ("__builtin__", "builtins")},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no published file does")
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"it refers to {pid!r} outside")


def plain(data: bytes) -> Any:
    """What a pickle holds: dicts, lists, numbers, strings (Python 2's as bytes), arrays.

    Raises
    ------
    ValueError: it is damaged, or names anything but NumPy's arrays.
    """
    try:
        _check_places(data)
        return _arrays(_Reader(io.BytesIO(data), encoding="bytes").load())
    except Exception as error:  # a damaged pickle raises nearly everything
        raise ValueError(f"no pickle of plain data and arrays ({' '.join(str(error).split()) or type(error).__name__})") from None


def _check_places(data: bytes) -> None:
    """Refuse a place in the memo beyond what so many bytes can fill: the reader would make room for all below it, gigabytes."""
    for code, place, _ in pickletools.genops(data):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and (place or 0) > len(data):
            raise ValueError(f"place {place} in a memo")


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {_arrays(key): _arrays(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_arrays(each) for each in value)
    return _array(value.state) if isinstance(value, _Array) else value


def _array(state: tuple[Any, ...]) -> np.ndarray:
    _, shape, dtype, fortran, content = state
    numbers = np.dtype(dtype.code).newbyteorder(getattr(dtype, "order", "="))
    if numbers.hasobject:
        raise ValueError("an array of objects")
    return np.frombuffer(content, numbers).reshape(shape, order="F" if fortran else "C")
