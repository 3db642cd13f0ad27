"""What Snakemake would run: the jobs of its own dry run, and a table of them with their reasons in short."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cellgauge.core.errors import CellgaugeError

if TYPE_CHECKING:
    from cellgauge.plan.inputs import Inputs

REASONS = {
    "Missing output files": "new",
    "Incomplete output files": "interrupted",
    "Forced execution": "forced",
    "Params have changed": "options changed",
    "Code has changed": "code changed",
    "Software environment definition has changed": "environment changed",
}
"""Beginnings of Snakemake's reasons and what the table calls them, the first that applies; all others are about inputs."""
CODE = re.compile(r"\{'[^{}]*\.py'[^{}]*\}|'[0-9a-f]{8}'")
"""How the params `code` and `code_digest` are written in a reason."""
KINDS = {"task": "tasks", "model": "models", "dataset": "data sets", "source": "sources"}
"""The wildcards that say what a job is about, and what many are called."""


class PlannedJob(NamedTuple):
    """A job that Snakemake would run, by its rule, with the reason that Snakemake gives."""

    rule: str
    wildcards: Mapping[str, str]
    outputs: Sequence[str]
    reason: str

    @property
    def short_reason(self) -> str:
        """The reason in one or two words."""
        parts = self.reason.split("; ")
        for beginning, short in REASONS.items():
            part = next((part for part in parts if part.startswith(beginning)), None)
            if part is not None:
                values = re.sub(r"^.*?before: | now: |,|<nothing exclusive>|\s", "", CODE.sub("", part))
                return "code changed" if beginning.startswith("Params") and not values else short
        return "input changed"


def planned_jobs(arguments: Sequence[str]) -> list[PlannedJob]:
    """Return the jobs that `snakemake --dry-run` with these arguments would run; what is up to date is none of them.

    Raises:
        CellgaugeError: Snakemake cannot plan the run; it has said why on stderr.
    """
    from snakemake.cli import args_to_api, parse_args
    from snakemake.logging import logger
    from snakemake_interface_logger_plugins.common import LogEvent

    jobs: list[PlannedJob] = []

    def collect(record: logging.LogRecord) -> bool:
        if getattr(record, "event", None) == LogEvent.JOB_INFO:
            facts = vars(record)
            jobs.append(PlannedJob(facts["rule_name"], facts["wildcards"], facts["output"], facts["reason"]))
        return record.levelno >= logging.WARNING

    parser, options = parse_args(["--dry-run", *arguments])
    logger.addFilter(collect)
    try:
        if not args_to_api(options, parser):
            raise CellgaugeError("Snakemake could not plan the run, see above")
    finally:
        logger.removeFilter(collect)
    return jobs


def table(jobs: Sequence[PlannedJob], inputs: Inputs) -> Iterator[str]:
    """Yield the lines of a table: how many jobs of each stage would run, why, and of which tasks, models and data."""
    of_rules = {job.name: ("embed", vars(job)) for job in inputs.shared_jobs}
    of_rules |= {job.name: ("join_shards", vars(job)) for job in inputs.divided.values()}
    rows: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for job in jobs:
        if job.outputs:  # all but the rule `all`, which does nothing
            stage, wildcards = of_rules.get(job.rule, (job.rule, job.wildcards))
            rows.setdefault((stage, job.short_reason), []).append(wildcards)
    yield f"{'stage':18}{'jobs':>6}  {'reason':20}of"
    for (stage, reason), of_jobs in rows.items():
        about = (_about(kind, {each[kind] for each in of_jobs if kind in each}) for kind in KINDS)
        yield f"{stage:18}{len(of_jobs):>6}  {reason:20}{', '.join(filter(None, about))}".rstrip()
    yield f"{'all':18}{sum(map(len, rows.values())):>6}"


def _about(kind: str, names: Collection[str]) -> str:
    """Return up to three names as they are, and how many there are of more."""
    return " + ".join(sorted(names)) if len(names) <= 3 else f"{len(names)} {KINDS[kind]}"
