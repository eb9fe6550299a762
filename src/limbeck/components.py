"""Which module each component's kernel is in, by name. Stages load one by name; its options stand in ``limbeck.methods``.

Apart from the options, so that a stage's fingerprint does not reach those of every other method.
"""

# discover(pool, ipc, options, seed, class_id) -> Found
DISCOVERY = {
    "random": "limbeck.discovery.random",
    "subset": "limbeck.discovery.random",
    "kmeans": "limbeck.discovery.kmeans",
    "divisive": "limbeck.discovery.tree",
    "agglomerative": "limbeck.discovery.tree",
}
# fit(latents, options, class_id) -> Tree: the IPC-free part
FIT = {
    "divisive": "limbeck.discovery.divisive",
    "agglomerative": "limbeck.discovery.agglomerative",
}
# build(options, targets, solver) -> Guidance
GUIDANCE = {
    "mode": "limbeck.guidance.mode",
    "manifold": "limbeck.guidance.manifold",
}
# loaded by the sample stage for methods that have tangents
PLANES = "limbeck.stages.planes"
