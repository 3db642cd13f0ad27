"""Checkpoints through the workflow: fetched once from S3, a hub and tarballs, embedded with, scored; and what goes wrong."""

import functools
import hashlib
import json
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anndata
import made_checkpoints
import numpy as np
import pytest
import tiny
import yaml
from project import CONFIG, TABLES, make_project

from cellgauge.files.embedding import Embedding

pytestmark = pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning")  # the Baron file is as old as its data

UCE_FILES = ("4layer_model.torch", "model_files/species_chrom.csv", "model_files/species_offsets.pkl")
PROTEINS = {"human": "Homo_sapiens.GRCh38", "mouse": "Mus_musculus.GRCm39"}
GENEFORMER_FILES = (
    "config.json",
    "model.safetensors",
    *(
        f"gene_dictionaries/{name}_gc95M.pkl"
        for name in ("token_dictionary", "gene_median_dictionary", "ensembl_mapping_dict")
    ),
)
RESPONSES = "results/predictions/scgenept_tiny/tiny_screen/k562.h5ad"
MODELS = ("scgpt_tiny", "uce_tiny", "uce_tiny_reference", "aido_tiny", "geneformer_tiny", "scvi_tiny", "tf_tiny")


class Hub(ThreadingHTTPServer):
    """Stands in for the Hugging Face Hub (/owner/repo/resolve/revision/file) and for a server of tarballs, on loopback."""

    def __init__(self, folder: Path) -> None:
        self.asked = []
        super().__init__(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def end_headers(self):
        """Name the sum of a file, as the hub does."""
        path = Path(self.translate_path(self.path))
        if path.is_file():
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(path.read_bytes()).hexdigest()}"')
        super().end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def served(tmp_path_factory, baron, s3_server):
    """A project on some Baron cells, with tiny checkpoints on an S3 server and a hub; not run yet."""
    folder = tmp_path_factory.mktemp("weights")
    cells = anndata.read_h5ad(baron.human)
    cells = cells[np.random.default_rng(0).choice(cells.n_obs, 250, replace=False)].copy()
    symbols = cells.var_names.tolist()
    cells.var["ensembl_id"] = ids = [f"ENSG{i:011d}" for i in range(len(symbols))]  # made up: the data name none
    made_checkpoints.scgpt(folder / "scgpt", symbols)
    # the mouse symbols of the tiny data, so that both species of it can be embedded
    shared = [f"GENE{i}" for i in range(60)]
    made_checkpoints.uce(folder / "uce", {"human": symbols + shared, "mouse": [symbol.title() for symbol in shared]})
    made_checkpoints.aido_cell(folder / "hub/owner/AIDO-tiny/resolve/abc123", symbols[:300])
    made_checkpoints.geneformer(folder / "geneformer", {gene: gene for gene in ids})
    ensembl = {"homo_sapiens": "ENSG{:011d}", "mus_musculus": "ENSMUSG{:011d}"}
    human, mouse = ({name: [form.format(i) for i in range(60)]} for name, form in ensembl.items())
    made_checkpoints.transcriptformer(folder / "tf" / "tf_tiny", human, mouse)
    for name in ("tf_tiny", "all_embeddings"):
        with tarfile.open(folder / f"hub/{name}.tar.gz", "w:gz") as archive:
            archive.add(folder / "tf" / name, name)
    made_checkpoints.scvi(folder / "scvi", ids[:500])
    made_checkpoints.scgenept(folder / "scgenept", shared[:36], level=1.85)  # as the tiny screen's best expressed genes
    for family in ("scgpt", "uce", "geneformer", "scvi", "scgenept"):
        for path in (folder / family).rglob("*"):
            if path.is_file():
                s3_server.put("models", f"{family}/{path.relative_to(folder / family)}", path.read_bytes())

    s3, proteins = "s3://models", "model_files/protein_embeddings/{}.gene_symbol_to_embedding_ESM2.pt"
    uce = {
        "adapter": "uce",
        "env": "uce",
        "weights_folder": "uce_small",
        "organisms": ["human", "mouse"],
        "params": {"sample_size": 32, "device": "cpu"},
        "weights": {name: f"{s3}/uce/{name}" for name in UCE_FILES},
        "species_weights": {
            species: {proteins.format(name): f"{s3}/uce/{proteins.format(name)}"} for species, name in PROTEINS.items()
        },
    }
    human = uce["species_weights"]["human"]
    reference = {
        "species": "human",
        "padding": "additive",
        "random_stream": "official",
        "min_cells": 2,
        "min_genes": 25,
    }
    names = ("config.json", "model.safetensors", "OS_scRNA_gene_index.19264.tsv")
    models = {
        "scgpt_tiny": {
            "adapter": "scgpt",
            "env": "scgpt",
            "splits": ["baron"],
            "organisms": ["human"],
            "params": {"max_length": 200, "device": "cpu"},
            "weights": {name: f"{s3}/scgpt/{name}" for name in ("args.json", "vocab.json", "best_model.pt")},
        },
        "uce_tiny": uce,
        "uce_tiny_reference": {
            **{key: value for key, value in uce.items() if key != "species_weights"},
            "params": {**uce["params"], **reference},
            "weights": {**uce["weights"], **human},
        },
        "aido_tiny": {
            "adapter": "aido_cell",
            "env": "aido_cell",
            "splits": ["baron"],
            "organisms": ["human"],
            "params": {"device": "cpu"},
            "weights": {name: f"hf://owner/AIDO-tiny@abc123/{name}" for name in names},
            "needs_acceptance": "genbio-community",
        },
        "geneformer_tiny": {
            "adapter": "geneformer",
            "env": "geneformer",
            "splits": ["baron"],
            "organisms": ["human"],
            "params": {"device": "cpu"},
            "weights": {name: f"{s3}/geneformer/{name}" for name in GENEFORMER_FILES},
        },
        "scvi_tiny": {
            "adapter": "scvi",
            "env": "scvi",
            "splits": ["baron"],
            "organisms": ["human"],
            "params": {"device": "cpu"},
            "weights": {"model.pt": f"{s3}/scvi/model.pt"},
        },
        "scgenept_tiny": {
            "adapter": "scgenept",
            "env": "scgenept",
            "splits": ["tiny_screen"],
            "organisms": ["human"],
            "params": {"controls": 20, "device": "cpu"},
            "weights": {name: f"{s3}/scgenept/{name}" for name in ("vocab.json", "best_model_seed_42.pt")},
        },
    }
    columns = {"label": "cell_ontology_class", "donor": "donor", "symbol": "index", "ensembl": "ensembl_id"}
    baron_cells = {
        "modality": "expression",
        "columns": columns,
        "splits": {"human": {"organism": "human", "url": "cells.h5ad"}},
    }
    hub = Hub(folder / "hub")
    tarballs = f"{hub.url}/{{}}.tar.gz!{{}}".format
    files = ("config.json", "model_weights.pt", "vocabs/assay_vocab.json")
    own, added = "tf_tiny/vocabs/homo_sapiens_gene.h5", "all_embeddings/mus_musculus_gene.h5"
    models["tf_tiny"] = {
        "adapter": "transcriptformer",
        "env": "transcriptformer",
        "organisms": ["human", "mouse"],
        "params": {"checkpoint": "tf_tiny", "device": "cpu"},
        "weights_folder": "tf",
        "weights": {f"tf_tiny/{name}": tarballs("tf_tiny", f"tf_tiny/{name}") for name in files},
        "species_weights": {
            "human": {own: tarballs("tf_tiny", own)},
            "mouse": {added: tarballs("all_embeddings", added)},
        },
    }
    project = make_project(folder / "project", CONFIG)
    screen = {
        "modality": "perturbation",
        "organism": "human",
        "counts": "layers/counts",
        "expression": "X",
        "columns": {"label": "condition", "partition": "split", "ensembl": "index", "symbol": "feature_name"},
        "splits": {"k562": {"url": "screen.h5ad"}},
    }
    cells.write_h5ad(project.folder / "cells.h5ad")
    tiny.screen().write_h5ad(project.folder / "screen.h5ad")
    tasks = ["clustering", "cross_species", "perturbation"]
    run = {"models": [*MODELS, "scgenept_tiny"], "datasets": ["baron", "tiny", "tiny_screen"], "tasks": tasks}
    project.configure(
        {
            "run": {**run, "accept_licences": ["genbio-community"], "profiles": ["corrected"]},
            "models": models,
            "datasets": {**CONFIG["datasets"], "baron": baron_cells, "tiny_screen": screen},
        }
    )
    yield project, hub, {"AWS_ENDPOINT_URL": s3_server.url, "HF_ENDPOINT": hub.url}
    hub.shutdown()


