"""What several students share."""

from torch import nn

# Images of up to this size (CIFAR, Tiny-ImageNet) are small for ResNets in RDED's and IDC's releases: the first convolution has
# stride 1 and the pool behind it goes. ASSUME: so for the other networks that halve five times, else 32 pixels would end as one.
SMALL = 64


def he_fan_out(model: nn.Module, head_std: float | None = None) -> None:
    """He et al. 2015 by fan-out for convolutions, as torchvision; N(0, ``head_std``²) for linear layers where given; biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear) and head_std is not None:
            nn.init.normal_(module.weight, std=head_std)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
