"""The table of what would run: every job is counted once, under its stage and its reason in short."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import configuration, inputs_of

from cellgauge.plan.planned import PlannedJob, table

OLD = "{'core/atomic.py': '7fa7f97b', 'core/errors.py': 'b9b30bed'}"
NEW = OLD.replace("7fa7f97b", "1fa7f97b")
PARAMS = "Params have changed since last execution: Union of exclusive params before and now across all output: "
REASONS = {
    "Missing output files: a.tsv": "new",
    "Missing output files: a.tsv; Input files updated by another job: b.h5ad": "new",
    "Input files updated by another job: b.h5ad": "input changed",
    "Updated input files: b.h5ad": "input changed",
    "Set of input files has changed since last execution": "input changed",
    "Incomplete output files: a.tsv": "interrupted",
    "Forced execution": "forced",
    f"{PARAMS}before: {OLD} now: {NEW} ": "code changed",
    f"{PARAMS}before: {OLD},'0a1b2c3d' now: {NEW},'3d2c1b0a' ": "code changed",
    f"{PARAMS}before: '{{\"seed\": 1}}' now: '{{\"seed\": 2}}' ": "options changed",
    f"{PARAMS}before: {OLD},'{{\"seed\": 1}}' now: '{{\"seed\": 2}}',{NEW} ": "options changed",
    f"{PARAMS}before: <nothing exclusive> now: {NEW} ": "code changed",
    "Software environment definition has changed since last execution": "environment changed",
}
INPUTS = inputs_of(configuration({"run": {"models": ["linear"], "datasets": ["baron_pancreas"]}}))

a_job = st.builds(
    PlannedJob,
    st.sampled_from(["split", "embed", "score", "tables"]),
    st.fixed_dictionaries({}, optional={"model": st.sampled_from("abcde"), "dataset": st.just("d")}),
    st.just(["a.tsv"]),
    st.sampled_from(sorted(REASONS)),
)


@pytest.mark.parametrize(("reason", "short"), REASONS.items())
def test_a_reason_in_short(reason, short):
    assert PlannedJob("score", {}, [], reason).short_reason == short


@given(st.lists(a_job, max_size=50))
def test_every_job_is_counted_once_under_its_stage_and_reason(jobs):
    _, *rows, total = table([*jobs, PlannedJob("all", {}, [], "")], INPUTS)
    counts = Counter()
    for row in rows:
        stage, n_jobs, *_ = row.split()
        counts[stage, row[26:46].strip()] += int(n_jobs)
    assert counts == Counter((job.rule, job.short_reason) for job in jobs)
    assert total.split() == ["all", str(len(jobs))]


def test_up_to_three_names_are_said_and_more_are_counted():
    jobs = [PlannedJob("embed", {"model": name, "dataset": "d"}, ["a"], "Missing output files: a") for name in "abcd"]
    assert "a + b + c, d" in list(table(jobs[:3], INPUTS))[1]
    assert "4 models, d" in list(table(jobs, INPUTS))[1]


def test_jobs_of_several_splits_are_jobs_of_embed():
    shared = inputs_of(
        configuration(
            {"models": {"linear": {"splits_per_job": 2}}, "run": {"models": ["linear"], "datasets": ["baron_pancreas"]}}
        )
    )
    (job,) = shared.shared_jobs
    rows = list(table([PlannedJob(job.name, {}, ["a"], "Missing output files: a")], shared))
    assert rows[1].split() == ["embed", "1", "new", "linear,", "baron_pancreas"]
