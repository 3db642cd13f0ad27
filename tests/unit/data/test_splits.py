"""From a published h5ad to the split contract."""

import json
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import tiny

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.expression import join_species
from cellgauge.data.genes import hub_of, shared_names
from cellgauge.data.make_split import make_split
from cellgauge.files.split import Split
from cellgauge.plan.sources import SCRIPTS


@pytest.fixture
def data():
    return tiny.published()


@pytest.fixture
def make(tmp_path, data):
    def run(**changes):
        data.write_h5ad(tmp_path / "published.h5ad")
        make_split(tmp_path / "published.h5ad", tmp_path / "split.h5ad", tiny.options(**changes))
        return Split.open(tmp_path / "split.h5ad")

    return run


def test_contract(make, data):
    split = make(keep=["assay", "not_there"], licence="CC-BY", source="s3://b/k")
    assert set(split.columns) == {"label", "donor", "batch", "assay"}
    assert split.column("batch")[0] == "10x|donor0"
    assert split.genes[0] == "ENSG00000000000" and split.symbols[0] == "GENE0"
    assert (split.counts() != data.X).nnz == 0
    uns = split.to_anndata().uns
    assert uns["licence"] == "CC-BY" and uns["source"] == "s3://b/k" and len(uns["source_sha256"]) == 64


def test_splits_of_one_object_by_column(make, data):
    split = make(split_by="tissue", value="Large Intestine", split="large_intestine")
    chosen = (data.obs["tissue"] == "Large Intestine").to_numpy()
    assert split.cells.tolist() == data.obs_names[chosen].tolist()
    assert (split.counts() != data.X[chosen]).nnz == 0


@pytest.mark.parametrize("form", ["csc", "dense", "layer", "raw"])
def test_counts_wherever_they_lie(make, data, form):
    counts = data.X.copy()
    place = {"layer": "layers/counts", "raw": "raw/X"}.get(form, "X")
    if form == "csc":
        data.X = counts.tocsc()
    elif form == "dense":
        data.X = counts.toarray()
    elif form == "layer":
        data.layers["counts"] = counts
        data.X = counts.log1p()
    else:
        data.raw = data.copy()
        data.X = counts.log1p()
    split = make(counts=place, split_by="tissue", value="Lung")
    assert (split.counts() != counts[(data.obs["tissue"] == "Lung").to_numpy()]).nnz == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": "cell_typ"}, "dataset tiny, split human: no column 'cell_typ' for label (found: assay, cell_type,"),
        ({"label": "cell_typ"}, "did you mean 'cell_type'?"),
        ({"donor": "who"}, "no column 'who' for donor"),
        ({"batch": ["assay", "who"]}, "no column 'who' for batch"),
        ({"ensembl": "gene_id"}, "no column 'gene_id' for ensembl (found: feature_name)"),
        ({"organism": "martian"}, "dataset tiny, split human: unknown organism 'martian'"),
        ({"organism": "mouse"}, "no gene id of column index starts with ENSMUSG, as those of mouse do"),
        ({"counts": "layers/counts"}, "no matrix 'layers/counts' for counts (found: X)"),
        ({"split_by": "tissue", "value": "Brain"}, "no cell has tissue = 'Brain' (found: Large Intestine, Lung)"),
        ({"split_by": "organ"}, "no column 'organ' for split_by"),
        ({"lable": "x"}, "unknown split option 'lable', did you mean 'label'?"),
        ({"label": ""}, "must give 'label'"),
    ],
)
def test_wrong_options_are_one_sentence(make, changes, words):
    with pytest.raises(CellgaugeError) as error:
        make(**changes)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_log_normalised_data_is_refused(make, data):
    data.X = data.X.log1p()
    with pytest.raises(
        CellgaugeError, match=r"dataset tiny, split human: the matrix is not raw counts, .* name the layer"
    ):
        make()


