"""Two runs compared: luck is not called a change, a real change is; what was recorded to differ is listed."""

import json
from dataclasses import replace
from functools import cache
from itertools import combinations

import made_up
import numpy as np
import pytest
from effort import FUZZ_EXAMPLES

from cellgauge.files.embedding import write_embedding
from cellgauge.files.score import write_scores
from cellgauge.files.split import Split
from cellgauge.plan.manifest import catalogue
from cellgauge.plan.provenance import planned
from cellgauge.results import provenance
from cellgauge.results.changes import PublishedRun, compare_runs
from cellgauge.results.tables import collect
from cellgauge.tasks.run import score_files

N_CELLS, N_TYPES, N_DIMS = 200, 4, 8
N_RUNS, N_PAIRED, N_FOLDED = (20, 7, 5) if FUZZ_EXAMPLES else (6, 4, 3)
ENTRIES = {"fixed": {"adapter": "hvg", "title": "Fixed"}, "drawn": {"adapter": "scvi_trained", "title": "Drawn"}}


@cache
def base_configuration():
    return made_up.configuration()


def configuration(seeds, tasks, n_splits, models):
    splits = {f"part_{n}": f"my/part_{n}.h5ad" for n in range(n_splits)}
    dataset = {"modality": "expression", "organism": "human", "columns": {"label": "label"}, "splits": splits}
    run = {"models": models, "datasets": ["planted"], "tasks": tasks, "seeds": seeds, "profiles": ["corrected"]}
    config = base_configuration()
    parts = {"models": ENTRIES, "datasets": {"planted": dataset}, "run": run}
    return {**config, **{kind: {**config[kind], **entries} for kind, entries in parts.items()}}


