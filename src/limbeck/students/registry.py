"""Students by name: the module that builds them and what it is called with. Later work only adds rows."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from limbeck.errors import LimbeckError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Student:
    """``getattr(module, factory)(channels, classes, size, **options)``; ``side`` must divide the image size."""

    module: str
    factory: str
    options: dict[str, Any]
    side: int = 1
    family: str = "convnet"


STUDENTS: dict[str, Student] = {
    "convnet3-w32": Student("limbeck.students.convnet", "ConvNet", {"depth": 3, "width": 32}, side=8),
    "convnet3-w64": Student("limbeck.students.convnet", "ConvNet", {"depth": 3, "width": 64}, side=8),
    "convnet3-w128": Student("limbeck.students.convnet", "ConvNet", {"depth": 3, "width": 128}, side=8),
}


def build(name: str, channels: int, classes: int, size: int) -> "nn.Module":
    """An untrained student for images (channels, size, size); draws from torch's current random state."""
    student = STUDENTS[name]
    if size % student.side:
        raise LimbeckError(f"student {name}: image side {size} is not a multiple of {student.side}")
    return getattr(import_module(student.module), student.factory)(channels, classes, size, **student.options)
