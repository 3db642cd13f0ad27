"""The species that cellgauge knows: one canonical name each, with the names that data sets use for it."""

from __future__ import annotations

from dataclasses import dataclass

from cellgauge.errors import CellgaugeError, did_you_mean


@dataclass(frozen=True)
class Organism:
    """A species: canonical name, scientific name, NCBI taxon, prefix of its Ensembl gene ids ("" where it has none)."""

    name: str
    scientific: str
    taxon: int
    ensembl_prefix: str


_TABLE = (
    Organism("human", "Homo sapiens", 9606, "ENSG"),
    Organism("chimpanzee", "Pan troglodytes", 9598, "ENSPTRG"),
    Organism("gorilla", "Gorilla gorilla", 9593, "ENSGGOG"),
    Organism("rhesus_macaque", "Macaca mulatta", 9544, "ENSMMUG"),
    Organism("crab_eating_macaque", "Macaca fascicularis", 9541, "ENSMFAG"),
    Organism("marmoset", "Callithrix jacchus", 9483, "ENSCJAG"),
    Organism("mouse_lemur", "Microcebus murinus", 30608, "ENSMICG"),
    Organism("mouse", "Mus musculus", 10090, "ENSMUSG"),
    Organism("rat", "Rattus norvegicus", 10116, "ENSRNOG"),
    Organism("rabbit", "Oryctolagus cuniculus", 9986, "ENSOCUG"),
    Organism("pig", "Sus scrofa", 9823, "ENSSSCG"),
    Organism("cow", "Bos taurus", 9913, "ENSBTAG"),
    Organism("sheep", "Ovis aries", 9940, "ENSOARG"),
    Organism("dog", "Canis lupus familiaris", 9615, "ENSCAFG"),
    Organism("opossum", "Monodelphis domestica", 13616, "ENSMODG"),
    Organism("platypus", "Ornithorhynchus anatinus", 9258, "ENSOANG"),
    Organism("chicken", "Gallus gallus", 9031, "ENSGALG"),
    Organism("western_clawed_frog", "Xenopus tropicalis", 8364, "ENSXETG"),
    Organism("african_clawed_frog", "Xenopus laevis", 8355, ""),
    Organism("zebrafish", "Danio rerio", 7955, "ENSDARG"),
    Organism("sea_lamprey", "Petromyzon marinus", 7757, "ENSPMAG"),
    Organism("fruit_fly", "Drosophila melanogaster", 7227, "FBgn"),
    Organism("roundworm", "Caenorhabditis elegans", 6239, "WBGene"),
    Organism("sea_urchin", "Lytechinus variegatus", 7654, ""),
    Organism("freshwater_sponge", "Spongilla lacustris", 6055, ""),
    Organism("yeast", "Saccharomyces cerevisiae", 559292, ""),
    Organism("malaria_parasite", "Plasmodium falciparum", 36329, ""),
)
ORGANISMS = {organism.name: organism for organism in _TABLE}


def _key(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


_ALIASES = {_key(organism.scientific): organism.name for organism in _TABLE} | {
    "rhesus": "rhesus_macaque",
    "macaque": "rhesus_macaque",
    "chimp": "chimpanzee",
    "cynomolgus": "crab_eating_macaque",
    "worm": "roundworm",
    "fly": "fruit_fly",
    "gorilla_gorilla_gorilla": "gorilla",
}


def organism(name: str) -> Organism:
    """Return the organism of a canonical, common or scientific name; raise CellgaugeError with the nearest names."""
    key = _key(name)
    key = _ALIASES.get(key, key)
    if key in ORGANISMS:
        return ORGANISMS[key]
    hint = did_you_mean(key, [*ORGANISMS, *_ALIASES], otherwise=f" (known: {', '.join(ORGANISMS)})")
    raise CellgaugeError(f"unknown organism '{name}'{hint}")
