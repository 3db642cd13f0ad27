"""A split that several jobs embed: the joined embedding is that of one job, byte for byte but for times and memory."""

import copy
from itertools import pairwise

import made_up
import numpy as np
import pytest
import tiny
from held import held
from hypothesis import given, settings
from hypothesis import strategies as st
from made_checkpoints import MAKE
from made_up import inputs_of

from cellgauge.core.errors import CellgaugeError, ContractError
from cellgauge.files.embedding import Embedding
from cellgauge.files.split import Split
from cellgauge.inference import device as device_module
from cellgauge.inference import windows
from cellgauge.inference.shards import join_shards, merged
from cellgauge.inference.windows import rows_of_shard
from cellgauge.models.base import adapter_names, embed_files, traits
from cellgauge.plan import paths
from cellgauge.plan.cost import jobs, read_costs

OPTIONS = {"uce": {"sample_size": 16}, "scgpt": {"max_length": 20}, "aido_cell": {"min_matched_genes": 0.01}}
every_family = pytest.mark.parametrize("family", MAKE)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {family: make(folder / family) for family, make in MAKE.items()}


def embed_both(folder, family, checkpoint, split, n_shards, **options):
    """Embed a split in one job and in shards; return both files."""
    about = {"weights": checkpoint, "model": "m", "options": {**OPTIONS.get(family, {}), **options}}
    whole, joined = folder / "whole.h5ad", folder / "joined.h5ad"
    embed_files(family, [split], whole, **about)
    shards = [folder / f"{number}.h5ad" for number in range(1, n_shards + 1)]
    for number, shard in enumerate(shards, 1):
        embed_files(family, [split], shard, shard=(number, n_shards), **about)
    join_shards(shards, split, joined, folder / "benchmark.tsv")
    return whole, joined