@pytest.fixture(scope="module")
def finished(served):
    project, hub, environment = served
    project.run("--until", "download_weights", "split", *TABLES, **environment)
    # every family as users run it: a forked Python hides an import that is missing
    of_all_families = [*(f"results/embeddings/{model}/baron/human.h5ad" for model in MODELS), RESPONSES]
    project.run("--", *of_all_families, real=True, **environment)
    project.run(*TABLES, **environment)
    return project, hub


def test_every_model_is_scored(finished):
    project, _ = finished
    table = project.table()
    done = table[table["status"] == "ok"][["task", "model", "dataset"]].drop_duplicates().itertuples(index=False)
    expected = {("clustering", model, "baron") for model in MODELS}
    expected |= {("perturbation", "scgenept_tiny", "tiny_screen")}
    several = ("uce_tiny", "uce_tiny_reference", "tf_tiny")
    expected |= {(task, model, "tiny") for task in ("clustering", "cross_species") for model in several}
    assert set(map(tuple, done)) >= expected
    for model in MODELS:
        found = Embedding.read(project.folder / f"results/embeddings/{model}/baron/human.h5ad")
        assert np.isfinite(found.matrix[~np.isnan(found.matrix[:, 0])]).all() and found.uns["device"] == "cpu"
        assert found.uns["model"] == model and found.uns["revision"].startswith("sha256:")


