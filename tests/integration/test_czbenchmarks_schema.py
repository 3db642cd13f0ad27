"""Our exported results are read by cz-benchmarks' own classes, in an environment of its own."""

import json
import os
import subprocess

import made_up
import pytest
from anchor.environment import AnchorUnavailable, anchor_python

from cellgauge.exports import export

pytestmark = [pytest.mark.anchor, pytest.mark.network, pytest.mark.xdist_group("anchor")]

READ = """
import json, sys
from czbenchmarks.metrics.types import AggregatedMetricResult, MetricResult
metrics = [m for result in json.load(open(sys.argv[1]))["task_results"] for m in result["metrics"]]
read = [(AggregatedMetricResult if "n_values" in m else MetricResult)(**m) for m in metrics]
print(json.dumps([[m.metric_type.value, m.value, m.params] for m in read]))
"""


def test_every_metric_is_one_of_theirs(tmp_path):
    try:
        python = anchor_python()
    except AnchorUnavailable as reason:
        if os.environ.get("CELLGAUGE_REQUIRE_ANCHOR") == "1":
            raise
        pytest.skip(str(reason))
    tables = made_up.write_tables(tmp_path, made_up.demo())
    export(tables, tmp_path)
    done = subprocess.run(
        [python, "-c", READ, tmp_path / "czbenchmarks.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "czbenchmarks.json").read_text())["task_results"]
    ours = [[m["metric_type"], m["value"], m["params"]] for result in results for m in result["metrics"]]
    assert json.loads(done.stdout.splitlines()[-1]) == ours
    assert len({kind for kind, *_ in ours}) == 13