class World:
    """Cells of a few types and donors, on which models are scored by the code of the jobs."""

    def __init__(self, folder, n_splits):
        self.folder, self.n_splits = folder, n_splits
        self.splits = [self._split(n) for n in range(n_splits)]
        self.n_runs = 0

    def _split(self, number):
        import anndata
        import pandas as pd
        from scipy.sparse import csr_matrix

        from cellgauge.data.make_split import make_split

        codes = np.repeat(np.arange(N_TYPES), N_CELLS // N_TYPES)
        obs = pd.DataFrame({"label": [f"type {c}" for c in codes], "donor": [f"donor {c % 6}" for c in range(N_CELLS)]})
        obs.index = [f"cell {n}" for n in range(N_CELLS)]
        counts = np.random.default_rng(number).poisson(1 + codes[:, None] % 2, (N_CELLS, 20)) + np.eye(1, 20)
        var = pd.DataFrame(index=[f"gene-{n}" for n in range(20)])
        published, path = self.folder / f"published_{number}.h5ad", self.folder / f"part_{number}.h5ad"
        anndata.AnnData(csr_matrix(counts.astype(np.float32)), obs, var).write_h5ad(published)
        options = {"label": "label", "donor": "donor", "organism": "human", "dataset": "planted", "symbol": "index"}
        make_split(published, path, {**options, "split": f"part_{number}"})
        return path

    def run(self, seed, tasks, *, models=("fixed",), apart=1.0, replicates=(), name=""):
        """Score models in a run of this seed; `apart` is how far the types of cells lie from each other."""
        self.n_runs += 1
        folder = self.folder / f"run_{self.n_runs}"
        inputs = made_up.inputs_of(configuration([seed, *replicates], tasks, self.n_splits, list(models)))
        for cell in inputs.grid.cells:
            split = self.splits[int(cell.split.removeprefix("part_"))]
            drawn = int(cell.model.partition("@")[2] or seed) if cell.model.startswith("drawn") else 0
            embedding = self._embedding(folder, cell, split, drawn, apart)
            rows = score_files(cell.task, [embedding], [split], seed=seed, profiles=["corrected"])
            about = {key: getattr(cell, key) for key in ("task", "model", "dataset", "split")}
            write_scores(folder / cell.path, [replace(row, **about) for row in rows])
        return publish(folder, inputs, name)

    def _embedding(self, folder, cell, split, seed, apart):
        centers = np.random.default_rng(int(cell.split.removeprefix("part_"))).normal(0, apart, (N_TYPES, N_DIMS))
        noise = np.random.default_rng([seed, int(cell.split.removeprefix("part_"))]).normal(size=(N_CELLS, N_DIMS))
        matrix = np.repeat(centers, N_CELLS // N_TYPES, axis=0) + noise
        path = folder / f"{cell.model}_{cell.split}.h5ad"
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = Split.open(split)
        about = {"model": cell.model, "dataset": "planted", "split": cell.split, "shared_space": True}
        write_embedding(path, matrix.astype(np.float32), opened.cells, [opened], about)
        return path


def publish(folder, inputs, name=""):
    about = provenance.record({**planned(inputs), **({"name": name} if name else {})})
    provenance.write(about, folder / provenance.FILE)
    collect(
        [folder / path for path in inputs.scores()],
        folder / "tables",
        benchmarks=folder / "benchmarks",
        catalogue=catalogue(inputs.grid),
        provenance=about,
    )
    return PublishedRun.read(folder)


def called(changes):
    return {(c.key["model"], c.key["metric"], c.verdict) for c in changes.scores if c.verdict in ("better", "worse")}


def edited(run, rows):
    return replace(run, scores=rows, rows=rows)


@pytest.fixture(scope="module")
def one_split(tmp_path_factory):
    return World(tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def six_splits(tmp_path_factory):
    return World(tmp_path_factory.mktemp("six"), 6)


@pytest.fixture(scope="module")
def base(one_split):
    return one_split.run(0, ["clustering"], models=("fixed", "drawn"))


@pytest.mark.fuzz
def test_runs_with_other_seeds_are_no_change(one_split, base):
    for seed in range(1, 1 + N_RUNS):
        changes = compare_runs(base, one_split.run(seed, ["clustering"], models=("fixed", "drawn")))
        assert called(changes) == set() and changes.scores
        drawn = [change for change in changes.scores if change.key["model"] == "drawn"]
        assert {change.verdict for change in drawn} <= {"not tested", "alike"}


@pytest.mark.fuzz
def test_a_model_that_draws_is_tested_over_splits(six_splits):
    runs = [six_splits.run(seed, ["clustering"], models=("drawn",)) for seed in range(N_PAIRED)]
    for one, other in combinations(runs, 2):
        changes = compare_runs(one, other)
        assert called(changes) == set() and any(
            change.units == "6 splits, donors" or change.units == "6 splits" for change in changes.scores
        )
    worse = compare_runs(runs[0], six_splits.run(8, ["clustering"], models=("drawn",), apart=0.4))
    assert ("drawn", "ari", "worse") in called(worse)


def test_seeds_of_a_model_tell_luck_from_change_on_one_split(one_split):
    def run(first, apart=1.0):
        return one_split.run(first, ["clustering"], models=("drawn",), replicates=(first + 1, first + 2), apart=apart)

    old = run(100)
    for first in (103, 106, 109, 112, 115):
        changes = compare_runs(old, run(first))
        assert called(changes) == set()
        assert {c.verdict for c in changes.scores if c.key["model"] == "drawn" and c.key["metric"] == "ari"} <= {
            "not significant",
            "alike",
        }
    assert ("drawn", "silhouette", "worse") in called(compare_runs(old, run(118, apart=0.1)))


def test_runs_of_other_splits_share_no_score(six_splits):
    run = six_splits.run(0, ["clustering"], models=("fixed",))
    halves = [
        edited(run, run.rows[run.rows["split"].isin(names)]) for names in (["part_0", "part_1"], ["part_2", "part_3"])
    ]
    changes = compare_runs(*halves)
    assert changes.scores == [] and not changes.n_identical and changes.added == changes.gone
    assert changes.summary.startswith("The runs have no score in common")


@pytest.mark.fuzz
def test_other_folds_are_no_change(one_split):
    runs = [one_split.run(seed, ["label_prediction"], models=("fixed",)) for seed in range(N_FOLDED)]
    for one, other in combinations(runs, 2):
        changes = compare_runs(one, other)
        assert called(changes) == set() and changes.scores


def test_a_worse_model_is_called(one_split, base):
    changes = compare_runs(base, one_split.run(0, ["clustering"], models=("fixed", "drawn"), apart=0.3))
    assert {("fixed", "ari", "worse"), ("fixed", "nmi", "worse"), ("fixed", "silhouette", "worse")} <= called(changes)
    back = compare_runs(one_split.run(0, ["clustering"], models=("fixed",), apart=0.3), base)
    assert ("fixed", "ari", "better") in called(back) and "beyond chance" in back.summary


def test_a_rerun_is_identical(one_split, base):
    again = compare_runs(base, one_split.run(0, ["clustering"], models=("fixed", "drawn")))
    assert again.identical and again.summary.endswith("identical to the last digit.")
    assert again.facts == {} and again.scores == []


def test_rounding_is_no_change(base):
    rows = base.rows.copy()
    ok = rows["status"] == "ok"
    rows.loc[ok, "value"] += 1e-7
    changes = compare_runs(base, edited(base, rows))
    assert not changes.identical and called(changes) == set()


def test_new_and_lost_scores_are_counted(base, one_split):
    alone = one_split.run(0, ["clustering"], models=("fixed",))
    lost, new = compare_runs(base, alone), compare_runs(alone, base)
    assert set(lost.gone) == set(new.added) == {("clustering", "planted", "drawn")}
    assert lost.gone == new.added and not lost.added and not new.gone


def test_what_was_recorded_is_listed(base):
    about = json.loads(json.dumps(base.about))
    about["code"]["score clustering"] = "changed"
    about["config"]["models"]["fixed"]["params"] = {"n_top_genes": 7}
    about["models"]["fixed"]["params"] = {"n_top_genes": 7}
    about["data"]["planted/part_0"]["sha256"] = "f" * 64
    rows = base.rows.assign(value=base.rows["value"] * 0.5)
    changes = compare_runs(base, replace(edited(base, rows), about=about))
    assert ("score clustering", base.about["code"]["score clustering"], "changed") in changes.facts["Code"]
    assert ("models.fixed.params.n_top_genes", "", "7") in changes.facts["Configuration"]
    assert changes.facts["Data"] == [("planted/part_0", "", "f" * 64)]
    fixed = next(change for change in changes.scores if change.key["model"] == "fixed")
    assert {"code of the task", "params of the model"} <= set(fixed.causes)


def test_scores_of_other_cells_are_not_compared(base):
    rows = base.rows.copy()
    rows.loc[rows["metric"] == "n_cells", "value"] += 5
    rows.loc[rows["metric"] == "ari", "value"] *= 0.5
    changes = compare_runs(base, edited(base, rows))
    assert called(changes) == set()
    assert {change.reason for change in changes.scores} == {"planted/part_0 has other cells"}
