rule hold_out:
    input:
        train=images("train"),
    output:
        images=f"{R}/{{dataset}}/{{view}}/images/held_out.zarr.zip",
        prov=f"{R}/{{dataset}}/{{view}}/images/held_out.prov.json",
    log:
        f"{R}/logs/hold_out/{{dataset}}.{{view}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("hold_out"),
        runtime=runtime("hold_out"),
    params:
        spec=spec("hold_out"),
    shell:
        'exec python -m limbeck --threads {threads} --log {log:q} hold_out --spec {params.spec:q} --train "$(lines {input.train:q})" --images {output.images:q}'
        " --prov {output.prov:q}"


rule teacher:
    input:
        train=images("train"),
        test=images("test"),
        given=local(given_weights),
    output:
        weights=f"{R}/{{dataset}}/teachers/{{teacher}}/model.safetensors",
        record=f"{R}/{{dataset}}/teachers/{{teacher}}/teacher.json",
        prov=f"{R}/{{dataset}}/teachers/{{teacher}}/teacher.prov.json",
    log:
        f"{R}/logs/teacher/{{dataset}}.{{teacher}}.log",
    priority: 50
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("teacher"),
        runtime=runtime("teacher"),
        gpu=GPUS,
    params:
        spec=spec("teacher"),
        given=given("given"),
    shell:
        'exec python -m limbeck --threads {threads} --log {log:q} teacher --spec {params.spec:q} --train "$(lines {input.train:q})" --test "$(lines {input.test:q})"'
        " {params.given}"
        " --weights {output.weights:q} --record {output.record:q} --prov {output.prov:q}"


rule features:
    input:
        images=real_images,
        weights=local(extractor_files),
        teacher=teacher_file("model.safetensors"),
        record=teacher_file("teacher.json"),
    output:
        features=f"{R}/{{dataset}}/features/{{extractor}}/{{split}}-{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/features/{{extractor}}/{{split}}-{{shard}}.prov.json",
    log:
        f"{R}/logs/features/{{dataset}}.{{extractor}}.{{split}}-{{shard}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("features"),
        runtime=runtime("features"),
        gpu=GPUS,
    params:
        spec=spec("features"),
        extractor=given("teacher", "record"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} features --spec {params.spec:q} --images {input.images:q} {params.extractor}"
        " --features {output.features:q} --prov {output.prov:q}"


rule embed:
    input:
        images=f"{CELL}/distilled-{{shard}}.zarr.zip",
        weights=local(extractor_files),
        teacher=teacher_file("model.safetensors"),
        record=teacher_file("teacher.json"),
    output:
        features=f"{CELL}/features/{{extractor}}-{{shard}}.zarr.zip",
        prov=f"{CELL}/features/{{extractor}}-{{shard}}.prov.json",
    log:
        f"{R}/logs/embed/{JOB}.{{extractor}}-{{shard}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("embed"),
        runtime=runtime("embed"),
        gpu=GPUS,
    params:
        spec=spec("embed"),
        extractor=given("teacher", "record"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} embed --spec {params.spec:q} --images {input.images:q} {params.extractor}"
        " --features {output.features:q} --prov {output.prov:q}"


use rule embed as embed_candidates with:
    input:
        images=f"{GROUP}/{{shard}}.zarr.zip",
        weights=local(extractor_files),
        teacher=teacher_file("model.safetensors"),
        record=teacher_file("teacher.json"),
    output:
        features=f"{GROUP}/features/{{extractor}}-{{shard}}.zarr.zip",
        prov=f"{GROUP}/features/{{extractor}}-{{shard}}.prov.json",
    log:
        f"{R}/logs/embed/{GROUP_JOB}.{{extractor}}-{{shard}}.log",


rule measure:
    input:
        distilled=row_features,
        images=row_images,
        train=real_features("train"),
        test=real_features("test"),
    output:
        metrics=f"{CELL}/metrics/{{extractor}}.json",
        prov=f"{CELL}/metrics/{{extractor}}.prov.json",
    log:
        f"{R}/logs/measure/{JOB}.{{extractor}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("measure"),
        runtime=runtime("measure"),
    params:
        spec=spec("measure"),
    shell:
        'exec python -m limbeck --threads {threads} --log {log:q} measure --spec {params.spec:q} --distilled "$(lines {input.distilled:q})" --images "$(lines {input.images:q})"'
        ' --train "$(lines {input.train:q})" --test "$(lines {input.test:q})" --metrics {output.metrics:q} --prov {output.prov:q}'


rule soft_labels:
    input:
        distilled=row_images,
        teachers=labelling_teachers,
    output:
        labels=f"{CELL}/labels/{{protocol}}/{{repeat}}.zarr.zip",
        prov=f"{CELL}/labels/{{protocol}}/{{repeat}}.prov.json",
    log:
        f"{R}/logs/soft_labels/{JOB}.{{protocol}}.{{repeat}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("soft_labels"),
        runtime=runtime("soft_labels"),
        gpu=GPUS,
    params:
        spec=spec("soft_labels"),
    shell:
        'exec python -m limbeck --threads {threads} --log {log:q} soft_labels --spec {params.spec:q} --distilled "$(lines {input.distilled:q})"'
        ' --teachers "$(lines {input.teachers:q})" --labels {output.labels:q} --prov {output.prov:q}'


rule train:
    input:
        distilled=row_images,
        test=images("test"),
        held=held_out_images,
        teachers=online_teachers,
        stored=stored_labels,
    output:
        result=f"{CELL}/students/{{protocol}}/{{student}}.json",
        prov=f"{CELL}/students/{{protocol}}/{{student}}.prov.json",
    log:
        f"{R}/logs/train/{JOB}.{{protocol}}.{{student}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("train"),
        runtime=runtime("train"),
        gpu=GPUS,
    params:
        spec=spec("train"),
        held=given("held"),
    shell:
        'exec python -m limbeck --threads {threads} --log {log:q} train --spec {params.spec:q} --distilled "$(lines {input.distilled:q})" --test "$(lines {input.test:q})"'
        ' {params.held} --teachers "$(lines {input.teachers:q})" --stored "$(lines {input.stored:q})" --result {output.result:q} --prov {output.prov:q}'
