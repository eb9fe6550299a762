"""Which module each component's kernel is in, by name. Stages load one by name; its options stand in ``limbeck.methods``.

Apart from the options, so that a stage's fingerprint does not reach those of every other method.
"""

# discover(pool, ipc, options, seed, class_id) -> Found
DISCOVERY = {
    "random": "limbeck.discovery.random",
    "subset": "limbeck.discovery.random",
    "kmeans": "limbeck.discovery.kmeans",
    "herding": "limbeck.discovery.herding",
    "kcenter": "limbeck.discovery.kcenter",
    "divisive": "limbeck.discovery.tree",
    "agglomerative": "limbeck.discovery.tree",
    "density": "limbeck.discovery.density",
    "patches": "limbeck.discovery.patches",
    "crops": "limbeck.discovery.patches",
}
# fit(latents or embedding, options, class_id) -> Tree | Clusters: the IPC-free part
FIT = {
    "divisive": "limbeck.discovery.divisive",
    "agglomerative": "limbeck.discovery.agglomerative",
    "density": "limbeck.discovery.hdbscan",
    "patches": "limbeck.discovery.patch_clusters",
}
# build(options, targets, solver) -> Guidance, in the module of a guidance's own name: no table, so that a new one changes nothing
# that the others' stages can reach
GUIDANCE = "limbeck.guidance.{}"
# load(spec, teacher, record) -> an extractor: size (of the images it takes; None: any), dim, classifies, files
# (name -> path), batches(images) -> (features, predicted classes or None) a batch at a time
EXTRACTORS = {
    "teacher": "limbeck.metrics.teacher",
    "clip": "limbeck.metrics.clip",
    "hf": "limbeck.metrics.hf",
    "torchscript": "limbeck.metrics.torchscript",
    "inception": "limbeck.metrics.inception",
}
# loaded by the sample stage for methods that have tangents
PLANES = "limbeck.stages.planes"
# and for those that start from class statistics
DRAWN = "limbeck.stages.drawn"
