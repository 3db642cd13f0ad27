"""Names of species."""

import pytest

from cellgauge.errors import CellgaugeError
from cellgauge.organisms import ORGANISMS, organism


@pytest.mark.parametrize("name", ["human", "Homo sapiens", "homo_sapiens", " Human "])
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
