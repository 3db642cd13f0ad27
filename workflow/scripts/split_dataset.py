"""Write one split of a dataset (a tissue, a species) in the split contract."""

import argparse
import json

from cellgauge.core.errors import run_cli
from cellgauge.data.make_split import make_split

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("source", metavar="INPUT", help="an h5ad file as its authors published it")
cli.add_argument("target", metavar="OUTPUT", help="the split to write (h5ad)")
cli.add_argument("--options", type=json.loads, required=True, metavar="JSON", help="at least label and organism")

if __name__ == "__main__":
    run_cli(lambda: make_split(**vars(cli.parse_args())))
