"""The species that cellgauge knows: one canonical name each, with the names that data sets use for it."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from cellgauge.core.errors import CellgaugeError, did_you_mean


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

_BY_TAXON = {str(organism.taxon): organism.name for organism in _TABLE}


def organism(name: str) -> Organism:
    """Return the organism of a canonical, common or scientific name, or of an NCBI taxon ("NCBITaxon:9606").

    Raises:
        CellgaugeError: an unknown name, with the nearest ones.
    """
    key = _key(name)
    key = _BY_TAXON.get(key.removeprefix("ncbitaxon:"), _ALIASES.get(key, key))
    if key in ORGANISMS:
        return ORGANISMS[key]
    hint = did_you_mean(key, [*ORGANISMS, *_ALIASES], otherwise=f" (known: {', '.join(ORGANISMS)})")
    raise CellgaugeError(f"unknown organism '{name}'{hint}")


# --- do the genes fit? ------------------------------------------------------------------------------------------------

_ENSEMBL = re.compile(r"^(?:(ENS[A-Z]*G)\d{6,}|(FBgn|WBGene)\d+)")
_RIBOSOMAL = re.compile(r"^rp[ls]-?p?\d+[a-z]{0,2}\d?(?:\.[ls])?$", re.IGNORECASE)
_WELL_KNOWN = (
    "actb gapdh eef1a1 malat1 cd3d cd3e cd4 cd8a cd19 ms4a1 lyz nkg7 gnly ptprc epcam vim col1a1 col1a2 col3a1 "
    "pecam1 krt8 krt18 krt19 alb ins gcg sst ppy foxp3 il7r ccr7 s100a8 s100a9 fcer1a cst3 top2a mki67 pcna gata1 "
    "sox2 klf4 myc jun fos tp53 trp53 stmn1 tmsb4x ubc hsp90aa1 calm1 ftl fth1 xist neat1 b2m hbb ttr iapp chga "
    "sparc fn1"
)
_KNOWN = frozenset(_WELL_KNOWN.split())
_CASE_OF = dict.fromkeys(("mouse", "rat"), "Actb") | dict.fromkeys(
    ("zebrafish", "western_clawed_frog", "african_clawed_frog"), "actb"
)
_CASE_OF |= {"fruit_fly": "RpL3", "roundworm": "rpl-3"}
_OTHER_NAMES = ("yeast", "malaria_parasite", "sea_urchin", "freshwater_sponge", "sea_lamprey")
_SPECIES_OF_CASE = {
    "ACTB": "human (or another primate)",
    "Actb": "mouse or rat",
    "actb": "zebrafish or frog",
    "RpL3": "fruit_fly",
    "rpl-3": "roundworm",
}
_FEWEST = 5
_MANY = 50
"""So many well-known genes, or so many genes of any name, in another species' spelling are no accident."""
_SYMBOL = re.compile(r"^[A-Za-z]{2,}[A-Za-z0-9]*$")


def contradiction(names: Iterable[str], species: Organism) -> str:
    """Return why the names of genes cannot be of a species, "" where nothing speaks against it.

    Ensembl ids tell by their prefix. Symbols tell by how well-known genes are spelled: ACTB in primates, Actb in rodents, actb
    in fishes and frogs; RpL3 in flies, rpl-3 in worms. What few or unknown genes say is not trusted.
    """
    names = list(dict.fromkeys(names))
    prefixes = Counter(match[1] or match[2] for match in map(_ENSEMBL.match, names) if match)
    n_fitting = prefixes.get(species.ensembl_prefix, 0)
    if prefixes and species.ensembl_prefix and 2 * n_fitting < sum(prefixes.values()):
        prefix, count = prefixes.most_common(1)[0]
        other = next((organism.name for organism in _TABLE if organism.ensembl_prefix == prefix), "another species")
        return (
            f"{count} of {sum(prefixes.values())} Ensembl ids begin with {prefix}, those of {species.name} with"
            f" {species.ensembl_prefix}: the genes are of {other}"
        )
    spelled = Counter(filter(None, map(_case, names)))
    case = _CASE_OF.get(species.name, "" if species.name in _OTHER_NAMES else "ACTB")
    other, count = spelled.most_common(1)[0] if spelled else ("", 0)
    if count >= _FEWEST and other != case and count > 4 * spelled.get(case, 0) and not (not case and other == "ACTB"):
        examples = [name for name in names if _case(name) == other][:3]
        return f"{count} well-known genes are spelled as in {_SPECIES_OF_CASE[other]} ({', '.join(examples)})"
    symbols = [name for name in names if _SYMBOL.match(name) and not _ENSEMBL.match(name)]
    for other, in_case in (("ACTB", str.isupper), ("Actb", str.istitle)):
        alike = [name for name in symbols if in_case(name.rstrip("0123456789") if other == "ACTB" else name[:2])]
        if case in ("ACTB", "Actb") and other != case and len(alike) >= max(_MANY, 0.9 * len(symbols)):
            examples = ", ".join(alike[:3])
            return f"{len(alike)} of {len(symbols)} symbols are spelled as in {_SPECIES_OF_CASE[other]} ({examples})"
    return ""


def _case(name: str) -> str:
    """Return in which spelling a well-known gene is written, "" for any other name."""
    ribosomal = _RIBOSOMAL.match(name)
    if not ribosomal and name.casefold() not in _KNOWN:
        return ""
    if "-" in name:
        return "rpl-3"
    if ribosomal and name[:2] == "Rp" and name[2].isupper():
        return "RpL3"
    if name.isupper():
        return "ACTB"
    return "actb" if name.islower() else "Actb" if name[0].isupper() and name[1:].islower() else ""
