"""Fetch what a model needs beside the cells: checkpoints, embeddings that others computed, the files of added species."""


rule download_weights:
    input:
        script=ancient(script("download_object")),
    output:
        "resources/weights/{file}",
    log:
        "logs/download_weights/{file}.log",
    retries: 2
    conda:
        "../envs/data.yaml"
    resources:
        downloads=1,
        mem_mb=1000,
    params:
        url=grid.weights_url,
    shell:
        "python {input.script:q} {params.url:q} {output:q} > {log:q} 2>&1"


rule build_species:
    input:
        script=ancient(script("build_species")),
        checkpoint=grid.species_checkpoint,
        proteins=grid.species_proteins,
        genes=grid.species_genes,
    output:
        tokens="resources/species/{model}/{species}/all_tokens.torch",
        proteins="resources/species/{model}/{species}/protein_embeddings.pt",
        offsets="resources/species/{model}/{species}/species_offsets.pkl",
        places="resources/species/{model}/{species}/species_chrom.csv",
        added="resources/species/{model}/{species}/new_species_protein_embeddings.csv",
    log:
        "logs/build_species/{model}/{species}/all_tokens.log",
    conda:
        grid.env
    resources:
        mem_mb=4000,
    params:
        code=code("build_species"),
    shell:
        "python {input.script:q} {wildcards.species:q} --checkpoint {input.checkpoint:q} --proteins {input.proteins:q}"
        " --genes {input.genes:q} --output resources/species/{wildcards.model}/{wildcards.species} > {log:q} 2>&1"
