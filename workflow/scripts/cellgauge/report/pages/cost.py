"""Cost: the time and memory that each model's jobs took, as Snakemake measured them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cellgauge.report.charts import bar
from cellgauge.report.pages import Page
from cellgauge.report.tradeoffs import bargains, devices, or_none
from cellgauge.results.entries import Entry
from cellgauge.results.numbers import seconds
from cellgauge.results.read import Tables

if TYPE_CHECKING:
    import pandas as pd

STAGES = {"embed": "embedding", "neighbors": "neighbors", "score": "scoring", "predict": "prediction"}


def pages(tables: Tables) -> Iterator[Page]:
    """Yield the page, unless nothing was measured."""
    costs = list(_costs(tables))
    if costs:
        known = {cost["devices"] for cost in costs} - {""}
        context = {"costs": costs, "bargains": list(bargains(tables))}
        context |= {"known": bool(known), "on_gpu": bool(known - {"CPU"})}
        yield Page("cost", "Cost", "cost.html", context, ("dataset", "task", "model"))


def _costs(tables: Tables) -> Iterator[dict[str, Any]]:
    """Yield what the jobs of one model and stage on one dataset cost.

    Seconds are sums over the jobs, memory the highest peak of one of them in MiB; None where nothing was measured. `gpu_share`
    and `host_share` are the shares of the network's seconds in which the GPU computed, and in which it waited for cells.
    """
    groups = tables.runtime.groupby(["model", "stage", "task", "dataset"], sort=False)
    totals = [(key, rows, or_none(rows["cpu_seconds"].sum(min_count=1))) for key, rows in groups]
    highest = {
        stage: max((cpu for (_, s, _, _), _, cpu in totals if s == stage and cpu is not None), default=0.0)
        for stage in dict.fromkeys(tables.runtime["stage"])
    }
    order = {name: place for place, name in enumerate(tables.models)}
    for (model, stage, task, dataset), rows, cpu in sorted(totals, key=lambda item: order.get(item[0][0], len(order))):
        yield dict(
            model=tables.models.get(model) or Entry(model, model),
            dataset=dataset,
            stage=STAGES.get(stage, stage),
            task=task,
            jobs=len(rows),
            seconds=or_none(rows["seconds"].sum(min_count=1)),
            cpu_seconds=cpu,
            memory=or_none(rows["max_rss_mb"].max()),
            devices=devices(rows),
            gpu_seconds=or_none(rows["gpu_seconds"].sum(min_count=1)),
            gpu_memory=or_none(rows["max_gpu_mb"].max()),
            precisions=", ".join(dict.fromkeys(filter(None, rows["precision"]))),
            **_rates(rows),
            picture=bar(cpu, highest[stage], alt=f"{seconds(cpu)} CPU seconds") if cpu is not None else "",
        )


def _rates(rows: pd.DataFrame) -> dict[str, float | None]:
    """Return the rates and shares of `Cost` over some jobs of a GPU, each job by the seconds that its network ran."""
    timed = rows[rows["network_seconds"].notna() & rows["gpu_seconds"].notna()]
    seconds = timed["network_seconds"]
    totals = {
        "cells_per_second": timed["cells_per_second"] * seconds,
        "tokens_per_second": timed["tokens_per_second"] * seconds,
        "gpu_share": timed["gpu_seconds"],
        "host_share": timed["host_wait_seconds"].fillna(0),
    }
    return {name: float(total.sum() / seconds.sum()) if len(timed) else None for name, total in totals.items()}
