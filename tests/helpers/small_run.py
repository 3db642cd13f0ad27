"""A configuration of two data sets and five models, written out, for tests of the plan."""

import copy
from types import SimpleNamespace

from made_up import inputs_of

from cellgauge.plan.inputs import Inputs

CONFIG = {
    "run": {
        "models": ["linear", "random", "harmony", "mine", "human_only"],
        "datasets": ["pair", "tissues/lung"],
        "tasks": ["clustering", "cross_species"],
        "seeds": [42],
        "profiles": ["reference", "corrected"],
    },
    "models": {
        "linear": {"adapter": "linear", "title": "Linear", "params": {"n_components": 3, "n_top_genes": 4}},
        "random": {"adapter": "random"},
        "harmony": {"adapter": "harmony_species"},
        "mine": {"adapter": "precomputed", "path": "mine/{dataset}/{split}.npy", "splits": ["pair/human"]},
        "human_only": {"adapter": "random", "organisms": ["human"], "params": {}},
    },
    "datasets": {
        "pair": {
            "modality": "expression",
            "columns": {"label": "ct", "donor": "d"},
            "licence": "MIT",
            "orthologues": {"url": "s3://b/o.csv", "columns": {"human": "h", "mouse": "m"}},
            "splits": {
                "human": {"organism": "human", "url": "s3://b/h.h5ad"},
                "mouse": {"organism": "Mus musculus", "url": "pypi://p==1/a.zip!m.h5ad"},
            },
        },
        "tissues": {
            "modality": "expression",
            "organism": "human",
            "url": "my/atlas.h5ad",
            "split_by": "tissue",
            "columns": {"label": "ct"},
            "splits": {"lung": {"value": "Lung"}, "liver": None},
        },
        "screen": {
            "modality": "perturbation",
            "organism": "human",
            "columns": {"label": "c"},
            "splits": {"k562": "x.h5ad"},
        },
    },
    "tasks": {
        "clustering": {"params": {"resolution": 0.5}},
        "cross_species": {},
    },
    "published": {"others": {"title": "Others", "url": "others.json", "format": "vcp"}},
}


def inputs(**run: object) -> Inputs:
    """Return what the rules ask of CONFIG with keys of `run` laid over its run."""
    config = copy.deepcopy(CONFIG)
    config["run"] |= run
    return inputs_of(config)


def w(**wildcards: str) -> SimpleNamespace:
    """Return wildcards as Snakemake hands them to an input function."""
    return SimpleNamespace(**wildcards)
