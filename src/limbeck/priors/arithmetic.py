"""How a prior's networks compute: in which precision, by which attention kernel, compiled or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from limbeck.errors import LimbeckError

KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}


@dataclass(frozen=True)
class Arithmetic:
    """compute: float32, bfloat16 or float16, of the networks; what goes in and comes out is float32. attention: auto, or one of
    KERNELS. compile: the denoiser, by torch.compile.
    """

    compute: str = "float32"
    attention: str = "auto"
    compile: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Of the networks."""
        return getattr(torch, self.compute)

    @property
    def load(self) -> dict[str, dict[str, torch.dtype] | torch.dtype]:
        """Options for diffusers to load a pipeline; it keeps in float32 what a network says must be."""
        # the VAE's is decided once its configuration is known
        return {"dtype": {"default": self.dtype, "vae": torch.float32} if self.dtype != torch.float32 else torch.float32}

    def of_vae(self, vae: AutoencoderKL) -> torch.dtype:
        """Of the VAE: float32 in place of float16 where it says that it overflows (``force_upcast``, SDXL's)."""
        upcast = self.dtype == torch.float16 and vae.config.get("force_upcast", True)
        return torch.float32 if upcast else self.dtype

    def ready(self, network: nn.Module) -> None:
        """Compile a denoiser, if that is asked for; it is then compiled by its first call."""
        if self.compile:
            network.compile()

    @contextmanager
    def kernel(self) -> Iterator[None]:
        """Calls within it use the attention kernel.

        Raises
        ------
        LimbeckError: the device has no such kernel for this network.
        """
        if self.attention == "auto":
            yield
            return
        try:
            with sdpa_kernel(KERNELS[self.attention]):
                yield
        except RuntimeError as error:
            if "No available kernel" not in str(error):
                raise
            text = f"the device has no attention kernel {self.attention!r} for {self.compute}; set priors.*.attention to auto"
            raise LimbeckError(text) from None