@settings(max_examples=300)
@given(st.integers(1, 10**8), st.integers(1, 2000))
def test_shards_hold_every_cell_and_are_cut_between_windows(n_cells, n_shards):
    parts = [rows_of_shard(n_cells, number, n_shards) for number in range(1, n_shards + 1)]
    assert parts[0].start == 0 and parts[-1].stop == n_cells
    assert all(part.start < part.stop and part.start % windows.WINDOW == 0 for part in parts)
    assert all(after.start <= before.stop for before, after in pairwise(parts))
    n_windows = -(-n_cells // windows.WINDOW)
    if n_shards <= n_windows:  # then no cell is embedded twice, and shards are as equal as windows allow
        assert all(after.start == before.stop for before, after in pairwise(parts))
        sizes = [-(-(part.stop - part.start) // windows.WINDOW) for part in parts]
        assert max(sizes) - min(sizes) <= 1


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_joined_shards_are_what_one_job_writes(checkpoints, tmp_path_factory, data):
    n_cells = data.draw(st.integers(3, 60), "cells")
    window = data.draw(st.integers(1, 25), "window")
    n_shards = data.draw(st.integers(1, 5), "shards")
    family = data.draw(st.sampled_from(["scgpt", "uce", "scvi"]), "family")
    folder = tmp_path_factory.mktemp("shards")
    split = tiny.split_file(folder, n_cells=n_cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "WINDOW", window)
        whole, joined = embed_both(folder, family, checkpoints[family], split, n_shards)
    assert held(joined) == held(whole)


@every_family
def test_every_family_embeds_shards_as_the_whole(checkpoints, tmp_path, monkeypatch, family):
    monkeypatch.setattr(windows, "WINDOW", 8)
    split = tiny.split_file(tmp_path, n_cells=50)
    data = Split.open(split).to_anndata()
    data.obs["n_counts"] = np.arange(50) + 40.0  # which Geneformer takes for totals, cell by cell
    data.write_h5ad(split)
    whole, joined = embed_both(tmp_path, family, checkpoints[family], split, 3)
    assert held(joined) == held(whole)
    uns = Embedding.read(joined).uns
    assert uns["cells_per_second"] > 0 and uns["wall_seconds"] > uns["network_seconds"] > 0
    header, values = (tmp_path / "benchmark.tsv").read_text().splitlines()
    assert header.split("\t") == ["s", "max_rss", "cpu_time"]
    assert [float(value) for value in values.split("\t")] == [
        uns[name] for name in ("wall_seconds", "peak_memory_mb", "cpu_seconds")
    ]


def test_cells_without_known_genes_move_no_window(checkpoints, tmp_path, monkeypatch):
    """They are rows of NaN, in a shard of nothing else too, and the other cells' mini-batches are as without shards."""
    data = tiny.published(n_cells=40)
    counts = data.X.toarray()
    counts[[1, 2, *range(16, 24)]] = 0
    counts[:, -1] = 3  # a gene that the model does not know
    data.X = type(data.X)(counts)
    split = tiny.split_file(tmp_path, n_cells=40)
    changed = Split.open(split).to_anndata()
    changed.X = data.X[:, : changed.n_vars].astype(np.float32)
    changed.var["feature_name"] = [*changed.var["feature_name"][:-1].astype(str), "UNKNOWN"]
    changed.write_h5ad(split)
    monkeypatch.setattr(windows, "WINDOW", 8)
    whole, joined = embed_both(tmp_path, "scgpt", checkpoints["scgpt"], split, 5)
    assert held(joined) == held(whole)
    assert Embedding.read(joined).uns["unembedded"] == 10


def test_the_splits_first_mini_batch_decides_for_every_shard(checkpoints, tmp_path, monkeypatch):
    """What precision serves is seen on the same cells, whichever shard a job has."""
    monkeypatch.setattr(windows, "WINDOW", 8)
    chosen = []
    choose = device_module.Network.choose
    monkeypatch.setattr(
        device_module.Network,
        "choose",
        lambda self, batch: (chosen.append(batch.rows.tolist()), choose(self, batch))[1],
    )
    split = tiny.split_file(tmp_path, n_cells=40)
    about = {"weights": checkpoints["scgpt"], "options": {"precision": "bf16"}}
    for number in (1, 2, 3):
        embed_files("scgpt", [split], tmp_path / f"{number}.h5ad", shard=(number, 3), **about)
    assert len(chosen) == 3 and chosen[0] == chosen[1] == chosen[2] and set(chosen[0]) <= set(range(8))
    deviations = {Embedding.read(tmp_path / f"{number}.h5ad").uns["fp32_max_deviation"] for number in (1, 2, 3)}
    assert len(deviations) == 1


def test_a_part_of_a_split_reads_as_its_cells(tmp_path):
    whole = Split.open(tiny.split_file(tmp_path, n_cells=50))
    part = whole.part(slice(17, 41))
    assert part.is_part and not whole.is_part and len(part.cells) == 24
    np.testing.assert_array_equal(part.column("label"), whole.column("label")[17:41])
    np.testing.assert_array_equal(part.counts().toarray(), whole.counts().toarray()[17:41])
    np.testing.assert_array_equal(part.library_sizes(), whole.library_sizes()[17:41])
    blocks = list(part.count_blocks(5, first=3, last=20))
    assert [start for start, _ in blocks] == [3, 8, 13, 18]
    np.testing.assert_array_equal(
        np.concatenate([block.toarray() for _, block in blocks]), whole.counts().toarray()[20:37]
    )
    assert part.to_anndata().obs_names.tolist() == whole.cells[17:41].tolist()


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("linear", {}),
        ("scgpt", {"random_stream": "official"}),
        ("uce", {"padding": "additive"}),
        ("uce", {"min_cells": 2}),
    ],
)
def test_cells_that_are_embedded_together_are_not_divided(checkpoints, tmp_path, family, options):
    about = {"weights": checkpoints.get(family), "options": options, "shard": (1, 2)}
    with pytest.raises(CellgaugeError, match="no shards"):
        embed_files(family, [tiny.split_file(tmp_path)], tmp_path / "e.h5ad", **about)


def test_adapters_that_are_fitted_to_their_cells_say_so():
    for name in adapter_names():
        about = traits(name)
        assert about.by_cell is None or (not about.fitted_on_split and about.scope == "split"), name


def test_shards_of_other_cells_are_refused(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW", 8)
    split = tiny.split_file(tmp_path, n_cells=40)
    shards = [tmp_path / f"{number}.h5ad" for number in (1, 2)]
    for number, shard in enumerate(shards, 1):
        embed_files("scvi", [split], shard, weights=checkpoints["scvi"], shard=(number, 2))
    with pytest.raises(ContractError, match=r"not cells 1 to 16 of split"):
        join_shards(shards[::-1], split, tmp_path / "e.h5ad")
    with pytest.raises(CellgaugeError, match="no shard 3 of 2"):
        embed_files("scvi", [split], tmp_path / "e.h5ad", weights=checkpoints["scvi"], shard=(3, 2))


def test_facts_of_shards_add_up():
    first = {"precision": "bf16", "cells_per_second": 10.0, "network_seconds": 30.0, "cells_of_unknown_assay": 2}
    first |= {"peak_memory_mb": 5.0, "fp32_min_cosine": 0.9999, "device": "cuda:0", "unembedded": 1}
    second = first | {
        "cells_per_second": 40.0,
        "network_seconds": 10.0,
        "cells_of_unknown_assay": 2,
        "device": "cuda:1",
    }
    second |= {"peak_memory_mb": 7.0, "fp32_min_cosine": 0.99995, "kernels_that_failed": "compiled: no compiler"}
    assert merged([first, second], "here") == {
        "precision": "bf16",
        "cells_per_second": 17.5,
        "network_seconds": 40.0,
        "cells_of_unknown_assay": 4,
        "peak_memory_mb": 7.0,
        "fp32_min_cosine": 0.9999,
        "device": "cuda:0, cuda:1",
        "kernels_that_failed": "compiled: no compiler",
    }
    with pytest.raises(CellgaugeError, match="`precision` is bf16, tf32"):
        merged([first, second | {"precision": "tf32"}], "split a of b")
    with pytest.raises(CellgaugeError, match="`not_applicable` is no genes, nothing"):
        merged([first | {"not_applicable": "no genes"}, second], "split a of b")


# --- planning --------------------------------------------------------------------------------------------------------


def planned(shard_cells, n_cells=100_000, models=("scgpt_human", "uce_33l", "uce_4l_reference", "linear")):
    config = copy.deepcopy(made_up.configuration())
    splits = {"lung": {"value": "Lung", "n_cells": n_cells}, "liver": {"value": "Liver", "n_cells": 3000}}
    entry = {"modality": "expression", "organism": "human", "url": "atlas.h5ad", "split_by": "tissue", "splits": splits}
    config["datasets"]["mine"] = {**entry, "columns": {"label": "cell_type", "ensembl": "index"}}
    config["run"] |= {"models": list(models), "datasets": ["mine"], "tasks": ["clustering"], "seeds": [42, 7]}
    config["run"] |= {"also": [], "profiles": ["corrected"], **({"shard_cells": shard_cells} if shard_cells else {})}
    return inputs_of(config)


@settings(max_examples=15, deadline=None)
@given(st.integers(2048, 300_000), st.integers(2048, 2_000_000))
def test_a_split_of_more_cells_is_divided_into_the_fewest_shards(shard_cells, n_cells):
    inputs = planned(shard_cells, n_cells)
    large = [job for job in inputs.divided.values() if job.split == "lung"]
    assert {job.model for job in large} == (
        {"scgpt_human", "scgpt_human@7", "uce_33l", "uce_33l@7"} if n_cells > shard_cells else set()
    )
    assert all((job.n_shards - 1) * shard_cells < n_cells <= job.n_shards * shard_cells for job in large)
    assert len({job.name for job in inputs.divided.values()}) == len(inputs.divided)
    made_by_one = {path for job in inputs.shared_jobs for path in job.each(paths.EMBEDDING)}
    assert not made_by_one & {*inputs.divided}
    cell = next(cell for cell in inputs.grid.cells if (cell.model, cell.split) == ("scgpt_human", "lung"))
    shards = [result for rule, result, _ in inputs.jobs(cell) if rule == "embed_shard"]
    assert len(shards) == len(set(shards)) == (large[0].n_shards if large else 0)


def test_costs_sum_over_shards():
    costs = read_costs()
    whole, divided = (
        [job for job in jobs(planned(most), costs, 1) if job.stage == "embed" and job.model == "scgpt_human"]
        for most in (None, 10_000)
    )
    assert (len(whole), len(divided)) == (2, 12)
    gpu_hours = [sum(job.gpu_hours for job in of_run) for of_run in (whole, divided)]
    assert gpu_hours[1] == pytest.approx(gpu_hours[0], rel=1e-3)
    join = next(job for job in divided if job.result.startswith("results/embeddings/") and "lung" in job.result)
    assert join.gpu_hours == 0 and 0 < join.cpu_hours < 0.1


def test_a_split_of_unknown_size_is_named():
    inputs = planned(10_000, n_cells=None)
    with pytest.raises(CellgaugeError, match=r"how many cells split 'lung' of dataset 'mine' has; write `n_cells`"):
        _ = inputs.divided
    assert planned(None, n_cells=None).divided == {}
