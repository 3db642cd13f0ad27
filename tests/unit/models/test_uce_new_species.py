"""Files of species that UCE was not trained on: loci, the files, and refused input."""

import gzip
import pickle

import pytest
import torch

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.organisms import organism
from cellgauge.models.base import build_species_files
from cellgauge.models.uce.new_species import build_species, read_loci

FASTA = """\
>ENSGGOP1.1 pep chromosome:gorGor4:1:500:900:-1 gene:ENSGGOG1.1 transcript:ENSGGOT1.1 gene_symbol:Actb description:a
MAAA
>ENSGGOP2.1 pep primary_assembly:gorGor4:X:70:90:1 gene:ENSGGOG2.1 gene_symbol:TP53 description:b [Source:x;Acc:HGNC:1:2:3]
MBBB
>ENSGGOP3.1 pep primary_assembly:gorGor4:2:8:90:1 gene:ENSGGOG2.1 gene_symbol:TP53
>ENSGGOP4.1 pep scaffold:gorGor4:KN1.1:33:44:1 gene:ENSGGOG3.1 gene_symbol:orf5
>ENSGGOP5.1 pep chromosome:gorGor4:1:5:9:1 gene:ENSGGOG4.1 gene_biotype:protein_coding
"""
GTF = """\
#!genome-build x
1\tensembl\tgene\t500\t900\t.\t-\t.\tgene_id "G1"; gene_version "2"; gene_name "Actb"; gene_source "e";
1\tensembl\texon\t1\t900\t.\t-\t.\tgene_id "G9"; gene_name "EXON";
X\tensembl\tgene\t70\t90\t.\t+\t.\tgene_id "G2"; gene_name "TP53";
X\tensembl\tgene\t7\t9\t.\t+\t.\tgene_id "G3";
"""


def checkpoint(folder, width=4):
    path = folder / "model.torch"
    torch.save({"pe_embedding.weight": torch.arange(40.0).reshape(-1, width)}, path)
    return path


def proteins(folder, symbols, width=4):
    torch.save({symbol: torch.full((width,), float(i)) for i, symbol in enumerate(symbols)}, folder / "gorilla.pt")
    return folder / "gorilla.pt"


def text(path, content, zipped=False):
    path.write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_loci_are_read_from_headers_of_fasta_and_genes_of_gtf(tmp_path, zipped):
    loci = {"ACTB": ("1", 500), "TP53": ("X", 70)}
    assert read_loci(text(tmp_path / "g.gtf", GTF, zipped)) == loci
    assert read_loci(text(tmp_path / "g.fa", FASTA, zipped)) == {**loci, "ORF5": ("KN1.1", 33)}


def test_files_hold_the_genes_that_have_both(tmp_path):
    vectors = proteins(tmp_path, ["NOWHERE", "tp53", "ACTB", "TP53"])
    fasta = text(tmp_path / "g.fa", FASTA)
    summary = build_species(checkpoint(tmp_path), vectors, fasta, organism("gorilla"), tmp_path / "out")
    assert summary == "gorilla: 2 genes on 2 chromosomes, of 4 with a protein vector and 3 with a locus"
    tokens = torch.load(tmp_path / "out/all_tokens.torch")
    assert tokens[:4].tolist() == torch.arange(16.0).reshape(4, 4).tolist()
    assert tokens[4:6].tolist() == [[1.0] * 4, [2.0] * 4] and len(tokens) == 8
    assert list(torch.load(tmp_path / "out/protein_embeddings.pt")) == ["TP53", "ACTB"]
    assert pickle.loads((tmp_path / "out/species_offsets.pkl").read_bytes()) == {"gorilla": 4}
    assert (tmp_path / "out/species_chrom.csv").read_text().splitlines() == [
        "gene_symbol,chromosome,start,species",
        "TP53,X,70,gorilla",
        "ACTB,1,500,gorilla",
    ]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("width", r"gorilla\.pt: the vector of TP53 has shape \(5,\), model\.torch needs \(4,\)"),
        (
            "other",
            r"1 of 3 symbols of .*gorilla\.pt \(such as .*\) have a locus in .*, fewer than half; are the files of the same",
        ),
        ("no fasta", r"g\.fa: no gene with a symbol and a locus; give Ensembl's FASTA"),
        ("cut", r"g\.fa: cannot be read as text"),
        ("absent", r"g\.fa: no such file"),
        ("no proteins", r"gorilla\.pt: not a checkpoint of torch"),
        ("no checkpoint", r"model\.torch: no such file"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, fault, words):
    genes = tmp_path / "g.fa"
    vectors = proteins(tmp_path, ["A", "B", "TP53"] if fault == "other" else ["TP53"], 5 if fault == "width" else 4)
    if fault != "absent":
        text(genes, "one\ntwo\n" if fault == "no fasta" else FASTA)
    if fault == "cut":
        genes.write_bytes(gzip.compress(FASTA.encode())[:-20])
    if fault == "no proteins":
        vectors.write_bytes(b"x" * 100)
    model = tmp_path / "model.torch" if fault == "no checkpoint" else checkpoint(tmp_path)
    with pytest.raises(CellgaugeError, match=words):
        build_species(model, vectors, genes, organism("gorilla"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_script_builds_what_the_adapter_says(tmp_path):
    vectors, genes = proteins(tmp_path, ["tp53", "ACTB"]), text(tmp_path / "g.gtf", GTF)
    checkpoint(tmp_path)
    options = {"proteins": str(vectors), "genes": str(genes), "checkpoint": "model.torch"}
    said = build_species_files("uce", "Gorilla gorilla", tmp_path / "out", weights=tmp_path, options=options)
    assert said.startswith("gorilla: 2 genes on 2 chromosomes")
    assert len(torch.load(tmp_path / "out/all_tokens.torch")) == 8


@pytest.mark.parametrize(
    ("adapter", "options", "words"),
    [
        ("uce", {"proteins": "a", "genes": "b"}, r"no file \*\.torch"),
        ("uce", {"proteins": "a"}, "adapter 'uce': option 'genes' must be given"),
        ("uce", {"proteins": "a", "genes": "b", "gene": "c"}, "unknown option 'gene', did you mean 'genes'"),
        ("scgpt", {}, "adapter 'scgpt' does not support additional species"),
        ("uze", {}, "unknown adapter 'uze'"),
    ],
)
def test_mistakes_of_the_script_are_one_sentence(tmp_path, adapter, options, words):
    with pytest.raises(CellgaugeError, match=words):
        build_species_files(adapter, "gorilla", tmp_path / "out", weights=tmp_path, options=options)
