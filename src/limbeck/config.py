"""The one typed configuration. Unknown keys, wrong types and impossible values fail here, before any job starts.

Only pydantic is imported, so the Snakefile parses in well under a second. Method options are flat in the file
(``methods.mgd.weight``); ``limbeck.methods`` routes them to the components whose models stand here.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", strict=True)]
RESERVED = {"priors", "papers", "images", "teachers", "features", "none", "ipcall", ".", ".."}


class Model(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class View(Model):
    """A size and a resize rule of a dataset."""

    size: int = Field(32, ge=8, le=4096, description="side of the square images, pixels")
    resize: Literal["pad", "squash", "crop"] = Field(
        "crop",
        description="pad: zero border, no resampling; squash: Lanczos to size x size; crop: Lanczos on the short side, centre crop",
    )


class Dataset(Model):
    """Where a labelled image set comes from."""

    source: Literal["npz", "idx", "folder"]
    path: str = Field(description="file (npz) or folder (idx, folder); 'package:NAME' is a file inside the package")
    classes: tuple[str, ...] | None = Field(None, description="class names in canonical order; default: the source's own order")
    channels: Literal[1, 3] = Field(3, description="1 for grayscale, 3 for RGB")
    views: dict[Name, View] = Field({"v32": View()}, min_length=1, description="the first is the one students are trained on")
    shards: int = Field(1, ge=1, description="files per artifact; a shard is a set of whole classes")

    @property
    def view(self) -> str:
        """The view that students, teachers and metrics use: the first."""
        return next(iter(self.views))


class Training(Model):
    """What both networks of a prior share."""

    steps: int = Field(ge=1)
    batch_size: int = Field(64, ge=1)
    lr: float = Field(gt=0, description="peak learning rate; linear warm-up, then half cosine to 0")
    warmup: int = Field(100, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    seed: int = 0


class VaeTraining(Training):
    """AutoencoderKL: MSE + l1 * L1 + kl * KL."""

    steps: int = Field(5000, ge=1)
    lr: float = Field(2e-3, gt=0)
    block_out_channels: tuple[int, ...] = (16, 32, 64)
    layers_per_block: int = Field(1, ge=1)
    latent_channels: int = Field(4, ge=1)
    l1: float = Field(0.2, ge=0)
    kl: float = Field(1e-5, ge=0)


class DitTraining(Training):
    """Class-conditional DiT, noise prediction, min-SNR weights, EMA."""

    steps: int = Field(32000, ge=1)
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(500, ge=0)
    layers: int = Field(6, ge=1)
    heads: int = Field(5, ge=1)
    head_dim: int = Field(32, ge=4)
    patch_size: int = Field(2, ge=1)
    ema: float = Field(0.9995, ge=0, lt=1)
    cfg_dropout: float = Field(0.1, ge=0, le=1, description="share of samples trained without their label")
    min_snr: float = Field(5.0, gt=0)


class PriorTraining(Model):
    """Train this prior on a dataset's training images."""

    dataset: Name
    vae: VaeTraining = VaeTraining()
    dit: DitTraining = DitTraining()
    dtype: Literal["float16", "float32"] = Field("float16", description="of the stored weights; loaded as float32")


class Prior(Model):
    """A diffusion prior: given weights, or trained by the pipeline."""

    family: Literal["dit"] = "dit"
    weights: str | None = Field(None, description="'package:NAME', a hub name or a local folder, in diffusers' layout")
    train: PriorTraining | None = None
    view: Name = Field("v32", description="the dataset's view that this prior encodes")
    cfg_scale: float = Field(4.0, ge=0, description="classifier-free guidance scale where a method sets none")
    encode_batch: int = Field(100, ge=1)

    @model_validator(mode="after")
    def _one_origin(self) -> "Prior":
        if (self.weights is None) == (self.train is None):
            raise ValueError("needs exactly one of 'weights' and 'train' (set the other to null)")
        return self


class RandomDiscovery(Model):
    """Real images drawn without replacement."""


class KMeansDiscovery(Model):
    """k-means with K = IPC in the VAE's latent space."""

    n_init: int = Field(3, ge=1, description="restarts; the one with the lowest inertia is kept")
    max_iter: int = Field(300, ge=1)


class ModeGuidance(Model):
    """Mode guidance (MGD): pull the predicted clean latent towards a prototype (METHODS.md section 1)."""

    weight: float = Field(0.1, ge=0, le=1, description="lambda")
    t_stop: int = Field(25, ge=0, description="guided steps, counted from the first")
    target: Literal["centroid", "member"] = Field("centroid", description="the cluster's mean, or its nearest real latent")
    noise: Literal["recompute", "keep"] = Field(
        "recompute", description="DDIM: eps from the guided x0_hat (released), or untouched"
    )


class Sampler(Model):
    """How latents are drawn from the prior."""

    solver: Literal["ddim", "ddpm"] = "ddim"
    steps: int = Field(50, ge=1, le=1000)
    cfg_scale: float | None = Field(None, ge=0, description="default: the prior's")
    cfg_channels: Literal["all"] | int = Field("all", description="latent channels that classifier-free guidance acts on")
    batch_size: int = Field(64, ge=1, description="images per batch; batches never span classes")


class Teacher(Model):
    """A classifier trained on the real data; also the default feature extractor."""

    student: Name = "convnet3-w32"
    protocol: Name = "tiny-teacher"
    seed: int = 0


class Run(Model):
    """What ``snakemake`` builds when no target is named."""

    datasets: tuple[Name, ...] = ("fashion-mini",)
    ipc: tuple[Annotated[int, Field(ge=1)], ...] = Field((10,), description="images per class")
    prior: Name = "fashion-dit"
    methods: tuple[Name, ...] = Field(("random", "kmeans", "dit", "mgd"), min_length=1)
    references: tuple[Literal["full", "subset"], ...] = Field(
        ("full", "subset"), description="rows for the whole training set and for a size-matched random real subset"
    )
    seeds: tuple[int, ...] | dict[int, tuple[int, ...]] = Field((0,), description="generation seeds, or a mapping by IPC")
    repeats: int = Field(2, ge=1, description="trainings per generation seed")
    protocol: Name = "tiny-hard"
    students: tuple[Name, ...] = Field(("convnet3-w32",), min_length=1)
    teacher: Name = "convnet3"


class Config(Model):
    """config.yaml."""

    results: str = Field("results", pattern=r"^[^\s'\"$`\\{}]+$", description="folder of all artifacts; no blanks or quotes")
    run: Run = Run()
    datasets: dict[Name, Dataset] = {
        "fashion-mini": Dataset(
            source="npz", path="package:fashion_mini.npz", channels=1, views={"v32": View(size=32, resize="pad")}
        ),
        "fashion_mnist": Dataset(
            source="idx", path="/usr/share/datasets/fashion-mnist", channels=1, views={"v32": View(size=32, resize="pad")}
        ),
    }
    priors: dict[Name, Prior] = {"fashion-dit": Prior(weights="package:fashion-dit", view="v32", cfg_scale=1.5)}
    methods: dict[Name, dict[str, Any]] = {
        "random": {"base": "random"},
        "kmeans": {"base": "kmeans"},
        "dit": {"base": "dit"},
        "mgd": {"base": "mgd", "weight": 0.1},
        "mgd_ddpm": {"base": "mgd", "solver": "ddpm"},
    }
    teachers: dict[Name, Teacher] = {"convnet3": Teacher()}
