"""DiT-XL/2 at 256 pixels with random weights: images per second by batch size, achieved FLOP/s against the card's matrix rate, and
what guidance costs beside a step.

``python -m benchmarks.dit_xl`` on a machine with a GPU prints the tables of docs/PERFORMANCE.md; ``--tiny`` runs the same code with
a small DiT on the CPU. Random weights cost what trained ones do.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from limbeck.devices import VARIABLE, cores
from limbeck.diffusion.levels import Level, levels
from limbeck.diffusion.sampling import sample
from limbeck.geometry.patch import real_patches
from limbeck.guidance import alignment, manifold, mode
from limbeck.guidance.ahead import Ahead, BatchedTangents
from limbeck.guidance.base import Guidance, Step, Targets
from limbeck.guidance.manifold import CachedTangents, OnlineTangents
from limbeck.options import AlignmentGuidance, ManifoldGuidance, ModeGuidance, TangentOptions
from limbeck.priors.dit import DitPrior

SCALE = 4.0  # of classifier-free guidance: every step evaluates both branches
ROUNDS, SEED = 3, 0
CLASS = 1300  # latents of a class, as ImageNet has; a quarter of them is a neighbourhood


@dataclass(frozen=True)
class Size:
    """transformer, vae: arguments of diffusers' classes. side: of the images. square: of the matrices whose product is timed."""

    transformer: dict[str, Any]
    vae: dict[str, Any]
    side: int
    square: int
    neighbours: int
    latents: int
    batches: tuple[int, ...]
    steps: int


def _vae(*channels: int, groups: int, layers: int) -> dict[str, Any]:
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * len(channels), "up_block_types": ("UpDecoderBlock2D",) * len(channels)}
    return {"block_out_channels": channels, "norm_num_groups": groups, "layers_per_block": layers, "latent_channels": 4, **kinds}


XL = Size({"out_channels": 8}, _vae(128, 256, 512, 512, groups=32, layers=2), 256, 8192, 300, CLASS, (1, 2, 4, 8, 16, 32, 64), 50)
TINY = Size(
    {"out_channels": 8, "num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "sample_size": 8},
    _vae(8, 8, groups=4, layers=1),
    16,
    128,
    30,
    200,
    (1, 3),
    6,
)


def random_dit(size: Size, **arithmetic: Any) -> DitPrior:
    """A prior of random weights that was never on disk."""

    class Random(DitPrior):
        @staticmethod
        def load(name: str, **options: Any) -> DiTPipeline:  # noqa: ARG004
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(SEED)
                parts = DiTTransformer2DModel(**size.transformer), AutoencoderKL(**size.vae)
            return DiTPipeline(*parts, DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=False))

    return Random("random", size.side, **arithmetic)


def flops(prior: DitPrior) -> int:
    """Of one evaluation of the denoiser for one image, in products and attention: two for every multiplication with addition."""
    x = torch.zeros(1, *prior.latent_shape, device=prior.device, dtype=prior.arithmetic.dtype)
    # as plain products: not every fused kernel of attention is counted
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        prior.forward(x, 500.0, torch.zeros(1, dtype=torch.long))
    return int(counter.get_total_flops())


def settle(where: torch.device) -> None:
    """Wait for what a device has been asked."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def seconds(work: Callable[[], Any], where: torch.device) -> float:
    """Of one call, the device's work included."""
    settle(where)
    started = time.perf_counter()
    work()
    settle(where)
    return time.perf_counter() - started


def matrix_rate(where: torch.device, dtype: torch.dtype, n: int) -> float:
    """FLOP/s of the product of two n x n matrices, the best of ten."""
    a, b = (torch.randn(n, n, device=where).to(dtype) for _ in range(2))
    torch.mm(a, b)
    return 2 * n**3 / min(seconds(lambda: torch.mm(a, b), where) for _ in range(10))


