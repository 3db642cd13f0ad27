"""How far a run is and how long it will take: a line at each tenth of its work, by the costs of its jobs."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Collection, Mapping
from time import monotonic
from typing import TYPE_CHECKING

from cellgauge.plan.cost import CELLS, jobs, read_costs

if TYPE_CHECKING:
    from cellgauge.plan.inputs import Inputs

LEAST_SECONDS = 2.0
"""What every job takes beside its costs: the start of a process."""


class Progress(logging.Handler):
    """A handler of Snakemake's log that says at each tenth of the work how much is done and how much time is left.

    Time left is the time since the start, scaled by the work left over the work done: how fast the machine is and how many
    jobs run at once need not be known.
    """

    def __init__(self, log: logging.Logger, seconds: Mapping[int, float]) -> None:
        """Start the clock, and leave out of what Snakemake shows what this says in fewer lines; its log file keeps all.

        Args:
            log: Snakemake's logger, which is written to.
            seconds: what each job is expected to take, by the job's number.
        """
        super().__init__()
        self._log, self._begin = log, monotonic()
        self._left, self._n, self._total, self._tenths = dict(seconds), len(seconds), sum(seconds.values()), 0
        for handler in log.handlers:
            if handler.name == "DefaultStreamHandler":
                handler.addFilter(is_news)
        log.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Count a job that has finished."""
        if self._left.pop(getattr(record, "job_id", -1), None) is None or not self._left:
            return
        left = sum(self._left.values()) / self._total
        tenths = int(10 * (1 - left))
        if tenths > self._tenths:
            self._tenths = tenths
            time_left = duration((monotonic() - self._begin) * left / (1 - left))
            done = self._n - len(self._left)
            self._log.info(f"{done} of {self._n} jobs done, {1 - left:.0%} of the work; about {time_left} left")


def is_news(record: logging.LogRecord) -> bool:
    """Return whether a message is more than that jobs are chosen, started, or finished: one line a job says what it does."""
    from snakemake_interface_logger_plugins.common import LogEvent

    steps = (LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.PROGRESS)
    return getattr(record, "event", None) not in steps and record.msg != "Select jobs to execute..."


def expected_seconds(inputs: Inputs, outputs: Mapping[int, Collection[str]]) -> dict[int, float]:
    """Return the seconds that each job is expected to take by config/costs.yaml, by its number.

    Args:
        outputs: the paths that each job makes, by its number.
    """
    hours = {job.result: job.gpu_hours or job.cpu_hours for job in jobs(inputs, read_costs(), CELLS)}
    known = {path: 3600 * value for path, value in hours.items() if not math.isnan(value)}
    return {job: LEAST_SECONDS + sum(known.get(path, 0) for path in paths) for job, paths in outputs.items()}


def forecast(seconds: Mapping[int, float], cores: int | None) -> str:
    """Return a sentence on a run before it starts: its jobs, their work, and the time that it takes on `cores`, if known."""
    total, longest = sum(seconds.values()), max(seconds.values(), default=0)
    wall = f", {duration(max(total / cores, longest))} on {cores} cores" if cores and cores < sys.maxsize else ""
    return f"{len(seconds)} jobs: about {duration(total)} of work{wall}; downloads come on top"


def duration(seconds: float) -> str:
    """Return a time as people say it, rounded: "40 s", "12 min", "3.5 h"."""
    for limit, unit, size in ((90, "s", 1), (90 * 60, "min", 60)):
        if seconds < limit:
            return f"{max(1, round(seconds / size))} {unit}"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"
