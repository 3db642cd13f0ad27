"""How often tests try: seldom where every change is tested, often for `make fuzz`."""

from __future__ import annotations

import os

FUZZ_EXAMPLES = int(os.environ.get("CELLGAUGE_FUZZ_EXAMPLES", "0"))


def examples(few: int) -> int:
    """Return how many examples a property is tested on: `few`, or what `make fuzz` asks for."""
    return FUZZ_EXAMPLES or few
