"""The names that screens give to conditions: one reading of them for a screen and for what is predicted of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cellgauge.core.errors import CellgaugeError
from cellgauge.files.text_columns import as_text, shorten
from cellgauge.screens.screen import CONTROL

SEPARATORS = ("+", "_", "|", ",", ";", "&", "/", ":")
_WORDS = (
    "ctrl ctl control controls nontargeting nt ntc negctrl negativecontrol neg scramble scrambled safetargeting"
    " vehicle dmso mock untreated unperturbed wt wildtype intergenic aavs1 none na"
)
CONTROL_WORDS = frozenset(_WORDS.split())
"""What screens call a control, in lower case without "-", "_", blanks and trailing digits."""
_JOINTS = "_-.|: "
_NUMBER_OF_GUIDE = re.compile(r"^(sg|g|guide|grna)?\d+$", re.IGNORECASE)


@dataclass(frozen=True)
class ConditionNames:
    """How a file names its conditions. `name` gives each as cellgauge writes it.

    Attributes:
        control: the control's names; `*` and `?` stand for any characters. They are controls within combinations too.
        separator: what stands between the genes of a combination; "" where it is to be recognized by the genes.
        pool_guides: whether "KLF1_2" or "sgKLF1-2" is read as KLF1.
        genes: the names of genes that the screen knows, ids and symbols.
    """

    control: Sequence[str] = (CONTROL,)
    separator: str = ""
    pool_guides: bool = False
    genes: Collection[str] = frozenset()

    def is_control(self, name: str) -> bool:
        """Return whether a whole name, or a part of it, is the control's."""
        return any(name == as_text(one) or fnmatchcase(name, as_text(one)) for one in self.control)

    def is_all_control(self, published: str) -> bool:
        """Return whether a name is the control's, or a combination of controls alone."""
        parts = self._parts(as_text(published), self.separator or "+")
        return self.is_control(as_text(published)) or (bool(parts) and all(map(self.is_control, parts)))

    def recognized(self, published: Iterable[str]) -> ConditionNames:
        """Return the same with the separator of these names: the one that divides most of them into known genes.

        A name that is a gene as a whole, such as HLA-A, is not divided.
        """
        if self.separator:
            return self
        names = [name for name in dict.fromkeys(map(as_text, published)) if name and not self._is_known(name)]
        best, most = "+", sum("+" in name for name in names) / 2
        for separator in SEPARATORS[1:] if most == 0 else ():
            holding = [name for name in names if separator in name]
            known = sum(self.divides(name, separator) for name in holding)
            if known > most and 2 * known >= len(holding):
                best, most = separator, known
        return ConditionNames(self.control, best, self.pool_guides, self.genes)

    def name(self, published: str) -> str:
        """Return a condition as cellgauge writes it: "ctrl" for the control, "KLF1+ctrl" for a gene, "KLF1+MAP2K6" for a pair.

        Parts stand in the order of the published name. "" stays "".
        """
        published = as_text(published)
        if not published or self.is_control(published):
            return CONTROL if published else ""
        parts = self._parts(published, self.separator or "+")
        if self.pool_guides and len(parts) > 1:
            parts = [part for part in parts if not _NUMBER_OF_GUIDE.match(part)] or parts
        written = [CONTROL if self.is_control(part) else self._gene(part) for part in parts]
        genes = list(dict.fromkeys(part for part in written if part != CONTROL))
        if not genes:
            return CONTROL
        if len(genes) > 1:
            return "+".join(genes)
        return f"{CONTROL}+{genes[0]}" if written[0] == CONTROL else f"{genes[0]}+{CONTROL}"

    def names(self, published: Sequence[str]) -> Mapping[str, str]:
        """Return `name` of each distinct published name."""
        return {name: self.name(name) for name in dict.fromkeys(published)}

    def divides(self, published: str, separator: str) -> bool:
        """Return whether a separator divides a name into known genes and controls."""
        parts = self._parts(published, separator)
        return len(parts) > 1 and all(self._is_known(part) for part in parts)

    def _parts(self, published: str, separator: str) -> list[str]:
        if published in self.genes:
            return [published]
        return [part for part in (as_text(part) for part in published.split(separator)) if part]

    def _is_known(self, part: str) -> bool:
        return part in self.genes or self.is_control(part) or self._gene(part) in self.genes

    def _gene(self, part: str) -> str:
        return gene_of_guide(part, self.genes) if self.pool_guides else part


def gene_of_guide(part: str, genes: Collection[str]) -> str:
    """Return the gene that a guide is named after ("KLF1_2", "sgKLF1-3", "KLF1.g1"), or the name as it is.

    What follows the gene must not be a gene itself: KLF1_MAP2K6 is a pair.
    """
    for name in (part, part[2:].lstrip(_JOINTS) if part[:2].lower() == "sg" else part):
        for end in range(len(name), 0, -1):
            if (end == len(name) or name[end] in _JOINTS) and name[:end] in genes:
                rest = name[end:].translate(dict.fromkeys(map(ord, _JOINTS), " ")).split()
                return part if any(word in genes for word in rest) else name[:end]
    return part


def check_targets(where: str, names: ConditionNames, written: Mapping[str, str], *, declared: bool) -> list[str]:
    """Return a note on perturbed genes that are not among the screen's; raise CellgaugeError if names were not understood.

    Args:
        where: what the message begins with.
        written: the names as the file writes them, and as cellgauge does.
        declared: whether the user said how names are written (`separator`): perturbed genes may then be anything.
    """
    parts = [dict.fromkeys(condition.split("+")) for condition in dict.fromkeys(written.values())]
    n_conditions = Counter(part for each in parts for part in each if part and part != CONTROL)
    unknown = [name for name in n_conditions if name not in names.genes]
    if not unknown:
        return []
    bare = {name: re.sub(r"[-_ .]", "", name.casefold()).rstrip("0123456789") for name in unknown}
    if controls := [name for name in unknown if bare[name] in CONTROL_WORDS]:
        raise CellgaugeError(
            f"{where}: '{controls[0]}' is in {n_conditions[controls[0]]} conditions and is not a gene; if it is a control,"
            f" add it to `control`: [{', '.join([*names.control, *controls])}]"
        )
    for name in unknown if not declared else ():
        separator = next((one for one in SEPARATORS if one in name and names.divides(name, one)), "")
        if separator:
            raise CellgaugeError(
                f"{where}: '{name}' is read as one gene, but '{separator}' divides it into genes of the screen; use one"
                " separator for all combinations and name it with `separator`"
            )
    count, examples = f"{len(unknown)} of {len(n_conditions)}", shorten(unknown, 5)
    note = f"{count} perturbed genes are not genes of the screen: {examples}"
    if declared or 2 * len(unknown) <= len(n_conditions):
        return [note]
    guides = sum(gene_of_guide(name, names.genes) in names.genes for name in unknown)
    if 2 * guides > len(unknown):
        remedy = "they look like guides: `pool_guides: true` combines the guides of a gene"
    elif any("+" in name for name in written):  # combinations are written as they are read: the panel lacks genes
        return [note]
    else:
        remedy = "name the character between genes with `separator`, or check the columns of genes"
    raise CellgaugeError(
        f"{where}: {count} perturbed genes are not genes of the screen ({examples}); {remedy}. If that is right"
        ' (drugs, for example), set `separator: "+"`'
    )


def as_names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return one name of the control, or a list of names, as a tuple; by default its usual name."""
    value = value or CONTROL
    return (value,) if isinstance(value, str) else tuple(map(str, value))
