"""Students by name: the module that builds them and what it is called with. Later work only adds rows."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from limbeck.errors import LimbeckError
from limbeck.students.construct import construct

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Student:
    """``getattr(module, factory)(channels, classes, size, **options)``.

    It has ``features(x)``, (N, C, size, size) to penultimate activations (N, D); ``head``, the linear layer behind them; and
    ``forward``, the logits (N, classes). ``side`` must divide the image size and ``smallest`` is its least; protocols set learning
    rates by ``family``.
    """

    module: str
    factory: str
    options: dict[str, Any]
    family: str
    side: int = 1
    smallest: int = 32


_CONVNET = ("limbeck.students.convnet", "ConvNet")
_RESNET = ("limbeck.students.resnet", "ResNet")
_PLAIN = "limbeck.students.plain"
_HUGGINGFACE = "limbeck.students.huggingface"
# norm and stems of IDC's release, which Minimax and the hard-label papers after it train
_IDC = {"norm": "instance", "middle": 128}

STUDENTS: dict[str, Student] = {
    "convnet3-w32": Student(*_CONVNET, {"depth": 3, "width": 32}, "convnet", side=8, smallest=8),
    "convnet3-w64": Student(*_CONVNET, {"depth": 3, "width": 64}, "convnet", side=8, smallest=8),
    "convnet3": Student(*_CONVNET, {"depth": 3, "width": 128}, "convnet", side=8, smallest=8),
    "convnet4": Student(*_CONVNET, {"depth": 4, "width": 128}, "convnet", side=16, smallest=16),
    # 224 is no multiple of 64: its last pool leaves out a row and a column, as the release's does
    "convnet6": Student(*_CONVNET, {"depth": 6, "width": 128}, "convnet", side=32, smallest=64),
    "resnetap10": Student(*_RESNET, {"block": "averaged", "depths": (1, 1, 1, 1), **_IDC}, "resnet"),
    "resnet18-in": Student(*_RESNET, {"block": "basic", "depths": (2, 2, 2, 2), **_IDC}, "resnet"),
    "resnet18": Student(*_RESNET, {"block": "basic", "depths": (2, 2, 2, 2)}, "resnet"),
    "resnet50": Student(*_RESNET, {"block": "bottleneck", "depths": (3, 4, 6, 3)}, "resnet"),
    "resnet101": Student(*_RESNET, {"block": "bottleneck", "depths": (3, 4, 23, 3)}, "resnet"),
    "alexnet": Student(_PLAIN, "alexnet", {}, "alexnet"),
    "vgg11": Student(_PLAIN, "vgg11", {}, "vgg"),
    "mobilenetv2": Student(_HUGGINGFACE, "mobilenet", {}, "mobilenet"),
    "shufflenetv2": Student("limbeck.students.shufflenet", "ShuffleNet", {}, "shufflenet"),
    "efficientnet-b0": Student(_HUGGINGFACE, "efficientnet", {}, "efficientnet"),
    # ASSUME: ViT-B/16, which patch selection's Tables 4 and 8 name ("ViT-B"); CoDA and IMS3 say "ViT" alone
    "vit": Student(_HUGGINGFACE, "vit", {"width": 768, "heads": 12}, "vit", side=16),
    "deit-tiny": Student(_HUGGINGFACE, "vit", {"width": 192, "heads": 3}, "vit", side=16),
    "swin-tiny": Student(_HUGGINGFACE, "swin", {}, "swin", side=32),
}


def build(name: str, channels: int, classes: int, size: int) -> "nn.Module":
    """See ``limbeck.students.construct``; an unknown name is an error too."""
    if name not in STUDENTS:
        raise LimbeckError(f"student: unknown name {name!r}; known: {sorted(STUDENTS)}")
    return construct(architecture(name), channels, classes, size)


def architecture(name: str) -> dict[str, Any]:
    """What a job is told of a student: its row, so that a new student reruns no other's trainings."""
    return {"name": name, **asdict(STUDENTS[name])}
