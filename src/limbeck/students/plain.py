"""AlexNet (the form of Krizhevsky 2014) and VGG11 (Simonyan & Zisserman 2015) as in torchvision: three linear layers at the end."""

from typing import Any

from torch import Tensor, nn

from limbeck.students.layers import SMALL, he_fan_out


def _published(_module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take torchvision's name of the convolutions, which is that of our method."""
    for key in [key for key in state if key.startswith(f"{prefix}features.")]:
        state[f"{prefix}body.{key.removeprefix(f'{prefix}features.')}"] = state.pop(key)


class Plain(nn.Module):
    """Convolutions, a pool to ``pooled`` x ``pooled``, two hidden layers of 4096 with dropout, a linear head.

    ``load_state_dict`` takes torchvision's checkpoints too, whose ``features.*`` is our ``body.*``.
    """

    def __init__(self, body: nn.Sequential, pooled: int, hidden: list[nn.Module], classes: int):
        super().__init__()
        self.body = body
        self.avgpool = nn.AdaptiveAvgPool2d(pooled)
        self.classifier = nn.Sequential(*hidden, nn.Linear(4096, classes))
        self.register_load_state_dict_pre_hook(_published)

    @property
    def head(self) -> nn.Linear:
        """The linear head."""
        return self.classifier[-1]  # type: ignore[return-value]

    def features(self, x: Tensor) -> Tensor:
        """Penultimate activations, (N, 4096)."""
        return self.classifier[:-1](self.avgpool(self.body(x)).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def alexnet(channels: int, classes: int, size: int) -> Plain:
    """61.1 M parameters at 1000 classes and more than 64 pixels, for which its first convolution is 11x11 of stride 4.

    ASSUME: up to 64 pixels it is 5x5 of stride 1, as in dataset condensation's AlexNet for CIFAR (Zhao et al. 2021), and
    the pool to 6x6 becomes one to what is left where that is less.
    """
    small = size <= SMALL
    body = nn.Sequential(
        nn.Conv2d(channels, 64, 5, 1, 2) if small else nn.Conv2d(channels, 64, 11, 4, 2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
    )
    pooled = min(6, size // 8 - 1) if small else 6
    hidden = [nn.Dropout(), nn.Linear(256 * pooled**2, 4096), nn.ReLU(inplace=True)]
    hidden += [nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True)]
    return Plain(body, pooled, hidden, classes)


VGG11 = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")


def vgg11(channels: int, classes: int, size: int) -> Plain:
    """132.9 M parameters at 1000 classes and more than 64 pixels. No norms: RDED and D3HR take torchvision's vgg11 (D3HR Table 2:
    "As VGG-11 lacks BN layers").

    ASSUME: up to 64 pixels all five pools stay, as in dataset condensation's VGG11 for CIFAR, and the pool to 7x7 goes.
    """
    layers: list[nn.Module] = []
    inputs = channels
    for width in VGG11:
        if isinstance(width, int):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = width
        else:
            layers.append(nn.MaxPool2d(2))
    pooled = size // 32 if size <= SMALL else 7
    hidden = [nn.Linear(512 * pooled**2, 4096), nn.ReLU(inplace=True), nn.Dropout()]
    hidden += [nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout()]
    model = Plain(nn.Sequential(*layers), pooled, hidden, classes)
    he_fan_out(model, head_std=0.01)
    return model
