"""A model's job needs memory for its embedding, not for all cells."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cellgauge.plan.sources import SCRIPTS

CELLS, GENES = (2500, 7500), 2000  # the fewer fill the window among which batches are formed
SLACK_MB = 25  # the cells that the larger split has more would be 38 as a dense matrix


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peaks can be measured one by one on Linux alone"
)
def test_memory_does_not_grow_with_the_number_of_cells():
    """Networks are tiny: what would grow is what is kept of cells."""
    sizes = ["--cells", *map(str, CELLS), "--genes", str(GENES), "--density", "0.02"]
    command = [sys.executable, "-W", "ignore", str(SCRIPTS.parents[1] / "bench" / "bench_memory.py"), *sizes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    for model, found in json.loads(done.stdout).items():
        few, many = found["peak_mb"]
        assert many - few - found["embedding_mb"] < SLACK_MB, f"{model}: {found}"
