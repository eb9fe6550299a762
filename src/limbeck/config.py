"""The one typed configuration. Unknown keys, wrong types and impossible values fail here, before any job starts.

Only pydantic is imported, so the Snakefile parses in well under a second. Method options are flat in the file
(``methods.mgd.weight``); ``limbeck.methods`` routes them to the components whose models stand here.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", strict=True)]
TEACHER = "teacher"  # the extractor that is built in: the run's teacher
VAE = "vae"  # the feature space of the prior's own latents
RESERVED = {
    "priors",
    "papers",
    "images",
    "teachers",
    "features",
    "tangents",
    "targets",
    "inverted",
    "starts",
    "none",
    "ipcall",
    ".",
    "..",
}


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


# What a dataset of source 'pseudo' has of its own, and what it takes from the dataset it is made of.
PSEUDO = ("of", "labelled", "extractor", "threshold", "label_seed")
INHERITED = ("classes", "channels", "views", "shards")


class Dataset(Model):
    """Where a labelled image set comes from: files, or (pseudo) another dataset of which few labels are taken as known."""

    source: Literal["npz", "idx", "folder", "pseudo"]
    path: str = Field("", description="file (npz) or folder (idx, folder); 'package:NAME' is a file inside the package")
    classes: tuple[str, ...] | None = Field(None, description="class names in canonical order; default: the source's own order")
    channels: Literal[1, 3] = Field(3, description="1 for grayscale, 3 for RGB")
    views: dict[Name, View] = Field({"v32": View()}, min_length=1, description="the first is the one students are trained on")
    shards: int = Field(1, ge=1, description="files per artifact; a shard is a set of whole classes")
    of: Name | None = Field(
        None, description="pseudo: the dataset it is made of; classes, channels, views, shards, tests are that one's"
    )
    labelled: float = Field(0.1, gt=0, le=1, description="pseudo: share of each class whose labels are known, at least one image")
    extractor: Name | None = Field(None, description="pseudo: in whose features the class centres are; 'teacher' saw every label")
    threshold: float | None = Field(
        0.85, ge=-1, le=1, description="pseudo: least cosine to a class centre that gives a label; null: the labelled images alone"
    )
    label_seed: int = Field(0, description="pseudo: which labels are known")

    @model_validator(mode="after")
    def _keys_of_its_source(self) -> "Dataset":
        given, pseudo = self.model_fields_set, self.source == "pseudo"
        if not pseudo and not self.path:
            raise ValueError(f"source {self.source} needs 'path'")
        if pseudo and self.of is None:
            raise ValueError("source pseudo needs 'of', the dataset it is made of")
        if pseudo and self.threshold is not None and self.extractor is None:
            raise ValueError("source pseudo needs 'extractor' (or threshold: null, the labelled images alone)")
        for key in sorted(given & {*(("path", *INHERITED) if pseudo else PSEUDO)}):
            raise ValueError(
                f"source {self.source} has no '{key}'" + (", it takes that of 'of'" if pseudo and key != "path" else "")
            )
        return self

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

    family: Literal["dit", "sd", "sdxl", "sdxl_refiner", "sd3"] = Field(
        "dit",
        description="dit: class labels; sd (Stable Diffusion 1, 2), sdxl, sd3: prompts from class names; sdxl_refiner: for refiner",
    )
    weights: str | None = Field(None, description="'package:NAME', a hub name or a local folder, in diffusers' layout")
    variant: str | None = Field(None, description="of the weight files, e.g. fp16")
    dtype: Literal["float16", "float32"] = Field(
        "float32", description="of the stored weights, where they are not copied as they are; loaded as float32"
    )
    t5: bool = Field(True, description="sd3: whether to take its third text encoder, by far the largest, along")
    train: PriorTraining | None = None
    view: Name = Field("v32", description="the dataset's view of the size that this prior generates")
    discovery_view: Name | None = Field(
        None,
        description="the view whose latents discovery works in; chosen images alone are then encoded at 'view'; null: 'view'",
    )
    prompt: str = Field("{name}", description="of text priors; {name} is the class's first synonym", pattern=r"\{name\}")
    refiner: Name | None = Field(None, description="sdxl: a prior of family sdxl_refiner that denoises the last part")
    refiner_start: float = Field(0.8, gt=0, lt=1, description="where the refiner takes over, as diffusers' denoising_start")
    cfg_scale: float | None = Field(
        None, ge=0, description="classifier-free guidance scale where a method sets none; null: 4 for dit, 5 for text priors"
    )
    encode_batch: int = Field(100, ge=1)

    @model_validator(mode="after")
    def _one_origin(self) -> "Prior":
        if (self.weights is None) == (self.train is None):
            raise ValueError("needs exactly one of 'weights' and 'train' (set the other to null)")
        if self.train is not None and self.family != "dit":
            raise ValueError(f"only family dit is trained here, not {self.family}; set 'weights'")
        if self.refiner is not None and self.family != "sdxl":
            raise ValueError(f"only family sdxl has a refiner, not {self.family}")
        return self

    @property
    def discovery(self) -> str:
        """The view whose latents discovery works in."""
        return self.discovery_view or self.view


class RandomDiscovery(Model):
    """Real images drawn without replacement."""


class Embedding(Model):
    """The space that a discovery clusters in: IPC-free and cluster-free, so cached by itself."""

    features: Name = Field(VAE, description="what is embedded: 'vae', the prior's latents, or the features of an extractor")
    reducer: Literal["umap", "pca", "none"] = "umap"
    components: int = Field(50, ge=1)
    n_neighbors: int | None = Field(None, ge=2, description="of UMAP; null: 85 up to IPC 20, 40 above")
    min_dist: float = Field(0.0, ge=0, le=1, description="of UMAP")


class KMeansDiscovery(Embedding):
    """k-means with K = IPC: in the VAE's latents as they are (features vae, reducer none), or in a standardised embedding."""

    reducer: Literal["umap", "pca", "none"] = "none"
    n_init: int = Field(3, ge=1, description="restarts; the one with the lowest inertia is kept")
    max_iter: int = Field(300, ge=1)


