"""Make a static site of several runs, to be hosted anywhere: reports, what changed from run to run, how to submit results."""

import argparse

from cellgauge.core.errors import run_cli
from cellgauge.report.site import build_site

cli = argparse.ArgumentParser(description=__doc__)
cli.add_argument("folders", nargs="+", metavar="RUN", help="folders of runs, such as runs/first runs/second")
cli.add_argument("--output", default="site", metavar="DIR", help="the folder of the site (default: %(default)s)")

if __name__ == "__main__":
    run_cli(lambda: print(f"The site: {build_site(**vars(cli.parse_args()))}"))
