"""What the pipeline asks of a diffusion prior, whatever its family, and the half that all families share: the VAE."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from diffusers.utils.logging import disable_progress_bar
from torch import Tensor
from transformers.utils import logging as transformers_logging

from limbeck.devices import Fitting, device, joined
from limbeck.diffusion.schedule import Schedule
from limbeck.errors import LimbeckError
from limbeck.priors.arithmetic import Arithmetic
from limbeck.priors.files import INDEX, verify

logging.getLogger("diffusers").setLevel(logging.ERROR)  # its advice about optional packages
disable_progress_bar()
transformers_logging.disable_progress_bar()
PLAIN = Arithmetic()


class Prior(Protocol):
    """A latent-diffusion prior. Latents are (N, C, H, W) float32 after scaling (and shift)."""

    latent_shape: tuple[int, int, int]
    null: int  # the label of "no class"
    device: torch.device  # of the networks
    fitting: Fitting  # of the denoiser

    @property
    def schedule(self) -> Schedule:
        """The noise levels that it was trained at."""
        ...

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """The denoiser's blocks: a transformer's in order, those of a UNet's upward path."""
        ...

    def encode(self, images: np.ndarray) -> Tensor:
        """uint8 (N, H, W, channels) to the posterior means."""
        ...

    def decode(self, latents: Tensor, channels: int) -> np.ndarray:
        """Latents to uint8 (N, H, W, channels)."""
        ...

    def class_ids(self, classes: Sequence[str]) -> list[int]:
        """The prior's own label of each of a dataset's class names; a text prior makes their prompts of them."""
        ...

    def denoise(self, x: Tensor, t: float | Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """The model's output (predicted noise, or velocity) at one timestep or (N,), and, where it learns the variance,
        its raw output.
        """
        ...

    def ask(self, x: Tensor, t: float | Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """The same in one piece, whatever the device's memory."""
        ...

    def scheduler(self, solver: str, steps: int) -> Any:
        """A diffusers scheduler with ``steps`` timesteps set."""
        ...


def vae_factor(config: Mapping[str, Any]) -> int:
    """Side of an image over side of its latent."""
    return int(2 ** (len(config["block_out_channels"]) - 1))


class VaePrior:
    """Images of side ``size`` to latents and back; and what all families' denoisers share, which move to the device and back.

    Tensors are taken and returned as float32 wherever the caller has them.

    Raises
    ------
    LimbeckError: a size that the VAE does not divide.
    """

    def __init__(self, name: str, vae: AutoencoderKL, size: int, arithmetic: Arithmetic = PLAIN):
        self.name, self.arithmetic, self.device = name, arithmetic, device()
        self.vae = vae.eval().requires_grad_(False).to(self.device, arithmetic.of_vae(vae))
        self.fitting, self._encodes, self._decodes = Fitting(), Fitting(), Fitting()
        self._shift = getattr(vae.config, "shift_factor", None) or 0.0
        factor = vae_factor(vae.config)
        if size % factor:
            raise LimbeckError(f"prior {name}: a view of side {size} is no multiple of its VAE's {factor}; choose another view")
        self.latent_shape = (vae.config.latent_channels, size // factor, size // factor)

    @torch.inference_mode()
    def encode(self, images: np.ndarray) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
        wanted = self.vae.config.in_channels
        if x.shape[1] == 1 and wanted == 3:
            x = x.expand(-1, 3, -1, -1)
        if x.shape[1] != wanted:
            raise LimbeckError(
                f"prior {self.name}: its VAE takes {wanted} channels, the images have {x.shape[1]}; set datasets.*.channels"
            )
        means = joined(self._encodes(lambda part: back(self.vae.encode(self._there(part)).latent_dist.mean, part), x))
        return (means - self._shift) * self.vae.config.scaling_factor

    @torch.inference_mode()
    def decode(self, latents: Tensor, channels: int) -> np.ndarray:
        z = latents / self.vae.config.scaling_factor + self._shift
        x = joined(self._decodes(lambda part: self.vae.decode(self._there(part)).sample.float().cpu(), z))
        if not torch.isfinite(x).all():  # clamped, they would pass for black and white
            raise ArithmeticError("the VAE makes pixels that are not numbers of the latents")
        if x.shape[1] == 3 and channels == 1:
            x = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        x = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return x.permute(0, 2, 3, 1).contiguous().numpy()

    def denoise(self, x: Tensor, t: float | Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        if torch.is_grad_enabled():
            return self.ask(x, t, labels)  # pieces would not save what is kept for the gradient
        each = [t] if isinstance(t, Tensor) and t.ndim else []  # a timestep for each image
        parts = self.fitting(lambda x, labels, *own: self.ask(x, own[0] if own else t, labels), x, labels, *each)
        variances = [variance for _, variance in parts if variance is not None]
        return joined([output for output, _ in parts]), joined(variances) if variances else None

    def ask(self, x: Tensor, t: float | Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        with self.arithmetic.kernel():
            output, variance = self.forward(
                x.to(self.device, self.arithmetic.dtype), t.to(self.device) if isinstance(t, Tensor) else t, labels
            )
        return back(output, x), None if variance is None else back(variance, x)

    def forward(self, x: Tensor, t: float | Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """A family's own :meth:`Prior.denoise`, of ``x`` and ``t`` on the device, in the networks' precision."""
        raise NotImplementedError

    def _there(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.vae.dtype)


def back(found: Tensor, asked: Tensor) -> Tensor:
    """What a network made of ``asked``, as float32 on that one's device."""
    return found.to(asked.device, torch.float32)


def load_vae(folder: Path, size: int, compute: str = "float32") -> VaePrior:
    """The VAE alone of the prior stored in ``folder``."""
    verify(folder, "vae/")
    try:
        vae = AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32, low_cpu_mem_usage=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise LimbeckError(f"prior {folder}: its VAE cannot be loaded ({' '.join(str(error).split())[:300]})") from None
    return VaePrior(str(folder), vae, size, Arithmetic(compute))


def load_pipeline(kind: type[DiffusionPipeline], name: str, absent: Sequence[str] = (), **options: Any) -> DiffusionPipeline:
    """A diffusers pipeline from a local folder or a hub name, as float32 unless ``dtype`` is given.

    absent: components that are not loaded though they may be there.

    Raises
    ------
    LimbeckError: one line: what is missing and where it is looked for, why it cannot be read, which file is not as it was stored.
    """
    verify(Path(name))
    options = {"dtype": torch.float32, "use_safetensors": True, "low_cpu_mem_usage": False, **options}
    try:
        index = kind.load_config(name)
        without = [key for key, value in index.items() if value == [None, None]]
        return kind.from_pretrained(name, **dict.fromkeys((*absent, *without)), **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        text = " ".join(str(error).split())[:300]
        wanted = kind.__name__.removesuffix("Pipeline")
        raise LimbeckError(f"prior {name}: not a {wanted} in diffusers' layout, {_where(name)} ({text})") from None


def _where(name: str) -> str:
    """What is not there, and where it was looked for."""
    if Path(name).exists():
        return f"in that folder{_unlisted(Path(name))}"
    from huggingface_hub import constants, try_to_load_from_cache

    cache = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    mode = "offline (the config's key, or HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else "online"
    if name.count("/") > 1 or name.startswith(("/", ".", "~")):
        return "nor is there such a folder"
    found = try_to_load_from_cache(name, INDEX)
    lost = _unlisted(Path(found).parent) if isinstance(found, str) else f": no {INDEX}"
    return f"neither a folder nor, {mode}, a model in the hub's cache {cache}{lost}"


def _unlisted(folder: Path) -> str:
    """Components that a prior's index lists and its folder has no weights or configuration of."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f": no readable {INDEX}"
    parts = [key for key, value in index.items() if isinstance(value, list) and value[0] is not None]
    lost = [part for part in parts if not any((folder / part).glob("*config.json"))]
    lost += [f"{part}/*.safetensors" for part in parts if part not in lost and _needs_weights(index[part][1], folder / part)]
    return f": missing {', '.join(lost)}" if lost else ""


def _needs_weights(cls: str, folder: Path) -> bool:
    models = ("Model", "ModelWithProjection", "AutoencoderKL")
    return cls.endswith(models) and not any(folder.glob("*.safetensors"))