class DivisiveFit(Model):
    """The IPC-free part of divisive discovery: a binary tree per class by bisecting k-means (ManifoldGD Alg. 1, line 1)."""

    depth: int = Field(8, ge=0, le=16, description="L: a node at this depth is not split")
    n_init: int = Field(3, ge=1, description="restarts of each bisection")


class TreeSelection(Model):
    """How IPC nodes are taken from a tree."""

    selection: Literal["levelwise", "leaves"] = Field(
        "levelwise",
        description="levelwise: one node per level and round (ManifoldGD Alg. 1); leaves: the leaves after IPC - 1 splits",
    )
    s_start: int | None = Field(
        None, ge=0, description="deepest level of the first round; null: 6 below 100 classes, 1 from there on, at most the depth"
    )


class DivisiveDiscovery(DivisiveFit, TreeSelection):
    """Nodes of a divisive tree as prototypes."""

    @model_validator(mode="after")
    def _start_in_tree(self) -> "DivisiveDiscovery":
        if self.s_start is not None and self.s_start > self.depth:
            raise ValueError(f"s_start {self.s_start} is beyond depth {self.depth}")
        return self


class AgglomerativeFit(Model):
    """The IPC-free part of agglomerative discovery: the whole dendrogram per class."""

    linkage: Literal["ward", "average", "complete", "single"] = Field("ward", description="Euclidean")


class AgglomerativeDiscovery(AgglomerativeFit, TreeSelection):
    """Nodes of a dendrogram as prototypes."""

    selection: Literal["levelwise", "leaves"] = Field(
        "leaves", description="leaves: the IPC clusters before the last IPC - 1 merges"
    )


class DensityFit(Embedding):
    """Density clusters by HDBSCAN: IPC-free."""

    min_cluster_size: int | None = Field(None, ge=2, description="of HDBSCAN; null: 55 up to IPC 20, 15 above")
    min_samples: int = Field(3, ge=1, description="of HDBSCAN")


class DensityDiscovery(DensityFit):
    """CoDA's distribution discovery: density clusters brought to exactly IPC representatives (Algorithm 2)."""

    variant: Literal["paper", "released"] = Field("paper", description="Algorithm 2 as printed, or as in the authors' code")