def test_duplicate_cell_ids_are_named(make, data):
    data.obs_names = ["same", "same", *data.obs_names[2:]]
    with pytest.raises(CellgaugeError, match="dataset tiny, split human: cell ids must be unique, 'same'"):
        make()


def test_duplicate_genes_are_named(make, data):
    data.var_names = [data.var_names[1], *data.var_names[1:]]
    with pytest.raises(CellgaugeError, match="gene ids must be unique, 'ENSG00000000001'"):
        make()


def test_missing_labels_are_counted_or_dropped(make, data):
    data.obs["cell_type"] = data.obs["cell_type"].where(np.arange(120) > 2)
    with pytest.raises(
        CellgaugeError, match="3 of 120 cells have no label in column 'cell_type'; set `missing_labels: drop`"
    ):
        make()
    assert len(make(missing_labels="drop").cells) == 117


def test_no_labelled_cell_at_all(make, data):
    data.obs["cell_type"] = pd.Categorical([None] * 120, categories=["T cell"])
    with pytest.raises(CellgaugeError, match="no cells are left"):
        make(missing_labels="drop")


def test_orthologues_give_both_species_one_name(tmp_path):
    table = tiny.orthologue_table(tmp_path / "orthologues.csv")
    columns = {"orthologues": tiny.orthologues(table)}
    for species in ("human", "mouse"):
        split = Split.open(tiny.split_file(tmp_path, organism=species, **columns))
        assert split.to_anndata().var["orthologue"].tolist() == [f"GENE{i}" for i in range(60)]


def test_genes_that_are_not_one_to_one_have_no_orthologue(tmp_path):
    rows = [
        ("GENE0", "Gene0"),
        ("GENE0", "Gene1"),
        ("GENE2", "Gene2"),
        ("GENE3", None),
        ("GENE4", "Gene5"),
        ("GENE5", "Gene5"),
    ]
    pd.DataFrame(rows, columns=["human", "mouse"]).to_csv(tmp_path / "o.csv", index=False)
    columns = {"orthologues": tiny.orthologues(tmp_path / "o.csv")}
    names = Split.open(tiny.split_file(tmp_path, **columns)).to_anndata().var["orthologue"]
    assert names[names != ""].tolist() == ["GENE2"]


def test_tables_of_pairs_are_joined_on_the_species_that_they_share(tmp_path):
    pd.DataFrame({"human": ["GENE0", "GENE1", "GENE2"], "mouse": ["Gene0", "Gene1", "Gene2"]}).to_csv(
        tmp_path / "mouse.csv", index=False
    )
    (tmp_path / "gorilla.csv").write_text("GENE0,g0\nGENE1,g1\nGENE1,\nGENE2,g2\nGENE3,g3\n,\n")  # no header
    tables = [
        {"path": str(tmp_path / "mouse.csv"), "columns": {"human": "human", "mouse": "mouse"}},
        {"path": str(tmp_path / "gorilla.csv"), "columns": {"human": 0, "gorilla": 1}},
    ]
    genes = {
        "human": ["GENE0", "GENE1", "GENE2", "GENE3", "GENE4"],
        "mouse": ["Gene2", "Gene1", "Gene0", "Gene3"],
        "gorilla": ["g0", "g1", "g2", "g3", "g3"],
    }
    names = {species: shared_names(pd.Series(own), tables, "human", species).tolist() for species, own in genes.items()}
    assert names["human"] == ["GENE0", "GENE1", "GENE2", "GENE3", ""]
    assert names["mouse"] == ["GENE2", "GENE1", "GENE0", ""]
    assert names["gorilla"] == ["GENE0", "", "GENE2", "", ""]  # one with a second row, one twice in the data


