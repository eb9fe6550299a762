"""reencode: the real images that prototypes name, encoded at the size that a prior generates, straight from their source."""

from pathlib import Path

import numpy as np

from limbeck.artifacts import IMAGES, PROTOTYPES, TARGETS
from limbeck.config import Dataset, View
from limbeck.data.decoding import decode
from limbeck.data.preprocessing import apply_view
from limbeck.data.sources import open_source
from limbeck.errors import LimbeckError
from limbeck.priors.base import load_vae
from limbeck.priors.files import weight_digests
from limbeck.stages.common import Spec, header_of, params, progress
from limbeck.stages.numbers import WEIGHTS, append
from limbeck.store import Artifact, create

VAE = "vae/diffusion_pytorch_model.safetensors"


def run(spec: Spec, images: Path, prototypes: Path, prior: Path, targets: Path) -> None:
    """Write ``targets``; ``images`` says which image of the source a prototype's row is."""
    view, channels = View.model_validate(spec["view"]), spec["source"]["channels"]
    vae = load_vae(prior.parent, view.size, spec.get("compute", "float32"))
    with Artifact(images, IMAGES) as known, Artifact(prototypes, PROTOTYPES) as chosen, progress("reencode") as report:
        indices, labels = chosen["indices"], chosen["labels"]
        wanted = [
            bytes(known.read("source_ids", row, row + 1)[0]).rstrip(b"\0").decode(errors="surrogateescape") for row in indices
        ]
        header = header_of(known)
        source = open_source(spec["dataset"], Dataset.model_validate({**spec["source"], "views": {"view": view}}))
        places = {source.source_id("train", i): i for i in range(len(source.labels("train")))}
        recorded = params({**spec, "source": {k: v for k, v in spec["source"].items() if k != "path"}})
        shapes = {"members": (len(indices), *vae.latent_shape), "labels": labels.shape}
        digests = {"vae": weight_digests(prior.parent)[VAE]}
        with create(targets, TARGETS, shapes, recorded, {"prototypes": prototypes}, digests, **header) as out:
            for done, name in enumerate(wanted, 1):
                if name not in places:
                    raise LimbeckError(f"datasets.{spec['dataset']}: image {name} is no longer in its source; run ingest again")
                try:
                    pixels = apply_view(decode(source.raw("train", places[name])), view, channels)
                except ValueError as error:
                    raise source.fail(f"image {name} {error}") from None
                where = f"class {header['classes'][int(labels[done - 1])]!r}, image {name}"
                append(out, {"members": vae.encode(pixels[np.newaxis]).numpy()}, where, WEIGHTS)
                report(done, len(wanted))
            out.append("labels", labels)