def test_files_are_fetched_once_and_shared(finished):
    project, hub = finished
    weights = project.folder / "resources/weights"
    assert sorted(path.name for path in weights.iterdir()) == [
        "aido_tiny",
        "geneformer_tiny",
        "scgenept_tiny",
        "scgpt_tiny",
        "scvi_tiny",
        "tf",
        "uce_small",
    ]
    assert sorted(
        p.name.partition(".")[0] for p in (weights / "uce_small/model_files/protein_embeddings").glob("*.pt")
    ) == [
        "Homo_sapiens",
        "Mus_musculus",
    ]
    names = ("config.json", "model.safetensors", "OS_scRNA_gene_index.19264.tsv")
    assert sorted(hub.asked) == sorted(
        ["/all_embeddings.tar.gz", "/tf_tiny.tar.gz", *(f"/owner/AIDO-tiny/resolve/abc123/{name}" for name in names)]
    )
    assert [path.name for path in (weights / "tf/all_embeddings").iterdir()] == ["mus_musculus_gene.h5"]
    known = yaml.safe_load((project.folder / "resources/checksums.yaml").read_text())
    assert f"{hub.url}/tf_tiny.tar.gz" in known
    assert f"hf://owner/AIDO-tiny@abc123/model.safetensors from {hub.url}" in known
    assert any(url.startswith("s3://models/uce/4layer_model.torch from http://127.0.0.1:") for url in known)


