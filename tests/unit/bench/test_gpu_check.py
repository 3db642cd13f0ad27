"""`make gpu-check`: the check gets over steps that fail, counts right, and goes through all steps on the CPU."""

import importlib
import json
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import random as random_sparse

from cellgauge.files.split import Split
from cellgauge.plan.sources import SCRIPTS

ROOT = SCRIPTS.parents[1]


@pytest.fixture
def load(monkeypatch):
    """Return a function that imports a program of bench/."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "bench"), *sys.path])
    return importlib.import_module


def counts_of(n_cells, n_genes):
    """Return counts of cells that each express the first and half of the other genes."""
    counts = random_sparse(n_cells, n_genes, 0.5, format="lil", dtype=np.float32, random_state=0)
    counts[:, 0] = 1
    counts = counts.tocsr()
    counts.data = np.ceil(9 * counts.data)
    return counts


# --- the steps --------------------------------------------------------------------------------------------------------

STEP = """
import subprocess, sys, time
from pathlib import Path
lines = Path(sys.argv[sys.argv.index("--lines") + 1])
if sys.argv[1] == "machine":
    lines.write_text('{"kind": "machine", "card": "a card"}\\n')
elif sys.argv[1] == "golden":
    lines.write_text('{"kind": "golden", "family": "scgpt"}\\n{"kind": "golden", "fam')
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(sys.argv[sys.argv.index("--scratch") + 1], "child").write_text(str(child.pid))
    time.sleep(60)
else:
    raise RuntimeError("Boom")
