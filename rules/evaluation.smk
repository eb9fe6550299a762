rule teacher:
    input:
        train=images("train"),
        test=images("test"),
    output:
        weights=f"{R}/{{dataset}}/teachers/{{teacher}}/model.safetensors",
        record=f"{R}/{{dataset}}/teachers/{{teacher}}/teacher.json",
        prov=f"{R}/{{dataset}}/teachers/{{teacher}}/teacher.prov.json",
    log:
        f"{R}/logs/teacher/{{dataset}}.{{teacher}}.log",
    benchmark:
        f"{R}/benchmarks/teacher/{{dataset}}.{{teacher}}.tsv"
    priority: 50
    threads: 1
    params:
        spec=spec("teacher"),
    shell:
        "exec limbeck --threads {threads} teacher --spec {params.spec:q} --train '{input.train}' --test '{input.test}'"
        " --weights {output.weights} --record {output.record} --prov {output.prov} 2> {log}"


rule features:
    input:
        images=real_images,
        weights=teacher_file("model.safetensors"),
        record=teacher_file("teacher.json"),
    output:
        features=f"{R}/{{dataset}}/features/{{extractor}}/{{split}}-{{shard}}.zarr.zip",
        prov=f"{R}/{{dataset}}/features/{{extractor}}/{{split}}-{{shard}}.prov.json",
    log:
        f"{R}/logs/features/{{dataset}}.{{extractor}}.{{split}}-{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/features/{{dataset}}.{{extractor}}.{{split}}-{{shard}}.tsv"
    threads: 1
    params:
        spec=spec("features"),
    shell:
        "exec limbeck --threads {threads} features --spec {params.spec:q} --images {input.images} --weights {input.weights}"
        " --record {input.record} --features {output.features} --prov {output.prov} 2> {log}"


rule embed:
    input:
        images=f"{CELL}/distilled-{{shard}}.zarr.zip",
        weights=teacher_file("model.safetensors"),
        record=teacher_file("teacher.json"),
    output:
        features=f"{CELL}/features/{{extractor}}-{{shard}}.zarr.zip",
        prov=f"{CELL}/features/{{extractor}}-{{shard}}.prov.json",
    log:
        f"{R}/logs/embed/{JOB}.{{extractor}}-{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/embed/{JOB}.{{extractor}}-{{shard}}.tsv"
    threads: 1
    params:
        spec=spec("embed"),
    shell:
        "exec limbeck --threads {threads} embed --spec {params.spec:q} --images {input.images} --weights {input.weights}"
        " --record {input.record} --features {output.features} --prov {output.prov} 2> {log}"


rule measure:
    input:
        distilled=row_features,
        train=real_features("train"),
        test=real_features("test"),
    output:
        metrics=f"{CELL}/metrics.json",
        prov=f"{CELL}/metrics.prov.json",
    log:
        f"{R}/logs/measure/{JOB}.log",
    benchmark:
        f"{R}/benchmarks/measure/{JOB}.tsv"
    threads: 1
    params:
        spec=spec("measure"),
    shell:
        "exec limbeck --threads {threads} measure --spec {params.spec:q} --distilled '{input.distilled}' --train '{input.train}'"
        " --test '{input.test}' --metrics {output.metrics} --prov {output.prov} 2> {log}"


rule train:
    input:
        distilled=row_images,
        test=images("test"),
    output:
        result=f"{CELL}/students/{{protocol}}/{{student}}.json",
        prov=f"{CELL}/students/{{protocol}}/{{student}}.prov.json",
    log:
        f"{R}/logs/train/{JOB}.{{protocol}}.{{student}}.log",
    benchmark:
        f"{R}/benchmarks/train/{JOB}.{{protocol}}.{{student}}.tsv"
    threads: 1
    params:
        spec=spec("train"),
    shell:
        "exec limbeck --threads {threads} train --spec {params.spec:q} --distilled '{input.distilled}' --test '{input.test}'"
        " --result {output.result} --prov {output.prov} 2> {log}"
