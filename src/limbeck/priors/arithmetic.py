"""How a prior's networks compute: in which precision, by which attention kernel, compiled or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch.nn.attention import SDPBackend, sdpa_kernel

from limbeck.errors import LimbeckError
from limbeck.priors.cpu import quicken

KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
NO_KERNEL = ("No available kernel", "No viable backend")  # what torch says on a GPU, and on the CPU


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

    def ready(self, network: Any, where: torch.device) -> Any:
        """A denoiser on its device, in its precision, and, if that is asked for, to be compiled by its first call."""
        network = network.eval().requires_grad_(False).to(where)
        if not getattr(network, "_keep_in_fp32_modules", None):
            network.to(self.dtype)  # diffusers 0.42 loads SD3's transformer as it is stored, whatever it is asked for
        if self.compile:
            network.compile()
        elif where.type == "cpu" and network.dtype == torch.float32:
            quicken(network)
        return network

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
            if not any(said in str(error) for said in NO_KERNEL):
                raise
            text = f"the device has no attention kernel {self.attention!r} for {self.compute}; set priors.*.attention to auto"
            raise LimbeckError(text) from None