def test_a_species_that_is_not_in_the_set_costs_no_gene(tmp_path):
    rows = [("GENE0", "Gene0", "c0"), ("GENE1", "Gene1", None), ("GENE2", "Gene2", "c2"), ("GENE2", "Gene2", "c3")]
    pd.DataFrame(rows, columns=["h", "m", "c"]).to_csv(tmp_path / "o.csv", index=False)
    table = {"path": str(tmp_path / "o.csv"), "columns": {"chicken": "c", "human": "h", "mouse": "m"}}
    names = shared_names(pd.Series(["Gene0", "Gene1", "Gene2"]), [table], hub_of([table["columns"]]), "mouse")
    assert names.tolist() == ["GENE0", "GENE1", "GENE2"]
    assert shared_names(pd.Series(["c0", "c2", "c3"]), [table], "human", "chicken").tolist() == ["GENE0", "", ""]


def test_orthologues_by_ensembl_id_whatever_the_version(tmp_path):
    columns = {"human": "human", "mouse": "mouse"}
    pairs = {"human": [f"ENSG{i:011d}.7" for i in range(5)], "mouse": [f"ENSMUSG{i:011d}" for i in range(5)]}
    pd.DataFrame(pairs).to_csv(tmp_path / "o.csv", index=False)
    table = [{"path": str(tmp_path / "o.csv"), "columns": columns}]
    for species in ("human", "mouse"):
        path = tiny.split_file(tmp_path, organism=species, orthologues=table, orthologue_key="ensembl")
        names = Split.open(path).orthologues
        assert names[:5].tolist() == [f"ENSG{i:011d}" for i in range(5)] and set(names[5:]) == {""}


def test_a_table_that_knows_no_gene_fails_what_joins_species_and_not_the_split(tmp_path):
    pd.DataFrame({"human": ["A"], "mouse": ["a"]}).to_csv(tmp_path / "o.csv", index=False)
    kinds = {"human": tiny.orthologues(tmp_path / "o.csv"), "mouse": tiny.orthologues(tmp_path / "o.csv")}
    splits = [Split.open(tiny.split_file(tmp_path, organism=o, orthologues=t)) for o, t in kinds.items()]
    with pytest.raises(CellgaugeError, match="knows none of the 60 genes of split human of tiny, such as ENSG0"):
        join_species(splits)


@pytest.mark.parametrize(
    ("table", "columns", "words"),
    [
        ({"human": ["A"], "mouse": ["a"]}, {"chicken": "human", "mouse": "mouse"}, "names no column for human"),
        (
            {"human": ["A"], "mouse": ["a"]},
            {"human": "hs", "mouse": "mouse"},
            r"has no column 'hs' \(found: human, mouse\)",
        ),
    ],
)
def test_wrong_orthologue_tables(tmp_path, table, columns, words):
    pd.DataFrame(table).to_csv(tmp_path / "o.csv", index=False)
    with pytest.raises(CellgaugeError, match=f"dataset tiny, split human: .*{words}"):
        tiny.split_file(tmp_path, orthologues=[{"path": str(tmp_path / "o.csv"), "columns": columns}])


def test_script_ends_with_the_sentence(tmp_path, data):
    data.write_h5ad(tmp_path / "p.h5ad")
    command = [sys.executable, SCRIPTS / "split_dataset.py", tmp_path / "p.h5ad", tmp_path / "s.h5ad", "--options"]
    done = subprocess.run(
        [*command, json.dumps(tiny.options(label="nope"))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and not (tmp_path / "s.h5ad").exists()
    assert done.stderr.splitlines()[-1].startswith("error: dataset tiny, split human: no column 'nope'")
    assert "Traceback" not in done.stderr
    subprocess.run([*command, json.dumps(tiny.options())], check=True)
    assert anndata.read_h5ad(tmp_path / "s.h5ad").n_obs == 120


def test_a_number_that_no_count_can_be_is_refused(tmp_path):
    data = tiny.published()
    data.X.data[7] = 3e38
    data.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(CellgaugeError, match=r"1 of \d+ stored values are too large \(such as 3"):
        make_split(tmp_path / "cells.h5ad", tmp_path / "split.h5ad", tiny.options())
