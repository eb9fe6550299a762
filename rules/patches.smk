rule score:
    input:
        images=judged_images("scoring"),
        latents=scored_latents,
        prior=stored_prior("prior"),
    output:
        scores=f"{R}/{{dataset}}/{{prior}}/scores/{{scoring}}/{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{prior}}/scores/{{scoring}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/score/{{dataset}}.{{prior}}.{{scoring}}.{{shard}}.log",
    wildcard_constraints:
        dataset=PLAN.made_of("files", "pseudo"),
    # long, and much waits for it
    priority: 20
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("score"),
        runtime=runtime("score"),
        gpu=GPUS,
    params:
        spec=spec("score"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log} score --spec {params.spec:q} --images {input.images} --latents {input.latents}"
        " --prior {input.prior[0]} --scores {output.scores} --prov {output.prov}"


use rule take_images as take_scores with:
    input:
        parents=parents_of(
            f"{R}/{{dataset}}/{{prior}}/scores/{{scoring}}/{{shard}}.zarr.zip"
        ),
    output:
        taken=f"{R}/{{dataset}}/{{prior}}/scores/{{scoring}}/{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{prior}}/scores/{{scoring}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/take_scores/{{dataset}}.{{prior}}.{{scoring}}.{{shard}}.log",
    wildcard_constraints:
        dataset=PLAN.made_of("subset"),


rule localize:
    input:
        images=judged_images("patching"),
        scores=localized_scores,
    output:
        patches=f"{R}/{{dataset}}/{{prior}}/localized/{{patching}}/{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/{{prior}}/localized/{{patching}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/localize/{{dataset}}.{{prior}}.{{patching}}.{{shard}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("localize"),
        runtime=runtime("localize"),
    params:
        spec=spec("localize"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log} localize --spec {params.spec:q} --images {input.images} --scores {input.scores}"
        " --patches {output.patches} --prov {output.prov}"


rule patch_features:
    input:
        images=f"{R}/{{dataset}}/{{view}}/images/train-{{shard}}.zarr.zip",
        patches=featured_patches,
        prior=patch_prior,
        extractor=local(patch_extractor),
        teacher=teacher_file("model.safetensors", patch_space),
        record=teacher_file("teacher.json", patch_space),
    output:
        embedding=f"{SPACE}/embeddings/{{embedding}}/{{shard}}.zarr.zip",
        prov=f"{SPACE}/embeddings/{{embedding}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/patch_features/{{dataset}}.{{view}}.{{vae}}.{{embedding}}.{{shard}}.log",
    wildcard_constraints:
        embedding="(patches|extracted)-[0-9a-f]{6}",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("patch_features"),
        runtime=runtime("patch_features"),
        gpu=GPUS,
    params:
        spec=spec("patch_features"),
        features=given("prior", "teacher", "record"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log} patch_features --spec {params.spec:q} --images {input.images}"
        " --patches {input.patches} {params.features} --embedding {output.embedding} --prov {output.prov}"


# the prior's features of a subset's patches are its parent's; an extractor may be a teacher of its own
use rule take_images as take_patch_features with:
    input:
        parents=parents_of(f"{SPACE}/embeddings/{{embedding}}/{{shard}}.zarr.zip"),
    output:
        taken=f"{SPACE}/embeddings/{{embedding}}/{{shard}}.zarr.zip",
        prov=f"{SPACE}/embeddings/{{embedding}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/take_patch_features/{{dataset}}.{{view}}.{{vae}}.{{embedding}}.{{shard}}.log",
    wildcard_constraints:
        dataset=PLAN.made_of("subset"),
        embedding="patches-[0-9a-f]{6}",


ruleorder: take_patch_features > patch_features


rule crop:
    input:
        images=shard_images,
        teacher=f"{R}/{{dataset}}/teachers/{{teacher}}/model.safetensors",
        record=f"{R}/{{dataset}}/teachers/{{teacher}}/teacher.json",
    output:
        patches=f"{R}/{{dataset}}/crops/{{teacher}}/{{patching}}/seed{{seed}}/{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/crops/{{teacher}}/{{patching}}/seed{{seed}}/{{shard}}.prov.json",
    log:
        f"{R}/logs/crop/{{dataset}}.{{teacher}}.{{patching}}.seed{{seed}}.{{shard}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("crop"),
        runtime=runtime("crop"),
        gpu=GPUS,
    params:
        spec=spec("crop"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log} crop --spec {params.spec:q} --images {input.images} --teacher {input.teacher}"
        " --record {input.record} --patches {output.patches} --prov {output.prov}"
