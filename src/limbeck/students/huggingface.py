"""Students that transformers builds from a config. Its modules are imported by their own path, which never asks for torchvision."""

from typing import Any

from torch import Tensor, nn

from limbeck.students.layers import SMALL, he_fan_out


class Wrapped(nn.Module):
    """An image classifier of transformers under the interface of students; ``options`` go to its forward pass."""

    def __init__(self, model: Any, dropout: float = 0.0, **options: Any):
        super().__init__()
        self.body: nn.Module = model.base_model
        self.dropout = nn.Dropout(dropout)
        self.head: nn.Linear = model.classifier
        self.options = options

    def features(self, x: Tensor) -> Tensor:
        """Penultimate activations (N, D): the class token, or the average over positions where there is none."""
        output = self.body(pixel_values=x, **self.options)
        return output.last_hidden_state[:, 0] if output.pooler_output is None else output.pooler_output

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(x)))


def vit(channels: int, classes: int, size: int, width: int, heads: int) -> Wrapped:
    """Twelve layers over patches of 16 pixels with one class token: ViT-B/16 (Dosovitskiy et al. 2021) at width 768 and 12 heads,
    DeiT-Ti without distillation token (Touvron et al. 2021) at 192 and 3.

    ASSUME: below 128 pixels the patches shrink so that 8x8 remain (4 pixels at 32, 8 at 64).
    """
    from transformers.models.vit.modeling_vit import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=size,
        patch_size=min(16, size // 8),
        num_channels=channels,
        num_labels=classes,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        layer_norm_eps=1e-6,  # the releases'
    )
    return Wrapped(ViTForImageClassification(config))


def swin(channels: int, classes: int, size: int) -> Wrapped:
    """Swin-T (Liu et al. 2021): patches of 4 pixels, windows of 7x7, stochastic depth 0.2.

    ASSUME: below 128 pixels the patches shrink so that 32x32 remain (1 pixel at 32, 2 at 64).
    """
    from transformers.models.swin.modeling_swin import SwinConfig, SwinForImageClassification

    patch = min(4, size // 32)
    config = SwinConfig(image_size=size, patch_size=patch, num_channels=channels, num_labels=classes, drop_path_rate=0.2)
    model = SwinForImageClassification(config)
    # Grids smaller than a window are padded to one, and one window is not shifted (the release, torchvision). Left to itself,
    # transformers shrinks the window there, for which its table of positions has the wrong size.
    for layer in model.swin.encoder.layers:
        for block in layer.blocks:
            if block.input_resolution[0] <= block.window_size:
                block.shift_size = 0
    return Wrapped(model, always_partition=True)


def mobilenet(channels: int, classes: int, size: int) -> Wrapped:
    """MobileNetV2 x1.0 (Sandler et al. 2018) with torchvision's padding and dropout."""
    from transformers.models.mobilenet_v2.modeling_mobilenet_v2 import MobileNetV2Config, MobileNetV2ForImageClassification

    config = MobileNetV2Config(num_channels=channels, num_labels=classes, tf_padding=False)
    model = MobileNetV2ForImageClassification(config)
    if size <= SMALL:
        model.mobilenet_v2.conv_stem.first_conv.convolution.stride = (1, 1)
    _trainable(model)
    return Wrapped(model, dropout=0.2)


def efficientnet(channels: int, classes: int, size: int) -> Wrapped:
    """EfficientNet-B0 (Tan & Le 2019) with torchvision's padding, dropout and stochastic depth per image."""
    from transformers.models.efficientnet.modeling_efficientnet import EfficientNetConfig, EfficientNetForImageClassification
    from transformers.models.swin.modeling_swin import SwinDropPath

    config = EfficientNetConfig(
        num_channels=channels,
        num_labels=classes,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_dim=1280,
        depthwise_padding=(1, 3, 5, 11),  # those of stride 2: padded on both sides
    )
    model = EfficientNetForImageClassification(config)
    stem = model.efficientnet.embeddings
    stem.padding = nn.ZeroPad2d(1)
    if size <= SMALL:
        stem.convolution.stride = (1, 1)
    for block in model.efficientnet.encoder.blocks:  # transformers drops single activations
        block.projection.dropout = SwinDropPath(block.projection.dropout.p)
    _trainable(model)
    return Wrapped(model, dropout=0.2)


def _trainable(model: nn.Module) -> None:
    """Torchvision's batch norms and init, for a start from nothing: transformers is made to load weights.

    Its batch norms forget 99 % of their statistics at every step (TensorFlow's momentum, which means the opposite), and it draws
    EfficientNet's scales around 0, so that nothing passes.

    ASSUME: MobileNetV2's N(0, 0.01²) for the head of both; torchvision's for EfficientNet depends on the number of classes.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-5, 0.1
            module.reset_parameters()
    he_fan_out(model, head_std=0.01)
