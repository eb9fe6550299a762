# One rule per family: each file of a stored prior is a declared output, and families differ in theirs.
for family, files in FILES.items():

    rule:
        name:
            f"prior_{family}"
        input:
            images=prior_images,
            weights=prior_weights,
        output:
            *(f"{R}/priors/{{prior}}/{name}" for name in (*files[1:], RECORD, MANIFEST)),
            index=f"{R}/priors/{{prior}}/{INDEX}",
            prov=f"{R}/priors/{{prior}}/prior.prov.json",
        log:
            f"{R}/logs/prior/{{prior}}.log",
        benchmark:
            f"{R}/benchmarks/prior/{{prior}}.tsv"
        wildcard_constraints:
            prior=PLAN.priors_of(family, tuned=False),
        conda:
            ENVIRONMENT
        threads: 2
        resources:
            mem_mb=memory("prior"),
            runtime=runtime("prior"),
            # the only family that is trained
            gpu=GPUS * (family == "dit"),
        params:
            spec=spec("prior"),
        shell:
            "exec python -m limbeck --threads {threads} --log {log} prior --spec {params.spec:q} --images '{input.images}' --index {output.index}"
            " --prov {output.prov}"


# tuned from another: the same files, and the loss as a picture
for family in TUNED_FAMILIES:

    rule:
        name:
            f"finetune_{family}"
        input:
            latents=tuning_latents,
            base=tuning_base,
        output:
            *(
                f"{R}/priors/{{prior}}/{name}"
                for name in (*FILES[family][1:], RECORD, MANIFEST, LOSS)
            ),
            index=f"{R}/priors/{{prior}}/{INDEX}",
            prov=f"{R}/priors/{{prior}}/prior.prov.json",
        log:
            f"{R}/logs/finetune/{{prior}}.log",
        benchmark:
            f"{R}/benchmarks/finetune/{{prior}}.tsv"
        wildcard_constraints:
            prior=PLAN.priors_of(family, tuned=True),
        # long, and much waits for it
        priority: 20
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=memory("finetune"),
            runtime=runtime("finetune"),
            gpu=GPUS,
        params:
            spec=spec("finetune"),
        shell:
            "exec python -m limbeck --threads {threads} --log {log} finetune --spec {params.spec:q} --latents '{input.latents}'"
            " --base {input.base[0]} --index {output.index} --prov {output.prov}"
