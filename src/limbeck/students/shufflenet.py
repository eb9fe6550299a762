"""ShuffleNetV2 (Ma et al. 2018), width x1.0; parameters named and initialised (torch's defaults) as torchvision's."""

import torch
from torch import Tensor, nn

from limbeck.students.layers import SMALL


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> list[nn.Module]:
    """Convolution, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _depthwise(width: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False), nn.BatchNorm2d(width)]


class Unit(nn.Module):
    """(N, inputs, H, W) to (N, outputs, H / stride, W / stride); Figure 3 (c), where half the channels pass unchanged, (d)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.splits = stride == 1
        half = outputs // 2
        self.branch1 = nn.Sequential() if self.splits else nn.Sequential(*_depthwise(inputs, stride), *_conv(inputs, half))
        first = _conv(half if self.splits else inputs, half)
        self.branch2 = nn.Sequential(*first, *_depthwise(half, stride), *_conv(half, half))

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1) if self.splits else (x, x)
        joined = torch.stack((self.branch1(left), self.branch2(right)), 2)  # (N, half, 2, H, W): flattened, the halves are shuffled
        return joined.flatten(1, 2)


class ShuffleNet(nn.Module):
    """Stem, three stages of 4, 8 and 4 units, a 1x1 convolution to 1024, global average pool, linear head (Table 5)."""

    def __init__(self, channels: int, classes: int, size: int):
        super().__init__()
        small = size <= SMALL
        self.conv1 = nn.Sequential(*_conv(channels, 24, 3, 1 if small else 2))
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(Unit(inputs, outputs, 2), *(Unit(outputs, outputs, 1) for _ in range(depth - 1)))
            for inputs, outputs, depth in ((24, 116, 4), (116, 232, 8), (232, 464, 4))
        )
        self.conv5 = nn.Sequential(*_conv(464, 1024))
        self.fc = nn.Linear(1024, classes)

    @property
    def head(self) -> nn.Linear:
        """The linear head."""
        return self.fc

    def features(self, x: Tensor) -> Tensor:
        """Penultimate activations, (N, 1024)."""
        x = self.maxpool(self.conv1(x))
        return self.conv5(self.stage4(self.stage3(self.stage2(x)))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))