class ModeGuidance(Model):
    """Mode guidance (MGD): pull the predicted clean latent towards a prototype (METHODS.md section 1)."""

    weight: float = Field(0.1, ge=0, le=1, description="lambda")
    t_stop: int = Field(25, ge=0, description="guided steps, counted from the first")
    target: Literal["centroid", "member"] = Field("centroid", description="the cluster's mean, or its nearest real latent (medoid)")
    noise: Literal["recompute", "keep"] = Field(
        "recompute", description="DDIM: eps from the guided x0_hat (released), or untouched"
    )
    kernel: Literal["rbf", "laplace", "imq"] = Field("rbf", description="weight of the residual (ManifoldGD Sec. 3.2, footnote)")
    bandwidth: float | None = Field(
        None, gt=0, description="of Laplace and IMQ, latent units; null: median distance of the class's latents to the prototype"
    )


class TangentOptions(Model):
    """How the tangent space at a guided step is estimated (METHODS.md section 1). What the stage ``tangents`` reads."""

    d: int = Field(3, ge=1, description="dimension of the tangent space")
    k: Annotated[int, Field(ge=1, strict=True)] | Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="neighbours at each step: a count (the paper: 300), or a fraction of the patch"
    )
    radius: float = Field(0.25, gt=0, description="of the prototype's neighbourhood")
    radius_unit: Literal["quantile", "absolute"] = Field(
        "quantile", description="quantile: of the class's distances to the prototype, at least d + 2 points; absolute: latent units"
    )
    neighbourhood: Literal["real", "synthetic"] = Field(
        "real", description="the class's latents, or random points on a sphere around the prototype (as released; use k: 12)"
    )
    points: int = Field(300, ge=1, description="of a synthetic neighbourhood")
    estimator: Literal["monte_carlo", "expected"] = Field(
        "monte_carlo", description="covariance of a noised patch (the paper), or its expectation over the patch's noise"
    )
    query: Literal["anchor", "online"] = Field(
        "anchor", description="neighbours of the noised prototype (cached stage), or of the actual x_t"
    )
    eigensolver: Literal["exact", "subspace"] = Field("exact", description="of the Gram matrix, or block subspace iteration")
    tolerance: float = Field(1e-5, gt=0, description="subspace iteration: residual relative to the largest eigenvalue")
    anneal: Literal["none", "exponential", "cosine", "linear"] = Field("exponential", description="decay of the radius")
    warmup: int = Field(5, ge=0, description="guided steps at full radius; synthetic: steps from max_mult * radius to radius")
    # ASSUME: the paper does not print where the radius ends
    anneal_to: float = Field(0.2, gt=0, le=1, description="last radius as a share of the first (real neighbourhoods)")
    max_mult: float = Field(2.0, ge=1, description="first radius as a multiple (synthetic neighbourhoods)")


class ManifoldGuidance(ModeGuidance, TangentOptions):
    """ManifoldGD: mode guidance without (part of) its component normal to the local manifold (Eq. 4)."""

    correction: Literal["project", "pull", "none"] = Field(
        "project",
        description="project: Eq. 4; pull: a unit-norm pull to the local plane (as released; lam_man 0.1); none: mode guidance",
    )
    lam_man: float = Field(1.0, ge=0, description="share of the normal component removed, or weight of the pull")
    anneal_lambda: bool = Field(False, description="whether lam_man decays with the radius")

    @model_validator(mode="after")
    def _sensible(self) -> "ManifoldGuidance":
        if self.correction == "project" and self.lam_man > 1:
            raise ValueError(f"lam_man {self.lam_man:g} removes more than the normal component; at most 1 with correction: project")
        if isinstance(self.k, int) and self.k < self.d + 2:
            raise ValueError(f"k {self.k} is fewer than d + 2 = {self.d + 2} neighbours")
        if self.neighbourhood == "synthetic" and self.points < self.d + 2:
            raise ValueError(f"points {self.points} is fewer than d + 2 = {self.d + 2}")
        if self.radius_unit == "quantile" and self.radius > 1:
            raise ValueError(f"radius {self.radius:g} is no quantile; at most 1, or set radius_unit: absolute")
        return self


class AlignmentGuidance(Model):
    """CoDA's distribution alignment: pull the conditional branch towards a real representative (METHODS.md section 2)."""

    gamma: float | None = Field(
        None, ge=0, description="alignment strength; null: up to IPC 20 and above 1.0 and 0.8 for DiT, 0.1 and 0.08 for text priors"
    )
    prior_injection_steps: int | None = Field(
        None, ge=0, description="last steps without alignment (PIS); null: 15 and 8 of 50 for DiT, 5 and 20 for text priors"
    )
    target: Literal["centroid", "member"] = Field("member", description="the representative's latent, or its cluster's mean")
    alignment: Literal["paper", "released"] | None = Field(
        None,
        description="released: times the solver's sigma; null: paper for dit and sd3, released for sd and sdxl (their gammas)",
    )


