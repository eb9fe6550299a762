rule report:
    input:
        cells=report_cells,
        distilled=report_images,
        diagnostics=report_diagnostics,
        # times are no reason to make a page again
        sidecars=ancient(report_sidecars),
    output:
        csv=report(
            f"{R}/{{dataset}}/ipc{{ipc}}/summary.csv",
            caption="../workflow/report/numbers.rst",
            category="{dataset}",
            labels={"IPC": "{ipc}", "content": "numbers"},
        ),
        md=f"{R}/{{dataset}}/ipc{{ipc}}/summary.md",
        html=report(
            f"{R}/{{dataset}}/ipc{{ipc}}/summary.html",
            caption="../workflow/report/page.rst",
            category="{dataset}",
            labels={"IPC": "{ipc}", "content": "page"},
        ),
        grid=report(
            f"{R}/{{dataset}}/ipc{{ipc}}/grid.png",
            caption="../workflow/report/grid.rst",
            category="{dataset}",
            labels={"IPC": "{ipc}", "content": "images"},
        ),
        prov=f"{R}/{{dataset}}/ipc{{ipc}}/summary.prov.json",
    log:
        f"{R}/logs/report/{{dataset}}.ipc{{ipc}}.log",
    wildcard_constraints:
        ipc=r"\d+",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("report"),
        runtime=runtime("report"),
    params:
        spec=spec("report"),
        folder=subpath(output.csv, parent=True),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} report --spec {params.spec:q} --folder {params.folder:q} --prov {output.prov:q}"


rule overview:
    input:
        overview_cells,
    output:
        page=report(
            f"{R}/{{dataset}}/summary.html",
            caption="../workflow/report/overview.rst",
            category="{dataset}",
            labels={"IPC": "all", "content": "page"},
        ),
        prov=f"{R}/{{dataset}}/summary.prov.json",
    log:
        f"{R}/logs/overview/{{dataset}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("overview"),
        runtime=runtime("overview"),
    params:
        spec=spec("overview"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} overview --spec {params.spec:q} --page {output.page:q} --prov {output.prov:q}"


rule paper:
    input:
        paper_cells,
    output:
        page=report(
            f"{R}/papers/{{paper}}/{{table}}.html",
            caption="../workflow/report/paper.rst",
            category="papers",
            labels={"paper": "{paper}", "table": "{table}"},
        ),
        csv=f"{R}/papers/{{paper}}/{{table}}.csv",
        md=f"{R}/papers/{{paper}}/{{table}}.md",
        prov=f"{R}/papers/{{paper}}/{{table}}.prov.json",
    log:
        f"{R}/logs/paper/{{paper}}.{{table}}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("paper"),
        runtime=runtime("paper"),
    params:
        spec=spec("paper"),
    shell:
        "exec python -m limbeck --threads {threads} --log {log:q} paper --spec {params.spec:q} --page {output.page:q} --prov {output.prov:q}"