"""


def test_steps_that_fail_or_take_too_long_cost_their_own_results_alone(load, tmp_path, monkeypatch):
    gpu_check = load("gpu_check")
    (tmp_path / "step.py").write_text(STEP)
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(gpu_check, "STEPS_FILE", tmp_path / "step.py")
    children = []
    write = gpu_check.Check.write

    def note_the_child(run):
        children.extend(int(path.read_text()) for path in run.scratch.glob("child"))
        write(run)

    monkeypatch.setattr(gpu_check.Check, "write", note_the_child)
    steps = [gpu_check.Step((name,), seconds) for name, seconds in (("golden", 6), ("tests", 60), ("machine", 60))]
    run = gpu_check.check(tmp_path / "folder", tmp_path / "out" / "gpu.json", 5, rehearse=False, steps=steps)
    assert [row["status"] for row in run.done] == ["stopped after 6 s", "failed (exit 1)", "done"]
    result = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert result["machine"] == [{"card": "a card"}] and result["golden"] == [{"family": "scgpt"}]
    assert "Boom" in result["steps"][1]["log"]
    deadline = time.monotonic() + 20  # a killed process is gone once its parent's parent has taken note
    while _runs(children[0]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _runs(children[0])


def _runs(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_no_step_begins_once_the_time_is_up(load, tmp_path):
    gpu_check = load("gpu_check")
    (tmp_path / "folder").mkdir()
    step = gpu_check.Step(("machine",), 60)
    run = gpu_check.check(tmp_path / "folder", tmp_path / "gpu.json", 0.01, rehearse=True, steps=[step])
    assert [row["status"] for row in run.done] == ["no time was left"]


def test_packages_that_lack_or_are_of_another_major_release_are_unpacked(load, tmp_path):
    gpu_check = load("gpu_check")
    major = int(np.__version__.partition(".")[0])
    for name in (f"numpy-{np.__version__}", f"numpy-{major + 1}.0", "nobody_has_this-1.0"):
        with zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.txt", "")
    unpacked = gpu_check.unpack_wheels(tmp_path, tmp_path / "site")
    names = sorted(path.stem for path in (tmp_path / "site").iterdir())
    assert names == ["nobody_has_this-1.0", f"numpy-{major + 1}.0"] and len(unpacked) == 2


# --- what they count --------------------------------------------------------------------------------------------------


def of_all_layers(shape, tokens):
    """Return the operations of the whole network: every layer for every token and pair."""
    return shape.layers * (2 * tokens * shape.products + 4 * tokens**2 * shape.width)


def test_operations_of_a_layer_are_those_that_pytorch_counts(load):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    gpu_steps = load("gpu_steps")
    width, hidden, tokens = 32, 48, 20
    layer = torch.nn.TransformerEncoderLayer(width, 4, hidden, batch_first=True).train()  # not in one fused call
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(1, tokens, width))
    shape = gpu_steps._post_norm(1, width, hidden)
    assert of_all_layers(shape, tokens) == counter.get_total_flops()
    three, two = (gpu_steps._post_norm(n, width, hidden) for n in (3, 2))
    assert three.flop(tokens) - two.flop(tokens) == counter.get_total_flops()
    assert shape.flop(tokens) == 2 * tokens * 2 * width**2  # of the last layer: keys and values


@pytest.mark.parametrize(
    ("family", "tokens", "gflop"),  # of the published networks, counted by hand
    [("scgpt", 1180, 78.8), ("uce", 1075, 192.8), ("geneformer", 4096, 566.9), ("aido_cell", 19_266, 1183.8)],
)
def test_operations_of_the_published_networks(load, family, tokens, gflop):
    shape = load("gpu_steps").FAMILIES[family].shape
    assert of_all_layers(shape, tokens) / 1e9 == pytest.approx(gflop, rel=1e-3)
    assert shape.flop(tokens) <= of_all_layers(shape, tokens)


def test_samples_of_nvidia_smi_are_taken_between_two_times(load):
    gpu_steps = load("gpu_steps")
    watch = gpu_steps.Utilization("cpu")
    assert watch.between(0, 1e12) == {}
    lines = ["2026/11/27 08:00:00.000, 0", "2026/11/27 08:00:00.100, 50", "2026/11/27 08:00:00.200, 100"]
    lines += ["2026/11/27 08:00:00.300", "cut sho", "2026/11/27 08:00:00.400, [N/A]"]
    watch._text += "\r\n".join(lines).encode()
    times = [at for at, _ in watch.samples(watch._text.decode())]
    assert len(times) == 3 and times[2] - times[0] == pytest.approx(0.2)
    means = watch.between(times[1], times[2] + 10)
    assert means == {"smi_busy": 0.75, "smi_samples": 2}


def test_cells_are_repeated_in_their_order(load, tmp_path):
    gpu_steps = load("gpu_steps")
    real_size = load("real_size")
    counts = counts_of(5, 30)
    real_size.write_split_of(tmp_path / "base.h5ad", counts, [f"S{i}" for i in range(30)])
    base = Split.open(tmp_path / "base.h5ad")
    gpu_steps.repeat_cells(tmp_path / "base.h5ad", tmp_path / "twelve.h5ad", 12)
    split = Split.open(tmp_path / "twelve.h5ad")
    assert split.name == "twelve" and (len(split.cells), len(split.genes)) == (12, 30)
    assert split.cells.tolist() == [f"cell{row}" for row in range(12)]
    assert (split.symbols == base.symbols).all() and (split.genes == base.genes).all()
    expected = base.counts().toarray()[np.arange(12) % 5]
    np.testing.assert_array_equal(split.counts().toarray(), expected)
    np.testing.assert_array_equal(split.to_anndata().X.toarray(), expected)
    assert set(split.column("assay")) == {real_size.ASSAY}


# --- the tables -------------------------------------------------------------------------------------------------------


def result(**changes):
    return {
        "format": 1,
        "date": "2026-11-27",
        "cellgauge": "abc",
        "rehearsal": False,
        "machine": [{"card": "NVIDIA X", "torch": "2.11", "driver": "1", "cpu_cores": 16, "bf16_tflops": 800.0}],
        "arithmetic": [{"family": "scgpt", "gflop_per_cell": 80.0}],
        "speed": [
            {"family": "scgpt", "title": "scGPT", "run": "host", "cells_per_second": 9000.0},
            {
                **{"family": "scgpt", "title": "scGPT", "run": "bf16", "precision": "bf16", "smi_busy": 0.75},
                **{"cells_per_second": 5000.0, "peak_gpu_memory_mb": 1234.5},
            },
            {"family": "uce", "title": "UCE", "run": "bf16", "error": "RuntimeError: Boom"},
        ],
        "deviation": [{"family": "scgpt", "run": "bf16", "lowest_cosine": 0.99995}],
        "official": [{"family": "scgpt", "precision": "bf16", "cells": 9, "seconds_per_cell": 0.002}],
        "steps": [{"step": "memory", "seconds": 3, "status": "failed (exit 1)"}],
        **changes,
    }


def test_a_line_of_the_table(load):
    gpu_table = load("gpu_table")
    line = dict(zip(gpu_table.COLUMNS, *gpu_table.speeds(result()), strict=True))
    assert line == {
        "model": "scGPT",
        "precision": "bf16",
        "cells/s": "5,000",
        "share of peak": "50%",  # 5,000 x 80 GFLOP are 400 TFLOP/s of 800
        "GPU waits": "25%",
        "host alone, cells/s": "9,000",
        "peak MB": "1,234",
        "lowest cosine with fp32": "0.999950",
        "official, cells/s": "500.0",
        "ratio": "10.0",
    }


def test_what_was_not_measured_is_said(load):
    gpu_table = load("gpu_table")
    failures = "Not measured: memory: failed (exit 1); speed uce UCE bf16: RuntimeError: Boom."
    assert failures in gpu_table.card(result())
    assert "Not measured" not in gpu_table.card(result(speed=[], steps=[]))


def test_the_page_holds_what_the_files_of_cards_say(load, tmp_path):
    gpu_table = load("gpu_table")
    page = gpu_table.PAGE.read_text(encoding="utf-8")
    assert gpu_table.page(page, gpu_table.CARDS.glob("*.json")) == page, "run `make docs`"
    assert gpu_table.section([]) == gpu_table.NEVER
    for name, changes in (("x", {}), ("rehearsal", {"rehearsal": True, "machine": [{"card": "nobody's"}]})):
        (tmp_path / f"{name}.json").write_text(json.dumps(result(**changes)))
    text = gpu_table.page(page, tmp_path.glob("*.json"))
    assert "#### NVIDIA X" in text and "Never run" not in text and "nobody's" not in text
    assert gpu_table.page(text, ()) == gpu_table.page(page, ())


@pytest.mark.parametrize("family", ["aido_cell", "geneformer", "scvi", "transcriptformer", "uce"])
def test_golden_cases_are_of_the_cells_that_the_official_vectors_have(load, tmp_path, family):
    case = load("gpu_golden").CASES[family](tmp_path)
    assert len(case.expected) == np.arange(len(Split.open(case.split).cells))[case.rows].size
    assert case.weights.is_dir()


def test_every_family_has_a_golden_case(load):
    assert set(load("gpu_golden").CASES) >= set(load("bench_models").BENCHES) | {"scvi", "scgenept"}


# --- all of it --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_whole_check_is_rehearsed_on_the_cpu(load, tmp_path):
    """All steps, with one of the families, as `--rehearse` runs them."""
    gpu_bundle, gpu_check = load("gpu_bundle"), load("gpu_check")
    folder = tmp_path / "folder"
    counts, symbols = counts_of(20, 300), [f"S{i}" for i in range(300)]
    gpu_bundle.write_cells(folder / "cells", counts, symbols, {"plain": 10})
    left_out = [family for family in gpu_check.FAMILIES if family != "scgpt"]
    steps = [step for step in gpu_check.STEPS if not set(step.arguments) & {*left_out, "compiled"}]
    assert [str(step) for step in steps] == ["machine", "golden", "family scgpt", "memory", "tests", "scoring gpu"]
    steps[1] = gpu_check.Step(("golden", "scgpt", "scgenept"), 90)  # a model that embeds, and one that predicts
    run = gpu_check.check(folder, tmp_path / "gpu.json", 15, rehearse=True, steps=steps)
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert not load("gpu_table").errors_of(written), run.done
    assert {row["run"] for row in written["speed"]} == {"host", "default", "fp32", "bf16"}
    assert all(row["lowest_cosine"] > 0.999 for row in written["golden"]) and len(written["golden"]) == 4
    assert {row["precision"] for row in written["official"]} == {"fp32", "bf16"}
    (against,) = written["against_official"]
    assert against["largest_difference"] < 1e-5 * against["largest_value"]
    assert written["tests"][0]["passed"] and not written["tests"][0]["failing"]
    assert len(written["scoring"]) == 16 and written["kernels"][0]["top"]
    assert written["memory"][0]["largest_difference"] < 1e-5
    assert "a rehearsal on the CPU" in load("gpu_table").summary(written)
