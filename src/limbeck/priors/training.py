"""Training a small latent-diffusion prior: an AutoencoderKL, then a class-conditional DiT on its latents.

Kernels: arrays in, modules and a history out. The stage ``prior`` decides what to train on and where to save.
"""

import copy
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, DiTTransformer2DModel
from torch import Tensor

from limbeck.config import DitTraining, VaeTraining
from limbeck.priors.cpu import quicken
from limbeck.seeds import torch_generator

History = list[dict[str, float]]
Report = Callable[[int, int, float], None]


class Diverged(ArithmeticError):
    """The loss is no longer a number; the message names the step and the learning rate."""


def cosine_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up to ``peak``, then a half cosine to 0 at ``steps``."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def shuffled_batches(n: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless index batches, each epoch a fresh permutation of ``range(n)``; the short last batch is dropped."""
    batch = min(batch, n)
    while True:
        order = torch.randperm(n, generator=generator)
        yield from order[: n - n % batch].split(batch)


def _optimise(
    model: torch.nn.Module,
    loss_now: Callable[[], Tensor],
    cfg: VaeTraining | DitTraining,
    after: Callable[[int], None] | None,
    report: Report,
) -> History:
    optimiser = torch.optim.AdamW(model.parameters(), lr=cfg.lr, betas=(0.9, 0.99), weight_decay=cfg.weight_decay, fused=True)
    history: History = []
    running = 0.0
    every = max(1, cfg.steps // 100)
    for step in range(cfg.steps):
        rate = cosine_rate(step, cfg.steps, cfg.lr, cfg.warmup)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = loss_now()
        value = loss.item()
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} at step {step + 1} of {cfg.steps} (learning rate {rate:.2e}); lower it")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if after is not None:
            after(step)
        running += value
        if (step + 1) % every == 0:
            history.append({"step": step + 1, "loss": running / every})
            report(step + 1, cfg.steps, running / every)
            running = 0.0
    return history


def build_vae(channels: int, size: int, cfg: VaeTraining) -> AutoencoderKL:
    """An untrained AutoencoderKL for ``channels`` x ``size`` x ``size`` images, in diffusers' terms."""
    levels = len(cfg.block_out_channels)
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(cfg.block_out_channels),
        layers_per_block=cfg.layers_per_block,
        latent_channels=cfg.latent_channels,
        norm_num_groups=min(8, *cfg.block_out_channels),
        sample_size=size,
    )


def train_vae(images: np.ndarray, cfg: VaeTraining, report: Report) -> tuple[AutoencoderKL, History]:
    """Train an AutoencoderKL on uint8 ``images`` (N, H, W, C): MSE + ``l1`` * L1 + ``kl`` * KL on [-1, 1].

    ``scaling_factor`` is set to 1 / (standard deviation of the posterior means), as in latent diffusion
    (Rombach et al. 2022, App. D.1), so that the diffusion model sees unit variance.
    """
    generator = torch_generator(cfg.seed, "prior.vae")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        vae = build_vae(images.shape[-1], images.shape[1], cfg)
    vae = vae.to(memory_format=torch.channels_last).train()
    batches = shuffled_batches(len(images), cfg.batch_size, generator)

    def loss_now() -> Tensor:
        x = to_unit(images[next(batches).numpy()])
        posterior = vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        y = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        return F.mse_loss(y, x) + cfg.l1 * F.l1_loss(y, x) + cfg.kl * kl

    history = _optimise(vae, loss_now, cfg, None, report)
    vae.eval()
    means = encode_means(vae, images[:10_000])
    vae.register_to_config(scaling_factor=float(1 / means.std()))
    return vae, history


