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
        "exec python -m limbeck --threads {threads} --log {log:q} score --spec {params.spec:q} --images {input.images:q} --latents {input.latents:q}"
        " --prior {input.prior[0]:q} --scores {output.scores:q} --prov {output.prov:q}"


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
        "exec python -m limbeck --threads {threads} --log {log:q} localize --spec {params.spec:q} --images {input.images:q} --scores {input.scores:q}"
        " --patches {output.patches:q} --prov {output.prov:q}"


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
        "exec python -m limbeck --threads {threads} --log {log:q} patch_features --spec {params.spec:q} --images {input.images:q}"
        " --patches {input.patches:q} {params.features} --embedding {output.embedding:q} --prov {output.prov:q}"


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
        "exec python -m limbeck --threads {threads} --log {log:q} crop --spec {params.spec:q} --images {input.images:q} --teacher {input.teacher:q}"
        " --record {input.record:q} --patches {output.patches:q} --prov {output.prov:q}"
