# One rule per layout: each file of a stored prior is a declared output, and layouts differ in theirs.
for layout, files in LAYOUTS.items():

    rule:
        name:
            f"prior_{layout}"
        input:
            images=prior_images,
            weights=local(prior_weights),
        output:
            *(f"{R}/priors/{{prior}}/{name}" for name in (*files[1:], RECORD, MANIFEST)),
            index=f"{R}/priors/{{prior}}/{INDEX}",
            prov=f"{R}/priors/{{prior}}/prior.prov.json",
        log:
            f"{R}/logs/prior/{{prior}}.log",
        wildcard_constraints:
            prior=PLAN.priors_of(layout),
        # much waits for it
        priority: 20
        conda:
            ENVIRONMENT
        # with more of them its weights would depend on the number of cores
        threads: 1
        resources:
            mem_mb=memory("prior"),
            runtime=runtime("prior"),
            # the only family that is trained
            gpu=GPUS * (layout == "dit"),
        params:
            spec=spec("prior"),
        shell:
            'exec python -m limbeck --threads {threads} --log {log:q} prior --spec {params.spec:q} --images "$(lines {input.images:q})" --index {output.index:q}'
            " --prov {output.prov:q}"


# tuned from another: the same files, the loss as a picture, and of DiffFit what was trained
for family, delta in product(TUNED_FAMILIES, (False, True)):

    rule:
        name:
            f"finetune_{family}{'_difffit' if delta else ''}"
        input:
            latents=tuning_latents,
            base=tuning_base,
        output:
            *(
                f"{R}/priors/{{prior}}/{name}"
                for name in (
                    *FILES[family][1:],
                    RECORD,
                    MANIFEST,
                    LOSS,
                    *[DELTA] * delta,
                )
            ),
            index=f"{R}/priors/{{prior}}/{INDEX}",
            prov=f"{R}/priors/{{prior}}/prior.prov.json",
        log:
            f"{R}/logs/finetune/{{prior}}.log",
        wildcard_constraints:
            prior=PLAN.tuned_priors(family, delta),
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
            'exec python -m limbeck --threads {threads} --log {log:q} finetune --spec {params.spec:q} --latents "$(lines {input.latents:q})"'
            " --base {input.base[0]:q} --index {output.index:q} --prov {output.prov:q}"