def test_nothing_is_left_to_do_and_an_edited_network_runs_its_model_alone(finished):
    project, _ = finished
    assert project.planned(*TABLES) == {}
    path = project.folder / "workflow/scripts/cellgauge/models/scgpt/network.py"
    text = path.read_text()
    try:
        path.write_text(text + "\nEDITED = True\n")
        embeddings = {name for name in project.planned(*TABLES) if name.startswith("results/embeddings")}
    finally:
        path.write_text(text)
    assert embeddings == {"results/embeddings/scgpt_tiny/baron/human.h5ad"}


def test_a_licence_that_is_not_accepted_is_a_row_with_the_reason(finished):
    project, _ = finished
    config = project.config
    config["run"]["accept_licences"] = []
    project.configure(config)
    try:
        planned = project.planned(*TABLES)
        assert not [name for name in planned if "aido" in name]
        project.run("--forcerun", "tables", *TABLES)
        rows = project.table().query("model == 'aido_tiny'")
        assert set(rows["status"]) == {"not_applicable"} and rows["reason"].str.contains("must be accepted").any()
    finally:
        config["run"]["accept_licences"] = ["genbio-community"]
        project.configure(config)


def test_a_checkpoint_that_is_not_what_it_should_be_is_a_row_with_the_reason(finished):
    """A truncated file came from the server; the other models are scored."""
    project, _ = finished
    path = project.folder / "resources/weights/scgpt_tiny/best_model.pt"
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    try:
        done = project.run("--keep-going", *TABLES, check=False)
        assert done.returncode
        assert not (project.folder / "results/embeddings/scgpt_tiny/baron/human.h5ad").exists()
        log = (project.folder / "logs/embed/scgpt_tiny/baron/human.log").read_text().splitlines()
        assert (
            log[-1].startswith("error: ")
            and "best_model.pt: not a checkpoint of torch, truncated or corrupt" in log[-1]
        )
        table = project.table().query("model == 'scgpt_tiny' and dataset == 'baron' and task == 'clustering'")
        assert set(table["status"]) == {"failed"} and "truncated or corrupt" in table["reason"].iloc[0]
    finally:
        path.write_bytes(content)
    project.run(*TABLES)
    assert project.planned(*TABLES) == {}


def test_a_species_is_added_from_protein_vectors_and_a_gtf(finished, s3_server):
    project, _ = finished
    config = project.config
    lines = (f'{"12X"[i % 3]}\te\tgene\t{1000 * i + 7}\t9\t.\t+\t.\tgene_name "Gene{i}";\n' for i in range(60))
    (project.folder / "genes.gtf").write_text("".join(lines))
    proteins = f"s3://models/uce/model_files/protein_embeddings/{PROTEINS['mouse']}.gene_symbol_to_embedding_ESM2.pt"
    uce = config["models"]["uce_tiny"]
    config["models"]["uce_added"] = {
        **{key: value for key, value in uce.items() if key != "species_weights"},
        "organisms": ["human"],
        "new_species": {"mouse": {"proteins": proteins, "genes": "genes.gtf"}},
    }
    project.configure(config)
    target = "results/embeddings/uce_added/tiny/mouse.h5ad"
    project.run("--", target, AWS_ENDPOINT_URL=s3_server.url)
    own = Embedding.read(project.folder / "results/embeddings/uce_tiny/tiny/mouse.h5ad")
    added = Embedding.read(project.folder / target)
    assert added.uns["matched_genes"] == own.uns["matched_genes"] == 60 and not np.isnan(added.matrix).any()
    assert json.loads(added.uns["params"])["species_files"] == {"mouse": "resources/species/uce_added/mouse"}
    assert (project.folder / "logs/build_species/uce_added/mouse.log").read_text().startswith("mouse: 60 genes")


def test_options_say_which_cells_were_not_embedded(finished):
    project, _ = finished
    uns = Embedding.read(project.folder / "results/embeddings/uce_tiny_reference/tiny/mouse.h5ad").uns
    assert uns["species"] == "human" and json.loads(uns["params"])["padding"] == "additive"