class Inversion(Model):
    """Training latents taken to a step of the solver's grid, and their per-class statistics (D3HR Eq. 3; METHODS.md section 3)."""

    inversion: Literal["ddim", "ddpm"] = Field("ddim", description="ddim: inverted deterministically; ddpm: noised (Base-DDPM)")
    inversion_step: int = Field(31, ge=0, description="i, network evaluations up and down again, of 'steps'")
    inversion_scale: float = Field(1.0, ge=0, description="classifier-free guidance scale of the inversion")
    inversion_batch: int = Field(64, ge=1, description="latents per batch; batches never span classes")
    keep_latents: bool = Field(False, description="whether the latents at step i are kept beside their statistics")


class GroupSampling(Model):
    """D3HR's group sampling: the best of many random groups under a class's Gaussian (Eqs. 5-9; METHODS.md section 3)."""

    candidates: int = Field(100_000, ge=1, description="groups per class, the paper's m; 1 is random sampling (Base-RS)")
    l_mu: float = Field(1.0, ge=0, description="weight of the mean's term; 0 leaves it out")
    l_sd: float = Field(1.0, ge=0, description="weight of the standard deviation's")
    l_skew: float = Field(0.5, ge=0, description="weight of the skewness'; up to IPC 2 it is undefined and left out")
    variance_scale: float = Field(1.0, gt=0, description="of the class's variance, in draws and targets (Table A5)")
    pool: Literal["shared", "independent"] = Field(
        "shared",
        description="one pool for all classes, each seeing it through its own signed permutation of dimensions, or one each",
    )
    blocks: int = Field(1, ge=1, description="parts of the dimensions that each take a best candidate of their own; 1: the paper")
    search: Literal["best", "exact"] = Field("best", description="exact: one group, made to have the class's mean and deviation")


class GaussianStart(Inversion, GroupSampling):
    """Sampling from latents drawn from per-class Gaussians of inverted training latents (D3HR)."""


class Sampler(Model):
    """How latents are drawn from the prior."""

    solver: Literal["ddim", "ddpm", "dpm++", "flow"] | None = Field(
        None,
        description="dpm++: DPM-Solver++ 2M, Karras sigmas; flow: Euler steps of flow matching; null: ddim for dit, dpm++ for sd, "
        "sdxl, flow for sd3",
    )
    steps: int = Field(50, ge=1, le=1000)
    cfg_scale: float | None = Field(None, ge=0, description="default: the prior's")
    cfg_channels: Literal["all"] | int = Field("all", description="latent channels that classifier-free guidance acts on")
    batch_size: int = Field(64, ge=1, description="images per batch; batches never span classes")


class Teacher(Model):
    """A classifier trained on the real data; also the default feature extractor."""

    student: Name = "convnet3-w32"
    protocol: Name = "tiny-teacher"
    seed: int = 0


class Extractor(Model):
    """A feature extractor that discovery and pseudo-labels may name; 'teacher' is built in."""

    kind: Literal["clip"] = "clip"
    weights: str = Field(
        description="local folder or hub name in transformers' layout: config.json, image processor, safetensors of a CLIP"
    )


class Run(Model):
    """What ``snakemake`` builds when no target is named."""

    datasets: tuple[Name, ...] = ("fashion-mini",)
    ipc: tuple[Annotated[int, Field(ge=1)], ...] = Field((10,), description="images per class")
    prior: Name = "fashion-dit"
    methods: tuple[Name, ...] = Field(
        ("random", "kmeans", "coda_real", "dit", "mgd", "manifoldgd", "manifoldgd_expected", "coda"), min_length=1
    )
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
        "manifoldgd": {"base": "manifoldgd"},
        "manifoldgd_expected": {"base": "manifoldgd", "estimator": "expected"},
        "manifoldgd_ddpm": {"base": "manifoldgd", "solver": "ddpm"},
        "coda_real": {"base": "coda_real"},
        "coda": {"base": "coda"},
    }
    teachers: dict[Name, Teacher] = {"convnet3": Teacher()}
    extractors: dict[Name, Extractor] = {}

    @property
    def extractor_names(self) -> tuple[str, ...]:
        """Every extractor that a key may name."""
        return (TEACHER, *self.extractors)
