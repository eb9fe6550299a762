"""Images from class statistics alone: what `limbeck generate` does (D3HR Sec. 6.7), by the pipeline's own stages."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.artifacts import STATISTICS
from limbeck.errors import LimbeckError
from limbeck.options import GroupSampling
from limbeck.priors.files import INDEX
from limbeck.records import SUFFIX
from limbeck.stages import draw, pngs, sample
from limbeck.store import Artifact


def generate(
    statistics: Sequence[Path],
    out: Path,
    ipc: int,
    seed: int,
    prior: Path | None = None,
    cfg_scale: float | None = None,
    channels: int = 3,
    threads: int = 1,
    **draws: Any,
) -> None:
    """Write ``out``/distilled-<shard>, ``out``/starts-<shard> and the images, ``out``/images and ``out``/images.zip.

    Parameters
    ----------
    statistics: every shard of a dataset's statistics artifact.
    prior: folder of the stored prior; by default the one beside the statistics in a results folder.
    cfg_scale: of sampling; by default the inversion's. channels: of the images. draws: options of ``GroupSampling``.

    Raises
    ------
    LimbeckError: no prior there, or one that the statistics were not made with.
    """
    options = GroupSampling.model_validate(draws).model_dump(mode="json")
    made = []
    for shard, path in enumerate(statistics):
        folder = prior or _beside(path)
        if not os.path.isfile(folder / INDEX):
            raise LimbeckError(f"no prior in {folder}: name its folder with --prior")
        with Artifact(path, STATISTICS) as found:
            params = found.attrs["params"]
        starts, distilled = (out / f"{name}-{shard}{SUFFIX}" for name in ("starts", "distilled"))
        common = {"ipc": ipc, "seed": seed}
        draw.run({"draws": options, **common}, path, starts, threads)
        spec = {**_sampling(params, options, cfg_scale, channels), **common}
        sample.run(spec, path, folder / INDEX, distilled, statistics=path, starts=starts)
        made.append(distilled)
    about = {"statistics": [path.name for path in statistics], "ipc": ipc, "seed": seed}
    pngs.run(about, made, out / "images/classes.json", out / "images.zip")


def _beside(path: Path) -> Path:
    """results/{dataset}/{prior}/inverted/{name}/{shard} -> results/priors/{prior}."""
    if len(path.parents) < 5:
        raise LimbeckError(f"{path} is in no results folder: name the prior's folder with --prior")
    return path.parents[4] / "priors" / path.parents[2].name


def _sampling(params: Mapping[str, Any], draws: Mapping[str, Any], cfg_scale: float | None, channels: int) -> dict[str, Any]:
    inversion = params["inversion"]
    sampler = {
        "solver": "ddim",
        "steps": inversion["steps"],
        "cfg_scale": inversion["inversion_scale"] if cfg_scale is None else cfg_scale,
        "cfg_channels": inversion.get("cfg_channels", "all"),
        "batch_size": inversion["inversion_batch"],
    }
    return {
        "guidance": [],
        "tangents": None,
        "start": {"kind": "gaussian", **draws, **inversion},
        "sampler": sampler,
        "family": params["family"],
        "prior": params["prior"],
        "size": params["prior"]["size"],
        "channels": channels,
    }