def to_unit(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, C) to float32 (N, C, H, W) on [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def encode_means(vae: AutoencoderKL, images: np.ndarray, batch: int = 500) -> Tensor:
    """Posterior means (N, C, H, W), unscaled."""
    return torch.cat([vae.encode(to_unit(images[i : i + batch])).latent_dist.mean for i in range(0, len(images), batch)])


@torch.no_grad()
def reconstruction_error(vae: AutoencoderKL, images: np.ndarray, batch: int = 500) -> float:
    """Mean squared error of decode(encode(x)) on [-1, 1]."""
    total = 0.0
    for i in range(0, len(images), batch):
        x = to_unit(images[i : i + batch])
        total += float(((vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1) - x) ** 2).mean()) * len(x)
    return total / len(images)


def build_dit(channels: int, size: int, classes: int, cfg: DitTraining) -> DiTTransformer2DModel:
    """An untrained class-conditional DiT for latents (``channels``, ``size``, ``size``), adaLN-Zero initialised.

    Diffusers leaves its linear layers at torch's default; a DiT starts as the identity (Peebles & Xie 2023, Sec. 3.2):
    gates and the output layer at zero, Xavier-uniform elsewhere, embeddings N(0, 0.02²).
    """
    model = DiTTransformer2DModel(
        num_attention_heads=cfg.heads,
        attention_head_dim=cfg.head_dim,
        in_channels=channels,
        out_channels=channels,
        num_layers=cfg.layers,
        sample_size=size,
        patch_size=cfg.patch_size,
        num_embeds_ada_norm=classes,
        norm_num_groups=channels,
    )
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
        elif isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=0.02)
    gates = [block.norm1.linear for block in model.transformer_blocks]
    for layer in (*gates, model.proj_out_1, model.proj_out_2):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return model


def min_snr_weight(abar: Tensor, gamma: float) -> Tensor:
    """Loss weight min(SNR, gamma) / SNR of the noise-prediction loss (Hang et al. 2023, Eq. 7)."""
    snr = abar / (1 - abar)
    return snr.clamp(max=gamma) / snr


def drop_labels(labels: Tensor, null: int, probability: float, generator: torch.Generator) -> Tensor:
    """Replace each label by ``null`` with ``probability``, once per sample.

    Diffusers' DiT in ``.train()`` drops labels independently in every block, so no sample is ever fully unconditional;
    hence the model stays in eval and labels are dropped here.
    """
    return torch.where(torch.rand(labels.shape, generator=generator) < probability, torch.full_like(labels, null), labels)


@torch.no_grad()
def _ema_update(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(model.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)


def train_dit(
    latents: Tensor, labels: Tensor, classes: int, cfg: DitTraining, scheduler: DDPMScheduler, report: Report
) -> tuple[DiTTransformer2DModel, History]:
    """Train a noise-predicting DiT; returns the exponential moving average of its weights.

    Parameters
    ----------
    latents: (N, C, H, W) float32, scaled to unit variance.
    labels: (N,) int64 below ``classes``; the null label is ``classes``.
    """
    generator = torch_generator(cfg.seed, "prior.dit")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        model = build_dit(latents.shape[1], latents.shape[2], classes, cfg).eval()
    average = copy.deepcopy(model).requires_grad_(False)
    quicken(model)
    batches = shuffled_batches(len(latents), cfg.batch_size, generator)
    abar = scheduler.alphas_cumprod

    def loss_now() -> Tensor:
        batch = next(batches)
        z0 = latents[batch]
        t = torch.randint(len(abar), (len(batch),), generator=generator)
        eps = torch.randn(z0.shape, generator=generator)
        y = drop_labels(labels[batch], classes, cfg.cfg_dropout, generator)
        predicted = model(scheduler.add_noise(z0, eps, t), timestep=t, class_labels=y).sample
        weight = min_snr_weight(abar[t], cfg.min_snr)
        return (weight * ((predicted - eps) ** 2).mean(dim=(1, 2, 3))).mean()

    def after(step: int) -> None:
        _ema_update(average, model, min(cfg.ema, (step + 1) / (step + 10)))

    history = _optimise(model, loss_now, cfg, after, report)
    return average, history
