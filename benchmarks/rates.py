"""How much of every kind of work a core does in a second, and a GPU where there is one: what ``limbeck plan`` divides by.

``python -m benchmarks.rates [FILE]`` writes results/rates.json, which goes before the rates that the package ships. Each kind runs
the real code for about a second, in the units of ``limbeck.resources``; a core's seconds are CPU time on one thread.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.costs.rates import NAME, SHIPPED
from limbeck.priors.sizes import MB, Size
from limbeck.resources import FLOPS_PER_FLOAT, SMALL, activations, step_flops, vae_flops

LONG_ENOUGH = 1.0  # seconds
HUB = 20.0  # ASSUME: megabytes per second; no network is asked
STARTS = {
    "start_forked": "limbeck.warm",  # the command; the fork has everything
    "start": "limbeck.cli, limbeck.stages.pngs",
    "start_science": "limbeck.cli, limbeck.stages.select, limbeck.discovery.kmeans",
    "start_torch": "limbeck.cli, limbeck.stages.sample, limbeck.priors.dit",
}
Cases = dict[str, tuple[float, Callable[[], object]]]  # kind -> how much of it a call does, and the call


def large(where: str) -> Cases:
    """Of networks of the papers' sizes with fewer layers, on a device."""
    return _dit(where, 2, 16, 72, 32, 8, 2) | _vae(where, (128, 256, 512, 512), 3, 128, 1) | _student(where, "resnet18", 3, 224, 8)


def small(where: str) -> Cases:
    """Of networks of the embedded benchmark's sizes."""
    found = _dit(where, 6, 5, 32, 8, 4, 20) | _vae(where, (16, 32, 64), 1, 32, 50) | _student(where, "convnet3-w32", 1, 32, 25)
    return {kind + SMALL: case for kind, case in found.items()}


def _dit(where: str, layers: int, heads: int, head_dim: int, latent: int, factor: int, batch: int) -> Cases:
    import torch

    from limbeck.config import DitTraining
    from limbeck.priors.training import build_dit

    width = heads * head_dim
    flops = batch * step_flops(Size(18.0 * layers * width**2, 0, width / 4, factor=factor), latent * factor)
    dit = build_dit(4, latent, 10, DitTraining(layers=layers, heads=heads, head_dim=head_dim)).to(where)
    z, t = torch.randn(batch, 4, latent, latent, device=where), torch.full((batch,), 500, device=where)
    labels = torch.zeros(batch, dtype=torch.long, device=where)

    def evaluate() -> None:
        with torch.no_grad():
            dit(z, timestep=t, class_labels=labels)

    def tune() -> None:
        dit(z, timestep=t, class_labels=labels).sample.square().mean().backward()

    return {"denoiser": (flops, evaluate), "tuning": (3 * flops, tune)}


def _vae(where: str, widths: tuple[int, ...], channels: int, side: int, batch: int) -> Cases:
    import torch

    from limbeck.config import VaeTraining
    from limbeck.priors.training import build_vae

    vae = build_vae(channels, side, VaeTraining(block_out_channels=widths, layers_per_block=2 if widths[0] > 64 else 1)).to(where)
    x = torch.randn(batch, channels, side, side, device=where)

    def code() -> None:
        with torch.no_grad():
            vae.decode(vae.encode(x).latent_dist.mean)

    return {"vae": (2 * batch * vae_flops(Size(0, 0, 0, vae=widths[0]), side), code)}


def _student(where: str, name: str, channels: int, side: int, batch: int) -> Cases:
    import torch

    from limbeck import protocols
    from limbeck.students.registry import build
    from limbeck.students.training import train

    steps, flops = 4, batch * FLOPS_PER_FLOAT * activations(name, side)
    settings = protocols.get("smoke", "").settings(10, 10, "convnet").model_copy(update={"batch_size": batch, "steps": steps})
    images, labels = np.random.default_rng(0).integers(0, 256, (batch, side, side, channels), dtype=np.uint8), np.arange(batch) % 10
    model, x = build(name, channels, 10, side).to(where).eval(), torch.rand(batch, channels, side, side, device=where)

    def learn() -> None:
        train(lambda: build(name, channels, 10, side), images, labels, settings, 0, 0, lambda *_: None)

    def infer() -> None:
        with torch.no_grad():
            model(x)

    return {"training": (steps * flops, learn), "features": (flops / 3, infer)}


def arrays() -> Cases:
    """Of classes and features: what runs on a core whatever the device."""
    from limbeck.discovery import kmeans
    from limbeck.discovery.base import Pool
    from limbeck.discovery.embedding import reduce
    from limbeck.geometry.patch import nearest
    from limbeck.geometry.tangent import tangent
    from limbeck.metrics.frechet import Frechet, Moments
    from limbeck.metrics.kernels import mmd
    from limbeck.options import Embedding, KMeansDiscovery
    from limbeck.selection.group import Sampling, search

    n, d, ipc, k, rng = 600, 1024, 10, 160, np.random.default_rng(0)
    points = (rng.standard_normal((n, d)) + 4 * rng.integers(0, 2, (n, 1))).astype(np.float32)
    chosen = {**KMeansDiscovery().model_dump(), "classes": 1}
    embedded = {**Embedding(n_neighbors=40).model_dump(), "standardize": True}
    class_ = rng.standard_normal((1000, 3136), dtype=np.float32)  # as many numbers as CoDA's latents at 224 pixels
    own, real = rng.standard_normal((1000, 128)), rng.standard_normal((5000, 128))

    def cluster() -> None:
        kmeans.discover(Pool(n, points), ipc, chosen, 0, 0)

    def planes() -> None:
        tangent(points[nearest(points, points[0], k)], 3)

    def measure() -> None:
        moments = Moments(128)
        moments.add(own)
        distance = Frechet(moments)
        distance.add(real)
        distance.value()
        mmd(own, real)

    return {
        "clustering": (chosen["n_init"] * 50 * ipc * 2.0 * n * d, cluster),
        "umap": (len(class_), lambda: reduce(class_, embedded, 0)),
        "tangents": (2.0 * n * d + 2.0 * k**2 * d + 20.0 * k**3, planes),
        "draws": (20.0 * 10_000 * ipc * d, lambda: search(rng.uniform(0.5, 1.2, (10, d)), range(10), Sampling(ipc, 10_000), 0)),
        "metrics": (20.0 * len(own) * len(real) * 128 + 60.0 * 128**3, measure),
    }


