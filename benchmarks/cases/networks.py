"""The embedded prior's VAE and denoiser."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.cases.base import SEED, Case, close


def _prior(compute: str = "float32") -> Any:
    from limbeck.data.paths import package_path
    from limbeck.priors.dit import DitPrior

    return DitPrior(package_path("package:fashion-dit"), compute=compute)


def _one_by_one(function: Callable[[slice], Any], n: int) -> np.ndarray:
    return np.concatenate([np.asarray(function(slice(i, i + 1))) for i in range(n)])


def encode(images: int) -> Case:
    """The embedded prior's VAE, on pixels of 32 x 32."""
    prior, x = _prior(), np.random.default_rng(SEED).integers(0, 256, (images, 32, 32, 1), dtype=np.uint8)
    return Case(
        lambda: prior.encode(x), lambda: _one_by_one(lambda at: prior.encode(x[at]), images), "an image at a time", close, None
    )


def decode(images: int) -> Case:
    """The same VAE, to pixels; a gray level is rounding."""
    import torch

    prior = _prior()
    z = torch.randn(images, *prior.latent_shape, generator=torch.Generator().manual_seed(SEED))
    one = lambda: _one_by_one(lambda at: prior.decode(z[at], 1), images)  # noqa: E731
    return Case(lambda: prior.decode(z, 1), one, "an image at a time", lambda a, b: np.abs(a.astype(int) - b).max() <= 1, None)


def invert(latents: int, steps: int) -> Case:
    """D3HR's inversion by the embedded prior, without guidance."""
    import torch

    from limbeck.diffusion.inversion import inverted

    prior = _prior()
    z, labels = torch.randn(latents, *prior.latent_shape, generator=torch.Generator().manual_seed(SEED)), torch.arange(latents) % 10
    scheduler = prior.scheduler("ddim", 50)

    def up(at: slice) -> Any:
        return list(inverted(prior.denoise, scheduler, z[at], labels[at], steps, null=prior.null))[-1]

    one = lambda: _one_by_one(up, latents)  # noqa: E731
    return Case(lambda: up(slice(None)), one, "a latent at a time", lambda a, b: close(a, b, 1e-3), None)


def sample(classes: int, steps: int) -> Case:
    """An image of every class with classifier-free guidance: IPC 1, where a batch of one class is one image."""
    import torch

    from limbeck.diffusion.sampling import sample as sampled

    prior = _prior()
    noise, labels = (
        torch.randn(classes, *prior.latent_shape, generator=torch.Generator().manual_seed(SEED)),
        torch.arange(classes) % 10,
    )

    def down(at: slice) -> Any:
        scheduler = prior.scheduler("ddim", steps)
        return sampled(prior.denoise, scheduler, noise[at], labels[at], null=prior.null, cfg_scale=1.5).latents

    one = lambda: _one_by_one(down, classes)  # noqa: E731
    return Case(lambda: down(slice(None)), one, "a class at a time", lambda a, b: close(a, b, 1e-3), None)


def linear(rows: int, width: int) -> Case:
    """A feed-forward network's first layer, as a denoiser has it on a CPU with AVX-512."""
    import torch

    from limbeck.priors.cpu import Linear

    layer = Linear(width, 4 * width).requires_grad_(False)
    plain = torch.nn.Linear(width, 4 * width).requires_grad_(False)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(rows, width)
    return Case(lambda: layer(x), lambda: plain(x), "torch's layer", close, None)


def bfloat16(images: int) -> Case:
    """``priors.<name>.compute: bfloat16``: faster where a processor multiplies in it; of other values by its rounding."""
    import torch

    priors = {name: _prior(name) for name in ("bfloat16", "float32")}
    x = torch.randn(images, *priors["float32"].latent_shape, generator=torch.Generator().manual_seed(SEED))
    t, labels = torch.full((images,), 261), torch.arange(images) % 10

    def asked(name: str) -> Any:
        with torch.inference_mode():
            return priors[name].denoise(x, t, labels)[0]

    near = lambda a, b: float((a - b).norm() / b.norm()) < 2e-2  # noqa: E731 - bfloat16 has 8 bits
    return Case(lambda: asked("bfloat16"), lambda: asked("float32"), "the denoiser in float32", near)


def dift(patches: int) -> Case:
    """Diffusion features of the middle block, behind which the network is left."""
    import torch

    from limbeck.diffusion.hidden import block_of, hidden

    prior = _prior()
    x, t = torch.randn(patches, *prior.latent_shape, generator=torch.Generator().manual_seed(SEED)), torch.full((patches,), 261)
    labels, block = torch.arange(patches) % 10, block_of(prior, None)

    def whole() -> Any:
        found: list[Any] = []
        handle = prior.blocks[block].register_forward_hook(lambda module, given, output: found.append(output))  # noqa: ARG005
        with torch.inference_mode():
            prior.denoise(x, t, labels)
        handle.remove()
        return found[0].mean(1)

    return Case(lambda: hidden(prior, x, t, labels, block), whole, "the whole network", close, None)
