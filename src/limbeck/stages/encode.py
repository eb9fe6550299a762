"""encode: posterior means of a shard's training images under a prior's VAE, streamed."""

from pathlib import Path

from limbeck.artifacts import IMAGES, LATENTS
from limbeck.priors.base import load_vae
from limbeck.priors.files import weight_digests
from limbeck.stages.common import Spec, class_rows, header_of, params, progress
from limbeck.stages.numbers import WEIGHTS, append
from limbeck.store import Artifact, create


def run(spec: Spec, images: Path, prior: Path, latents: Path) -> None:
    """Write ``latents``. Batches never span classes, so the numbers do not depend on the number of shards."""
    vae = load_vae(prior.parent, spec["size"], spec.get("compute", "float32"))
    digests = {"vae": weight_digests(prior.parent)["vae/diffusion_pytorch_model.safetensors"]}
    with Artifact(images, IMAGES) as source, progress("encode") as report:
        labels = source["labels"]
        shapes = {"latents": (len(labels), *vae.latent_shape), "labels": labels.shape}
        header = header_of(source)
        with create(latents, LATENTS, shapes, params(spec), {"images": images}, digests, **header) as out:
            for label, rows in class_rows(labels):
                where = f"class {header['classes'][label]!r}"
                for start in range(rows.start, rows.stop, spec["batch"]):
                    stop = min(start + spec["batch"], rows.stop)
                    append(out, {"latents": vae.encode(source.read("images", start, stop)).numpy()}, where, WEIGHTS)
                    report(stop, len(labels))
            out.append("labels", labels)
