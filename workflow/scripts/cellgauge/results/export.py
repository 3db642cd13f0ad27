"""What others read: leaderboards, results in the format of cz-benchmarks, tables as Parquet."""

from __future__ import annotations

import json
from pathlib import Path

from cellgauge.core.atomic import atomic_path
from cellgauge.files.spreadsheets import read_csv, write_csv
from cellgauge.results.leaderboards import LONG, latex, leaderboards, long_form, markdown
from cellgauge.results.read import Tables
from cellgauge.results.to_czbenchmarks import cz_results


def export(tables_dir: str | Path, output: str | Path) -> None:
    """Write leaderboards and tables as Parquet into `tables_dir`, and czbenchmarks.json into `output`; raise CellgaugeError
    where a table is missing or lacks a column.
    """
    import pandas as pd

    tables_dir, tables = Path(tables_dir), Tables.read(tables_dir)
    boards = list(leaderboards(tables))
    _write(tables_dir / "leaderboard.md", markdown(boards))
    _write(tables_dir / "leaderboard.tex", latex(boards))
    write_csv(pd.DataFrame(long_form(boards), columns=LONG), tables_dir / "leaderboard.csv")
    as_json = json.dumps(cz_results(tables), indent=1, ensure_ascii=False, allow_nan=False)
    _write(Path(output) / "czbenchmarks.json", as_json + "\n")
    for name in ("summary", "runtime", "models", "datasets"):
        with atomic_path(tables_dir / f"{name}.parquet") as temporary:
            read_csv(tables_dir / f"{name}.csv", typed=True).to_parquet(temporary, index=False)


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
