"""Our exported results are read by cz-benchmarks' own classes, in an environment of its own."""

import json
import os
import subprocess

import pytest
from anchor.environment import AnchorUnavailable, anchor_python

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.xdist_group("anchor")]

READ = """
import json, sys
from czbenchmarks.datasets.types import Organism
from czbenchmarks.metrics.types import AggregatedMetricResult, MetricResult
from czbenchmarks.metrics.utils import aggregate_results
from czbenchmarks.tasks.utils import print_metrics_summary
species = {organism.value[0] for organism in Organism}
read = []
for result in json.load(open(sys.argv[1]))["task_results"]:
    assert {data["organism"] for data in result["datasets"]} <= species, result["datasets"]
    metrics = [(AggregatedMetricResult if "n_values" in m else MetricResult)(**m) for m in result["metrics"]]
    print_metrics_summary(metrics)
    for metric in metrics:
        values = getattr(metric, "values_raw", [metric.value])
        singles = [MetricResult(metric_type=metric.metric_type, value=v, params=metric.params) for v in values]
        (again,) = aggregate_results(singles)
        read.append([metric.metric_type.value, metric.value, metric.params, again.value, again.value_std_dev])
print()
print(json.dumps(read))
"""


def test_czbenchmarks_reads_prints_and_aggregates_every_result(demo):
    try:
        python = anchor_python()
    except AnchorUnavailable as reason:
        if os.environ.get("CELLGAUGE_REQUIRE_ANCHOR") == "1":
            raise
        pytest.skip(str(reason))
    exported = demo.parents[1] / "czbenchmarks.json"
    done = subprocess.run([python, "-c", READ, exported], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(exported.read_text())["task_results"]
    ours = [metric for result in results for metric in result["metrics"]]
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert [metric[:3] for metric in theirs] == [[m["metric_type"], m["value"], m["params"]] for m in ours]
    assert len({kind for kind, *_ in theirs}) == 13
    for metric, (*_, mean, deviation) in zip(ours, theirs, strict=True):
        assert mean == pytest.approx(metric["value"])
        assert deviation == pytest.approx(metric.get("value_std_dev"))