class Timed:
    """A guidance that counts the seconds of its active steps; what the network still had to do is not among them."""

    def __init__(self, guidance: Any, where: torch.device):
        self.guidance, self.where = guidance, where
        self.hook, self.recompute_noise = guidance.hook, guidance.recompute_noise
        self.spent: list[float] = []

    def __call__(self, step: Step, x_t: Tensor, x0_hat: Tensor) -> Tensor | None:
        found: list[Tensor | None] = []
        spent = seconds(lambda: found.append(self.guidance(step, x_t, x0_hat)), self.where)
        if found[0] is not None:
            self.spent.append(spent)
        return found[0]


def sampled(prior: DitPrior, size: Size, batch: int, guidance: Sequence[Guidance] = ()) -> Tensor:
    """Latents of a batch, as the stage samples them."""
    noise = torch.randn(batch, *prior.latent_shape, generator=torch.Generator().manual_seed(SEED)).to(prior.device)
    made = prior.scheduler("ddim", size.steps)
    found = sample(
        prior.denoise, made, noise, torch.zeros(batch, dtype=torch.long), null=prior.null, cfg_scale=SCALE, guidance=guidance
    )
    return found.latents


def median_of(work: Callable[[], Any], where: torch.device) -> float:
    """Seconds, after a first call that is not counted."""
    work()
    return statistics.median(seconds(work, where) for _ in range(ROUNDS))


def rates(prior: DitPrior, size: Size) -> Iterator[tuple[int, float, float, float]]:
    """(batch, seconds of sampling, of decoding, peak GB of the device's memory)."""
    for batch in size.batches:
        if prior.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        sampling = median_of(lambda: sampled(prior, size, batch), prior.device)  # noqa: B023
        latents = torch.zeros(batch, *prior.latent_shape)
        decoding = median_of(lambda: prior.decode(latents, 3), prior.device)  # noqa: B023
        yield batch, sampling, decoding, torch.cuda.max_memory_allocated() / 1e9 if prior.device.type == "cuda" else 0.0


def _options(model: Any, **chosen: Any) -> dict[str, Any]:
    return model().model_dump() | chosen


def guided(prior: DitPrior, size: Size, batch: int) -> dict[str, Callable[[], Any]]:
    """What makes each method's guidance anew, by name: threads work ahead from its first step on."""
    rng, d = np.random.default_rng(SEED), int(np.prod(prior.latent_shape))
    points = rng.standard_normal((size.latents, d), dtype=np.float32)
    prototypes = torch.from_numpy(points[:batch]).view(-1, *prior.latent_shape)
    targets = Targets(prototypes, prototypes, torch.ones(batch), torch.ones(batch)).to(prior.device)
    t_stop, grid = size.steps // 2, levels(prior.scheduler("ddim", size.steps))
    common = {"t_stop": t_stop, "target": "member"}
    tangent = _options(TangentOptions, k=size.neighbours, eigensolver="subspace", anneal="none") | common
    patches = real_patches(points, points[:batch], tangent, manifold.factors(tangent), SEED, 0, range(batch))

    def planes(estimator: str, online: bool) -> Any:
        options = _options(ManifoldGuidance) | _options(ModeGuidance, **common) | tangent | {"estimator": estimator}
        if online:
            batched = prior.device.type != "cpu"
            found: Any = BatchedTangents(patches, options, grid, cores()) if batched else OnlineTangents(patches, options)
        else:
            found = _cached(patches, size, options, grid, prior.device)
        return manifold.build(options, Targets(**{**vars(targets), "tangents": found}), "ddim")

    aligned = _options(AlignmentGuidance, target="member", gamma=0.8, prior_injection_steps=size.steps - t_stop, alignment="paper")
    return {
        "MGD": lambda: mode.build(_options(ModeGuidance, **common), targets, "ddim"),
        "ManifoldGD, cached, expected": lambda: planes("expected", False),
        "ManifoldGD, cached, Monte-Carlo": lambda: planes("monte_carlo", False),
        "ManifoldGD, online, expected": lambda: planes("expected", True),
        "ManifoldGD, online, Monte-Carlo": lambda: planes("monte_carlo", True),
        "CoDA": lambda: alignment.build(aligned, targets, "ddim"),
    }


