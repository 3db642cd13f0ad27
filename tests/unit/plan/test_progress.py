"""The progress of a run: the time left is right where costs are, whatever the machine's speed, in at most nine lines."""

import logging
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import configuration, inputs_of
from snakemake_interface_logger_plugins.common import LogEvent

from cellgauge.plan.progress import LEAST_SECONDS, Progress, duration, expected_seconds, forecast, is_news


class Log(logging.Logger):
    """A logger that keeps what is written, and hands records on as Snakemake's does."""

    def __init__(self):
        super().__init__("made up")
        self.lines = []
        self.addFilter(self.keep)

    def keep(self, record):
        if not hasattr(record, "job_id"):
            self.lines.append(record.getMessage())
        return True

    def finish(self, job):
        self.info("finished", extra={"event": LogEvent.JOB_FINISHED, "job_id": job})


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=60), st.floats(0.1, 10))
def test_the_time_left_is_the_work_left_at_the_speed_so_far(seconds, slowness):
    now, log = 0.0, Log()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cellgauge.plan.progress.monotonic", lambda: now)
        Progress(log, dict(enumerate(seconds)))
        for job, length in enumerate(seconds):
            now += slowness * length
            n_lines = len(log.lines)
            log.finish(job)
            if len(log.lines) > n_lines:
                left = slowness * sum(seconds[job + 1 :])
                assert log.lines[-1].startswith(f"{job + 1} of {len(seconds)} jobs done, ")
                said = re.search("about (.*) left$", log.lines[-1])[1]
                assert said in {duration(left * factor) for factor in (1 - 1e-9, 1, 1 + 1e-9)}
    assert len(log.lines) <= 9
    if max(seconds[:-1]) < sum(seconds) / 10 and seconds[-1] < sum(seconds) / 10:
        assert len(log.lines) == 9


def test_a_job_counts_once_and_strangers_do_not():
    log = Log()
    Progress(log, {1: 1.0, 2: 1.0})
    for job in (7, 1, 1):
        log.finish(job)
    assert log.lines == ["1 of 2 jobs done, 50% of the work; about 1 s left"]


def test_a_line_a_job_is_all_that_is_shown():
    records = [logging.makeLogRecord({"msg": "text", "event": event}) for event in LogEvent]
    hidden = {record.event for record in records if not is_news(record)}
    assert hidden == {LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.PROGRESS}
    assert not is_news(logging.makeLogRecord({"msg": "Select jobs to execute..."}))


def test_jobs_take_what_the_table_of_costs_says():
    inputs = inputs_of(configuration({"run": {"models": ["linear"], "datasets": ["baron_pancreas"]}}))
    score = next(cell.path for cell in inputs.grid.cells if cell.task == "label_prediction")
    seconds = expected_seconds(inputs, {1: [score], 2: ["results/tables/scores.csv"], 3: []})
    assert seconds[1] > seconds[2] == seconds[3] == LEAST_SECONDS


def test_the_forecast_is_bound_by_the_longest_job():
    assert forecast({1: 60, 2: 30, 3: 30}, 2) == "3 jobs: about 2 min of work, 60 s on 2 cores; downloads come on top"
    assert forecast({1: 7200, 2: 60}, 8) == "2 jobs: about 2.0 h of work, 2.0 h on 8 cores; downloads come on top"
    assert (
        forecast({1: 60}, sys.maxsize) == forecast({1: 60}, None) == "1 jobs: about 60 s of work; downloads come on top"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (120, "2 min"), (5400, "1.5 h"), (36e4, "100 h")]
)
def test_a_time_is_said_as_people_do(seconds, text):
    assert duration(seconds) == text
