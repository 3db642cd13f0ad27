"""Names of species, and whether genes are theirs."""

import anndata
import pandas as pd
import pytest
import tiny

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.genes import shared_names
from cellgauge.data.make_split import read_split
from cellgauge.data.organisms import ORGANISMS, contradiction, organism


@pytest.mark.parametrize("name", ["human", "Homo sapiens", "homo_sapiens", " Human ", "NCBITaxon:9606", "9606"])
def test_all_spellings_lead_to_one_name(name):
    assert organism(name).name == "human"


def test_near_names_are_suggested():
    with pytest.raises(CellgaugeError, match="unknown organism 'humann', did you mean 'human'"):
        organism("humann")


def test_far_names_list_what_is_known():
    with pytest.raises(CellgaugeError, match=r"unknown organism 'xyzzy' \(known: human, chimpanzee"):
        organism("xyzzy")


def test_no_two_organisms_share_a_taxon_or_prefix():
    assert len({o.taxon for o in ORGANISMS.values()}) == len(ORGANISMS)
    prefixes = [o.ensembl_prefix for o in ORGANISMS.values() if o.ensembl_prefix]
    assert len(set(prefixes)) == len(prefixes)


# --- do the genes fit? -----------------------------------------------------------------------------------------------

SPELLED = {
    "human": ["ACTB", "GAPDH", "RPL3", "RPS4X", "RPLP0", "MALAT1", "CD3D"],
    "mouse": ["Actb", "Gapdh", "Rpl3", "Rps4x", "Rplp0", "Malat1", "Cd3d"],
    "zebrafish": ["actb1", "gapdh", "rpl3", "rps4x", "rplp0", "vim", "col1a1"],
    "fruit_fly": ["Act5C", "RpL3", "RpS4", "RpLP0", "RpL7A", "RpS3A", "Gapdh1"],
    "roundworm": ["act-1", "rpl-3", "rps-4", "rpl-7", "rps-1", "rpl-12"],
}
SAME = [
    {"human", "rhesus_macaque", "pig", "chicken", "opossum"},
    {"mouse", "rat"},
    {"zebrafish", "western_clawed_frog"},
]


@pytest.mark.parametrize("species", ORGANISMS)
@pytest.mark.parametrize("spelled", SPELLED)
def test_symbols_tell_species_apart_by_their_spelling(spelled, species):
    why = contradiction(SPELLED[spelled], ORGANISMS[species])
    alike = spelled == species or any({spelled, species} <= group for group in SAME)
    if alike:
        assert why == ""
    elif spelled in ("human", "mouse") and species in SPELLED:
        assert "well-known genes are spelled as in" in why


def test_ensembl_ids_tell_by_their_whole_prefix():
    gorilla = [f"ENSGGOG{i:011d}" for i in range(9)]
    assert contradiction(gorilla, ORGANISMS["gorilla"]) == ""
    assert "9 of 9 Ensembl ids begin with ENSGGOG, those of human with ENSG: the genes are of gorilla" in contradiction(
        gorilla, ORGANISMS["human"]
    )
    assert contradiction([*gorilla[:4], *(f"ENSG{i:011d}" for i in range(9))], ORGANISMS["human"]) == ""
    assert "the genes are of roundworm" in contradiction([f"WBGene{i:08d}" for i in range(9)], ORGANISMS["mouse"])


def test_names_that_nobody_knows_tell_nothing():
    for species in ORGANISMS.values():
        assert contradiction(["g1", "GENE2", "x-3", "AC012.4", ""], species) == ""
    assert contradiction([], ORGANISMS["human"]) == ""


@pytest.mark.parametrize("n_genes", [300, 1200, 20000])
def test_real_cells_of_man_and_mouse(baron, n_genes):
    for species, other in (("human", "mouse"), ("mouse", "human")):
        genes = anndata.read_h5ad(getattr(baron, species), backed="r").var_names
        chosen = genes[:: max(1, len(genes) // n_genes)]
        for name in ORGANISMS:
            why = contradiction(chosen, ORGANISMS[name])
            assert why == "" if name == species else (name != other or why)


def test_a_wrong_species_is_one_sentence(tmp_path):
    data = tiny.published()
    data.var["feature_name"] = [*SPELLED["human"], *data.var["feature_name"][len(SPELLED["human"]) :]]
    data.write_h5ad(tmp_path / "p.h5ad")
    options = tiny.options(ensembl=(), organism="mouse")
    with pytest.raises(
        CellgaugeError, match="dataset tiny, split human: `organism` says mouse, but 7 well-known genes"
    ):
        read_split(tmp_path / "p.h5ad", options)
    assert read_split(tmp_path / "p.h5ad", tiny.options(ensembl=())).data.n_obs == 120


def test_a_table_of_orthologues_tells_too(tmp_path):
    names = {
        "human": [f"H{i}" for i in range(50)],
        "pig": [f"P{i}" for i in range(45)] + [f"H{i}" for i in range(45, 50)],
    }
    pd.DataFrame(names).to_csv(tmp_path / "o.csv", index=False)
    tables = [{"path": tmp_path / "o.csv", "columns": {"human": "human", "pig": "pig"}}]
    assert (shared_names(pd.Series(names["human"]), tables, "human", "human") != "").all()
    with pytest.raises(
        CellgaugeError, match=r"look like those of human, not of pig: .* knows 50 of 50 in its column 'human', 5 "
    ):
        shared_names(pd.Series(names["human"]), tables, "human", "pig")