def _cached(patches: Sequence[Any], size: Size, options: dict[str, Any], grid: Sequence[Level], where: torch.device) -> Any:
    """Tangents as the stage has them, of random neighbours: what they are changes no time."""
    rng, shape = np.random.default_rng(SEED), (len(patches), options["t_stop"], size.neighbours)
    least = min(int(patch.counts.min()) for patch in patches)
    ids = np.broadcast_to(np.arange(min(size.neighbours, least)), (*shape[:2], min(size.neighbours, least))).copy()
    weights = rng.standard_normal((*ids.shape, options["d"]), dtype=np.float32)
    cached = CachedTangents(patches, ids, weights - weights.mean(axis=2, keepdims=True), options["estimator"])
    return cached if where.type == "cpu" else Ahead(cached, grid, cores())


def costs(prior: DitPrior, size: Size, batch: int, unguided: float) -> Iterator[tuple[str, float, float]]:
    """(method, milliseconds of its guidance in a guided step, their share of that step), medians over rounds of a step's mean."""
    for name, make in guided(prior, size, batch).items():
        means = []
        for number in range(ROUNDS + 1):
            timed = Timed(make(), prior.device)
            sampled(prior, size, batch, [timed])
            means += [statistics.mean(timed.spent)] if number else []
        spent = statistics.median(means)
        yield name, 1e3 * spent, spent / (spent + unguided / size.steps)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, numbers to the right."""
    lines = [f"| {' | '.join(head)} |", f"| --- |{' --: |' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def report(size: Size, arithmetic: dict[str, Any], command: str) -> str:
    """Both tables, with what they were measured on."""
    prior = random_dit(size, **arithmetic)
    where, work = prior.device, flops(prior)
    rate = matrix_rate(where, prior.arithmetic.dtype, size.square)
    card = torch.cuda.get_device_name(where) if where.type == "cuda" else f"{platform.processor() or 'CPU'}, {cores()} cores"
    lines, unguided = [], 0.0
    for batch, unguided, decoding, memory in rates(prior, size):
        reached = 2 * batch * size.steps * work / unguided
        numbers = (f"{batch / (unguided + decoding):.2f}", f"{1e3 * unguided / size.steps:.1f}", f"{1e3 * decoding / batch:.1f}")
        lines.append([str(batch), *numbers, f"{reached / 1e12:.3g}", f"{100 * reached / rate:.0f}", f"{memory:.1f}"])
    found = [[name, f"{spent:.2f}", f"{100 * share:.1f}"] for name, spent, share in costs(prior, size, batch, unguided)]
    compute = f"{arithmetic['compute']}{', compiled' if arithmetic.get('compile') else ''}"
    head = f"{card}, torch {torch.__version__}, {compute}, {size.steps} DDIM steps, CFG {SCALE:g}: `{command}`"
    square = f"product of {size.square} x {size.square} matrices: {rate / 1e12:.3g} TFLOP/s."
    each = f"One evaluation for one image: {work / 1e9:.4g} GFLOP; {square}"
    pieces = f" The memory takes {prior.fitting.most} evaluations at once." if prior.fitting.most else ""
    first = ("batch", "images/s", "ms per step", "ms decoding an image", "TFLOP/s", "% of the matrix rate", "GB")
    second = (
        f"guidance, batch {batch}, D = {int(np.prod(prior.latent_shape))}, K = {size.neighbours}",
        "ms per guided step",
        "% of it",
    )
    return "\n\n".join([head, each + pieces, table(first, lines), table(second, found)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dit_xl", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a small DiT, few steps")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--compute", choices=("float32", "bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--attention", choices=("auto", "flash", "efficient", "cudnn", "math"), default="auto")
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args(arguments)
    os.environ[VARIABLE] = given.device
    options = [
        f"--{key} {value}" if value is not True else f"--{key}"
        for key, value in vars(given).items()
        if value not in (False, "auto")
    ]
    how = {"compute": given.compute, "attention": given.attention, "compile": given.compile}
    print(report(TINY if given.tiny else XL, how, " ".join(["python -m benchmarks.dit_xl", *options])))


if __name__ == "__main__":
    main()
