"""The options of a method's components. They are flat in the file (``methods.mgd.weight``); ``limbeck.methods`` routes each to the
component whose model has it.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from limbeck.config import DIFT, TEACHER, VAE, CfgChannels, Model, Name


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
    algorithm: Literal["lloyd", "minibatch"] = Field("lloyd", description="all points in every step, or a mini-batch (as D4M)")


class CoresetDiscovery(Embedding):
    """Herding or greedy k-center, in the VAE's latents as they are (features vae, reducer none) or in a standardised embedding."""

    reducer: Literal["umap", "pca", "none"] = "none"


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


class Scoring(Model):
    """Typicality maps of training images (diffusion-driven patch selection Eq. 6): IPC-free."""

    view: Name | None = Field(None, description="the dataset's view that is scored and cut; null: the prior's")
    n_draws: int = Field(10, ge=1, description="timesteps and noises per image")
    t_range: tuple[float, float] = Field((0.1, 0.7), description="of the timesteps, as shares of those of training (Table 7)")
    t_draws: Literal["uniform", "stratified"] = Field(
        "uniform", description="uniform: independent (the paper); stratified: one in each of n_draws parts of the range"
    )
    real_images_per_class: int | None = Field(None, ge=1, description="how many are scored, drawn at random (Fig. 6); null: all")
    score_batch: int = Field(64, ge=1, description="images per batch; batches never span classes")

    @model_validator(mode="after")
    def _range(self) -> "Scoring":
        if not 0 <= self.t_range[0] < self.t_range[1] <= 1:
            raise ValueError(f"t_range {list(self.t_range)} is no range of shares; give two ascending numbers between 0 and 1")
        return self


class Localization(Scoring):
    """Which patch of an image is taken."""

    patch_size: int | None = Field(
        None, ge=1, description="pixels; null: seven eighths of the view's side (224 of 256), the whole of images up to 64"
    )


class PatchFeatures(Localization):
    """The features that patches are clustered by."""

    features: Name = Field(
        DIFT, description="'dift': a block of the prior's denoiser; 'vae': latents; an extractor (Table 5); 'none': no clusters"
    )
    dift_t: int = Field(161, ge=0, le=999, description="timestep that a patch is noised to (Fig. 7)")
    dift_block: int | None = Field(
        None, ge=0, description="of a transformer, or of a UNet's upward path; null: the middle one, the second"
    )
    dift_ensemble: int = Field(8, ge=1, description="noises whose features are averaged")
    dift_batch: int = Field(64, ge=1)


class PatchFit(PatchFeatures):
    """Clusters of a class's patches."""

    clusters: int = Field(32, ge=1, description="M, of k-means (Fig. 8)")
    n_init: int = Field(3, ge=1, description="restarts")


class Mosaic(Model):
    """How patches become images."""

    mosaic: Literal["auto", "2x2", "single"] = Field(
        "auto", description="auto: four patches up to IPC 10, one above, and always one where images are not cut"
    )


class PatchDiscovery(PatchFit, Mosaic):
    """Diffusion-driven patch selection: the most typical patches of real images."""

    top_clusters: int = Field(10, ge=1, description="N, clusters that patches are taken from first (Fig. 8)")


class Cropping(Model):
    """RDED's crops: of several random ones of an image the one that the run's teacher is surest of."""

    crops: int = Field(5, ge=1, description="per image")
    crop_images: int | None = Field(300, ge=1, description="images per class that are cropped, drawn at random; null: all")
    crop_area: tuple[float, float] | None = Field(
        None, description="of a crop, as a share of the image's; null: a quarter, all of images up to 64; as released: [0.08, 1]"
    )

    @model_validator(mode="after")
    def _area(self) -> "Cropping":
        if self.crop_area is not None and not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(f"crop_area {list(self.crop_area)} is no range of shares; give two numbers above 0, up to 1")
        return self


class CropDiscovery(Cropping, Mosaic):
    """RDED: the crops of a class that the teacher is surest of."""


class ModeGuidance(Model):
    """Mode guidance (MGD): pull the predicted clean latent towards a prototype."""

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
    """How the tangent space at a guided step is estimated. What the stage ``tangents`` reads."""

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
    """CoDA's distribution alignment: pull the conditional branch towards a real representative."""

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
    """Training latents taken to a step of the solver's grid, and their per-class statistics (D3HR Eq. 3)."""

    inversion: Literal["ddim", "ddpm"] = Field("ddim", description="ddim: inverted deterministically; ddpm: noised (Base-DDPM)")
    inversion_step: int = Field(31, ge=0, description="i, network evaluations up and down again, of 'steps'")
    inversion_scale: float = Field(1.0, ge=0, description="classifier-free guidance scale of the inversion")
    inversion_batch: int = Field(64, ge=1, description="latents per batch; batches never span classes")
    keep_latents: bool = Field(False, description="whether the latents at step i are kept beside their statistics")


class GroupSampling(Model):
    """D3HR's group sampling: the best of many random groups under a class's Gaussian (Eqs. 5-9)."""

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


class PrototypeStart(Model):
    """Sampling from noised prototypes (D4M)."""

    strength: float = Field(0.7, ge=0, le=1, description="share of the grid that is denoised again; 0: the prototype is decoded")
    target: Literal["centroid", "member"] = Field("centroid", description="the cluster's mean, or its nearest real latent")


class SubgroupSelection(Model):
    """IMS3's selective subgroup sampling: one of G candidate groups per class (Eqs. 8-11)."""

    groups: int = Field(5, ge=1, le=200, description="G, candidate groups per class, each sampled under its own seed")
    alpha: float = Field(0.4, ge=0, description="weight of being near the class's centroid; only alpha / beta matters")
    beta: float = Field(0.9, ge=0, description="weight of being apart from other classes' groups")
    extractor: Name = Field(TEACHER, description="in whose features the centroids are: 'teacher', or one of 'extractors'")
    centroids: Literal["real", "generated"] = Field(
        "real", description="of real training images, or of all candidates of the class (Table 13)"
    )
    real_images: int | None = Field(None, ge=1, description="K, training images per class behind a real centroid; null: all")
    subgroup_variant: Literal["paper", "released"] = Field(
        "paper", description="Eq. 10's exact minimum, or the released greedy rule over selected pairs"
    )


class Imported(Model):
    """A distilled set that some other method left as an image folder."""

    path: str = Field(
        min_length=1,
        description="<path>/<class>/<image>, exactly IPC images per class; one set for every generation seed, unless it contains "
        "'{seed}', for which the seed is put",
    )


class Sampler(Model):
    """How latents are drawn from the prior."""

    solver: Literal["ddim", "ddpm", "dpm++", "flow"] | None = Field(
        None,
        description="dpm++: DPM-Solver++ 2M, Karras sigmas; flow: Euler steps of flow matching; null: ddim for dit, dpm++ for sd, "
        "sdxl, flow for sd3",
    )
    steps: int = Field(50, ge=1, le=1000)
    cfg_scale: float | None = Field(None, ge=0, description="default: the prior's")
    cfg_channels: CfgChannels | None = Field(
        None, description="latent channels that classifier-free guidance acts on, all or the first so many; default: the prior's"
    )
    batch_size: int = Field(
        64, ge=1, description="images per batch; batches never span classes, and are halved where the device's memory is too small"
    )
