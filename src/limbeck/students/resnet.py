"""ResNet (He et al. 2016) and ResNetAP, which averages instead of striding (IDC, Kim et al. 2022); parameters as torchvision names
them.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.students.layers import SMALL, he_fan_out

Norm = Callable[[int], nn.Module]


def instance_norm(width: int) -> nn.GroupNorm:
    """Instance norm with learned scale and shift, no running statistics."""
    return nn.GroupNorm(width, width)


NORMS: dict[str, Norm] = {"batch": nn.BatchNorm2d, "instance": instance_norm}


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(_conv(inputs, outputs, 1, stride), norm(outputs))


class Basic(nn.Module):
    """[conv 3x3 (stride), norm, ReLU, conv 3x3, norm] + shortcut, ReLU: (N, inputs, H, W) to (N, width, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm):
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), norm(width)
        self.pool: nn.Module = nn.Identity()
        self.conv2, self.bn2 = _conv(width, width, 3), norm(width)
        self.downsample = _shortcut(inputs, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x), inplace=True)


class Averaged(Basic):
    """ResNetAP's basic block: [conv 3x3, norm, ReLU, average pool, conv 3x3, norm] + [conv 1x1, average pool, norm], ReLU.

    The place of the pools is the release's: after the first ReLU, and before the shortcut's norm.
    """

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm):
        super().__init__(inputs, width, 1, norm)
        if stride > 1:
            self.pool = nn.AvgPool2d(stride)
            self.downsample = nn.Sequential(_conv(inputs, width, 1), nn.AvgPool2d(stride), norm(width))


class Bottleneck(nn.Module):
    """[conv 1x1, norm, ReLU, conv 3x3 (stride), norm, ReLU, conv 1x1, norm] + shortcut, ReLU; (N, 4 width, H / stride, W / stride).

    The stride is in the 3x3 convolution, as in torchvision ("ResNet v1.5").
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm):
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 1), norm(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), norm(width)
        self.conv3, self.bn3 = _conv(width, 4 * width, 1), norm(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x), inplace=True)


BLOCKS: dict[str, type[Basic] | type[Bottleneck]] = {
    "basic": Basic,
    "averaged": Averaged,
    "bottleneck": Bottleneck,
}


def _stem(size: int, middle: int, averaged: bool) -> tuple[int, int, nn.Module]:
    """Kernel and stride of the first convolution and the pool behind it."""
    if size <= SMALL:
        return 3, 1, nn.Identity()
    if size <= middle:
        return 3, 1, nn.AvgPool2d(2) if averaged else nn.MaxPool2d(3, 2, 1)
    return (7, 1, nn.AvgPool2d(4)) if averaged else (7, 2, nn.MaxPool2d(3, 2, 1))


class ResNet(nn.Module):
    """Stem, four levels of blocks of width 64, 128, 256 and 512, global average pool, linear head.

    Parameters
    ----------
    block: a key of ``BLOCKS``; ``averaged`` is ResNetAP.
    depths: blocks per level.
    norm: a key of ``NORMS``.
    middle: up to this size the stem is a 3x3 convolution and a pool of 2 (IDC's release: 128); none where it is at most ``SMALL``.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self, channels: int, classes: int, size: int, block: str, depths: tuple[int, ...], norm: str = "batch", middle: int = SMALL
    ):
        super().__init__()
        kernel, stride, self.maxpool = _stem(size, middle, averaged=block == "averaged")
        self.conv1, self.bn1 = _conv(channels, 64, kernel, stride), NORMS[norm](64)
        make, inputs = BLOCKS[block], 64
        for level, depth in enumerate(depths):
            width, blocks = 64 * 2**level, []
            for number in range(depth):
                blocks.append(make(inputs, width, 2 if level and number == 0 else 1, NORMS[norm]))
                inputs = width * make.expansion
            self.add_module(f"layer{level + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)
        he_fan_out(self)

    @property
    def head(self) -> nn.Linear:
        """The linear head."""
        return self.fc

    def features(self, x: Tensor) -> Tensor:
        """Penultimate activations, (N, 512) or (N, 2048)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        for level in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = level(x)
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))
