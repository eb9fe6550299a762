"""encode: posterior means of a shard's training images under a prior's VAE, streamed."""

from pathlib import Path

from limbeck.artifacts import IMAGES, LATENTS
from limbeck.priors.registry import load_prior
from limbeck.stages.common import Spec, class_rows, params, progress
from limbeck.store import Artifact, create


def run(spec: Spec, images: Path, prior: Path, latents: Path) -> None:
    """Write ``latents``. Batches never span classes, so the numbers do not depend on the number of shards."""
    model = load_prior(spec["family"], prior.parent)
    inputs = {"images": images, "vae": prior.parent / "vae/diffusion_pytorch_model.safetensors"}
    with Artifact(images, IMAGES) as source, progress("encode") as report:
        labels = source["labels"]
        shapes = {"latents": (len(labels), *model.latent_shape), "labels": labels.shape}
        header = {key: source.attrs[key] for key in ("classes", "class_range")}
        with create(latents, LATENTS, shapes, params(spec), inputs, **header) as out:
            for _, rows in class_rows(labels):
                for start in range(rows.start, rows.stop, spec["batch"]):
                    stop = min(start + spec["batch"], rows.stop)
                    out.append("latents", model.encode(source.read("images", start, stop)).numpy())
                    report(stop, len(labels))
            out.append("labels", labels)
