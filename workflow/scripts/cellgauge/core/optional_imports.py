"""Imports that leave out what a library needs only for its conveniences."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_optional(*names: str) -> Iterator[None]:
    """Import libraries inside the block as if the optional packages `names` were not installed.

    igraph imports matplotlib, and scikit-learn pandas, whenever they are there: half a second and 60 MB of every score
    job, for plotting and data frames that no scorer uses. Both libraries work without them. What is already imported
    stays, and afterwards the names can be imported as ever.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # None stands for "not to be found" (the reference on the import system)
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
