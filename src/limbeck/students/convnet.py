"""ConvNet-D, the field's small student (Gidaris & Komodakis 2018; Zhao et al. 2021)."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NormReluPool(nn.Module):
    """Instance norm (affine), ReLU and average pool 2: (N, C, H, W) to (N, C, H // 2, W // 2)."""

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels)), eps

    def forward(self, x: Tensor) -> Tensor:
        if _fusable(x) and _fusable(self.weight):
            from limbeck.students.fused import norm_relu_pool

            return norm_relu_pool(x, self.weight, self.bias, self.eps)
        return F.avg_pool2d(F.relu(F.group_norm(x, x.shape[1], self.weight, self.bias, self.eps), inplace=True), 2)


def _fusable(x: Tensor) -> bool:
    """Whether our kernels take it: float32 on a CPU, and no stand-in of torch.compile, torch.jit.trace or torch.func.

    Not for forward-mode derivatives, ``torch.fx`` or ``make_fx``.
    """
    symbolic = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._functorch.is_functorch_wrapped_tensor(x)
    plain = type(x) in (Tensor, nn.Parameter) and not symbolic
    return plain and x.device.type == "cpu" and x.dtype == torch.float32


class ConvNet(nn.Module):
    """``depth`` blocks of [conv 3x3 -> instance norm (affine) -> ReLU -> average pool 2], then a linear head.

    ``features`` returns the flattened activations before the head, (N, width * (size / 2^depth)²).
    """

    def __init__(self, channels: int, classes: int, size: int, depth: int, width: int):
        super().__init__()
        layers: dict[str, nn.Module] = {}
        for level in range(depth):
            # numbered as where norm, ReLU and pool are three layers: weights are found under the names that they have elsewhere
            layers[str(4 * level)] = nn.Conv2d(channels if level == 0 else width, width, 3, padding=1)
            layers[str(4 * level + 1)] = NormReluPool(width)
        self.body = nn.Sequential(OrderedDict(layers, flat=nn.Flatten()))
        self.head = nn.Linear(width * (size // 2**depth) ** 2, classes)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate activations."""
        if _fusable(x):  # a clone: of one channel ``contiguous`` would leave the strides as they are
            x = x.clone(memory_format=torch.channels_last)
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))