def files(folder: Path) -> Cases:
    """Of images and artifacts on the disk."""
    from PIL import Image

    from limbeck.artifacts import FEATURES, IMAGES
    from limbeck.config import View
    from limbeck.data.decoding import decode
    from limbeck.data.preprocessing import apply_view
    from limbeck.report.diagnostics import angle_figure
    from limbeck.store import Artifact, create

    rng, jpeg = np.random.default_rng(0), io.BytesIO()
    coarse = Image.fromarray(rng.integers(0, 256, (94, 125, 3), dtype=np.uint8)).resize((500, 375))
    coarse.save(jpeg, "JPEG", quality=92)
    photo = apply_view(coarse, View(size=224), 3)
    n, width = 200, 1024
    features = folder / "features.zarr.zip"

    def image() -> None:
        apply_view(decode(jpeg.getvalue()), View(size=256), 3)

    def pixels() -> None:
        shapes = {"images": (n, *photo.shape), "labels": (n,), "source_ids": (n, 1)}
        with create(folder / "images.zarr.zip", IMAGES, shapes, {}, {}) as out:
            for _ in range(n):
                out.append("images", photo[None])
            out.append("labels", np.zeros(n))
            out.append("source_ids", np.zeros((n, 1)))

    def io_() -> None:
        with create(features, FEATURES, {"features": (20 * n, width), "labels": (20 * n,)}, {}, {}) as out:
            out.append("features", np.ones((20 * n, width)))
            out.append("labels", np.zeros(20 * n))
        with Artifact(features, FEATURES) as found:
            found.verify()

    def page() -> None:
        angle_figure({"a": rng.random((50, 25))}, {"a": 0.1}, {"a": ("C0", "-")})

    megabytes = photo.nbytes / MB
    return {
        "files": (1, image),
        "pixels": (n * megabytes, pixels),
        "io": (2 * 20 * n * width * 4 / MB, io_),
        "png": (megabytes, lambda: Image.fromarray(photo).save(folder / "x.png")),
        "rows": (1, lambda: Image.fromarray(photo[:16, :16]).save(folder / "y.png")),
        "pages": (1, page),
    }


def measured(cases: Cases, clock: Callable[[], float] = time.process_time) -> dict[str, float]:
    """Per second, by kind; every call once before, as first calls load libraries."""
    found = {}
    for kind, (amount, call) in cases.items():
        call()
        done, started = 0.0, clock()
        while (spent := clock() - started) < LONG_ENOUGH:
            call()
            done += amount
        found[kind] = float(f"{done / spent:.3g}")
    return found


def starts() -> dict[str, float]:
    """Processes per second of a core's time."""
    found = {}
    for kind, modules in STARTS.items():
        before = os.times()
        subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)
        after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        found[kind] = float(f"{1 / spent:.3g}")
    return found


def synchronised() -> float:
    """Seconds, once a GPU has done what it was given."""
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def rates() -> dict[str, Any]:
    """The content of a file of rates."""
    import torch
    from threadpoolctl import threadpool_limits

    from limbeck.cli import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)
    threadpool_limits(1)
    today = f"python -m benchmarks.rates, {date.today().isoformat()}"
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        cases = {**large("cpu"), **small("cpu"), **arrays(), **files(Path(folder))}
        here = {**measured(cases), **starts(), "fetched": HUB}
    found["cpu"] = {"name": f"a core of {_cpu()}", "measured": True, "source": today, "rates": here}
    if torch.cuda.is_available():
        there = measured({**large("cuda"), **small("cuda")}, synchronised)
        found["cuda"] = {"name": torch.cuda.get_device_name(), "measured": True, "source": today, "rates": there}
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "this machine")


def run(folder: Path) -> list[dict[str, object]]:
    """Writes results/rates.json; per kind the seconds that a unit takes, and the rate in parts of the shipped one."""
    subprocess.run([sys.executable, "-m", "benchmarks.rates", str(folder / NAME)], check=True)
    text, shipped = (folder / NAME).read_text(), json.loads(SHIPPED.read_text())
    (Path("results") / NAME).write_text(text)
    return [
        {
            "benchmark": "rates",
            "case": f"{device}: {kind}",
            "seconds": 1 / rate,
            "peak_mb": 0.0,
            "ratio": rate / shipped[device]["rates"].get(kind, rate),
            "of": f"the shipped rate, of {shipped[device]['name']}",
        }
        for device, about in json.loads(text).items()
        for kind, rate in about["rates"].items()
    ]


def main(out: str = f"results/{NAME}") -> None:
    """Measure, and write a file of rates."""
    Path(out).write_text(json.dumps(rates(), indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
