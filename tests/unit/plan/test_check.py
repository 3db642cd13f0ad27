"""What is checked before the first job: the user's files, each through the code of the job that will read it."""

import importlib.util
import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_matrix, csr_matrix

from cellgauge.core.errors import CellgaugeError, run_cli
from cellgauge.data.make_split import SAMPLED, read_split
from cellgauge.plan import config as configuration
from cellgauge.plan.check import COLUMNS, FileCheck
from cellgauge.plan.grid import Grid
from cellgauge.plan.inputs import Inputs
from cellgauge.plan.sources import SCRIPTS

CONFIG = {
    "models": {"mine": {"adapter": "precomputed", "path": "mine/{split}.csv"}},
    "datasets": {
        "atlas": {
            "modality": "expression",
            "organism": "human",
            "url": "atlas.h5ad",
            "split_by": "tissue",
            "columns": {"label": "cell_type", "donor": "donor_id", "ensembl": "index", "symbol": "feature_name"},
            "splits": {"lung": {"value": "Lung"}},
        }
    },
    "run": {"models": ["linear", "mine"], "datasets": ["atlas"], "tasks": ["clustering"]},
}
SCREEN = {
    "models": {"mine": {"adapter": "precomputed_responses", "path": "mine/{dataset}.csv"}},
    "datasets": {
        "screen": {
            "modality": "perturbation",
            "organism": "human",
            "counts": "layers/counts",
            "expression": "X",
            "columns": {"label": "condition", "partition": "split", "ensembl": "index", "symbol": "feature_name"},
            "splits": {"k562": "screen.h5ad"},
        }
    },
    "run": {"models": ["no_change", "mine"], "datasets": ["screen"], "tasks": ["perturbation"]},
}


def cells() -> anndata.AnnData:
    return tiny.published(n_cells=60, n_genes=30)


def embedding(data: anndata.AnnData) -> pd.DataFrame:
    rows = np.random.default_rng(1).normal(size=(data.n_obs, 4))
    return pd.DataFrame(rows, index=data.obs_names, columns=[f"d{i}" for i in range(4)])


def user_folder(folder: Path, config: dict = CONFIG) -> Path:
    """Write an atlas, its embedding and mine.yaml, all as they should be."""
    (folder / "mine").mkdir(parents=True, exist_ok=True)
    cells().write_h5ad(folder / "atlas.h5ad")
    embedding(cells()).to_csv(folder / "mine/lung.csv")
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    return folder


def checked(folder: Path, monkeypatch, capsys, *more: str) -> tuple[int, str, list[str]]:
    """Run check_inputs.py in a folder of the user's; return its status, what it prints, and its errors."""
    spec = importlib.util.spec_from_file_location("check_inputs", SCRIPTS / "check_inputs.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["check_inputs.py", "--configfile", "mine.yaml", *more])
        capsys.readouterr()
        try:
            run_cli(script.main)
            status = 0
        except SystemExit as end:
            status = end.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err.splitlines()


def test_the_table_says_what_each_file_holds(tmp_path, monkeypatch, capsys):
    status, text, errors = checked(user_folder(tmp_path), monkeypatch, capsys)
    assert (status, errors) == (0, [])
    header, lung, mine, *_ = (line.split("  ") for line in text.splitlines())
    assert [part.strip() for part in header if part] == list(COLUMNS)
    data = cells()[cells().obs["tissue"] == "Lung"]
    labels = data.obs["cell_type"].value_counts()
    assert {f"{data.n_obs} cells x 30 genes", "4", "whole numbers in X", "human (as its genes)"} <= set(
        map(str.strip, lung)
    )
    assert lung[-1].strip() == "3: " + ", ".join(f"{name} {count}" for name, count in labels.items())
    assert {"mine on atlas/lung", "mine/lung.csv", "4 dimensions", f"{data.n_obs} of {data.n_obs} cells"} <= set(
        map(str.strip, mine)
    )


def test_a_screen_and_predicted_responses(tmp_path, monkeypatch, capsys):
    folder = user_folder(tmp_path, SCREEN)
    data = tiny.screen()
    data.write_h5ad(folder / "screen.h5ad")
    names = [name for name, part in tiny.PARTS.items() if part == "test"]
    mean = np.asarray(data.X.mean(axis=0)).ravel()
    frame = pd.DataFrame([mean] * len(names), index=names, columns=data.var["feature_name"])
    frame.iloc[:-1].to_csv(folder / "mine/screen.csv", index_label="condition")
    status, text, errors = checked(folder, monkeypatch, capsys)
    assert (status, errors) == (0, [])
    assert f"{len(names) - 1} of {len(names)} test conditions" in text and "40 genes of the screen's 40" in text
    assert "whole numbers in layers/counts" in text and "11: ctrl " in text
    frame.iloc[1, 3] = np.inf
    frame.to_csv(folder / "mine/screen.csv", index_label="condition")
    status, _, errors = checked(folder, monkeypatch, capsys)
    assert status == 1 and len(errors) == 1 and "the prediction contains a value that is not finite" in errors[0]
    frame.rename(columns=lambda gene: f"no {gene}").to_csv(folder / "mine/screen.csv", index_label="condition")
    status, _, errors = checked(folder, monkeypatch, capsys)
    assert status == 1 and errors[0].startswith("error: models.mine: mine/screen.csv: none of its columns")


# --- one thing wrong --------------------------------------------------------------------------------------------------


def atlas_fault(change):
    """Return a function that writes the atlas after a change of it."""

    def write(folder: Path, draw: int) -> None:
        data = cells()
        (change(data, draw) or data).write_h5ad(folder / "atlas.h5ad")

    return write


def table_fault(change):
    """Return a function that writes the embedding after a change of its text or its table."""

    def write(folder: Path, draw: int) -> None:
        frame = embedding(cells()[cells().obs["tissue"] == "Lung"])
        written = change(frame, draw)
        (folder / "mine/lung.csv").write_text(written if isinstance(written, str) else written.to_csv())

    return write


def _set(data, **values):
    for name, value in values.items():
        setattr(data, name, value)


def _relabel(data, draw):
    data.obs["tissue"] = ["lungs", "Lung.", "pancreas"][draw % 3]


def _cut(folder: Path, draw: int) -> None:
    whole = (folder / "atlas.h5ad").read_bytes()
    (folder / "atlas.h5ad").write_bytes(whole[: draw % len(whole)])


def _missing_label(data, draw):
    labels = data.obs["cell_type"].astype(object)
    lung = np.flatnonzero(data.obs["tissue"] == "Lung")
    labels.iloc[lung[draw % len(lung)]] = [None, np.nan, "nan", " ", "NA"][draw % 5]
    data.obs["cell_type"] = pd.Categorical(labels)


def _repeated_id(data, draw):
    names = data.obs_names.to_numpy(dtype=object)
    lung = np.flatnonzero(data.obs["tissue"] == "Lung")
    names[lung[draw % len(lung)]] = names[lung[(draw + 1) % len(lung)]]
    data.obs_names = names


def _other_values(data, draw):
    matrix = data.X.toarray()
    matrix[:, draw % data.n_vars] += [0.5, -9.0, np.nan, np.inf][draw % 4]
    return anndata.AnnData(csr_matrix(matrix), data.obs, data.var)


def _value(frame, draw, value):
    frame = frame.astype(object)
    frame.iloc[draw % len(frame), draw % 4] = value
    return frame


def _ragged(frame, draw):
    lines = frame.to_csv().splitlines()
    lines[1 + draw % len(frame)] += ",1.5"
    return "\n".join(lines)


FAULTS = {
    "no label column": atlas_fault(lambda data, draw: data.obs.pop("cell_type") is None),
    "no split column": atlas_fault(lambda data, draw: data.obs.pop("tissue") is None),
    "no donor column": atlas_fault(lambda data, draw: data.obs.pop("donor_id") is None),
    "no such value": atlas_fault(_relabel),
    "a missing label": atlas_fault(_missing_label),
    "a repeated id": atlas_fault(_repeated_id),
    "no counts": atlas_fault(_other_values),
    "logarithms": atlas_fault(lambda data, draw: _set(data, X=data.X.log1p())),
    "genes of the mouse": atlas_fault(lambda data, draw: tiny.published(60, 30, "mouse")),
    "a gene twice": atlas_fault(lambda data, draw: _set(data, var_names=[data.var_names[0], *data.var_names[:-1]])),
    "a truncated file": _cut,
    "a csv under the name of an h5ad": lambda folder, draw: (folder / "atlas.h5ad").write_text("cell,gene\n1,2\n"),
    "a folder": lambda folder, draw: ((folder / "atlas.h5ad").unlink(), (folder / "atlas.h5ad").mkdir()),
    "no atlas": lambda folder, draw: (folder / "atlas.h5ad").unlink(),
    "no embedding": lambda folder, draw: (folder / "mine/lung.csv").unlink(),
    "an empty table": table_fault(lambda frame, draw: ""),
    "a header alone": table_fault(lambda frame, draw: frame.iloc[:0]),
    "a row twice": table_fault(lambda frame, draw: pd.concat([frame, frame.iloc[[draw % len(frame)]]])),
    "other ids": table_fault(lambda frame, draw: frame.rename(index=lambda name: f"x{name}")),
    "text": table_fault(lambda frame, draw: _value(frame, draw, "high")),
    "a missing value": table_fault(lambda frame, draw: _value(frame, draw, np.nan)),
    "infinity": table_fault(lambda frame, draw: _value(frame, draw, np.inf)),
    "another column": table_fault(lambda frame, draw: frame.assign(n_counts=range(len(frame)))),
    "a label": table_fault(lambda frame, draw: frame.assign(cell_type="T cell")),
    "counts": table_fault(lambda frame, draw: (frame.abs() * 9).round()),
    "a long line": table_fault(_ragged),
    "no line of names": table_fault(lambda frame, draw: frame.to_csv(header=False)),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return user_folder(tmp_path_factory.mktemp("good"))


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(FAULTS)), draw=st.integers(0, 10**6))
def test_one_thing_wrong_is_one_sentence(name, draw, tmp_path_factory, monkeypatch, capsys):
    folder = user_folder(tmp_path_factory.mktemp("bad"))
    FAULTS[name](folder, draw)
    status, text, errors = checked(folder, monkeypatch, capsys)
    assert status == 1 and len(errors) == 1, (name, text, errors)
    assert errors[0].startswith(("error: dataset atlas, split lung: ", "error: datasets.atlas: ", "error: models.mine"))
    assert "Traceback" not in text and "\n" not in errors[0]


@given(
    n_cells=st.integers(1, 3 * SAMPLED),
    form=st.sampled_from((csr_matrix, csc_matrix, np.asarray)),
    tissue=st.sampled_from(("", "Lung")),
)
@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_sample_is_the_whole_but_for_empty_rows(n_cells, form, tissue, tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "atlas.h5ad"
    data = tiny.published(n_cells=n_cells + 2, n_genes=8)
    data.X = form(data.X.toarray())
    data.write_h5ad(path)
    options = tiny.options(**({"split_by": "tissue", "value": tissue} if tissue else {}))
    whole, sample = read_split(path, options).data, read_split(path, options, sampled=True).data
    pd.testing.assert_frame_equal(whole.obs, sample.obs)
    pd.testing.assert_frame_equal(whole.var, sample.var)
    rows = np.arange(len(whole))
    ends = (rows < SAMPLED) | (rows >= len(rows) - SAMPLED)
    expected = np.where(ends[:, None], whole.X.toarray(), 0)
    np.testing.assert_array_equal(sample.X.toarray(), expected)


# --- before a run -----------------------------------------------------------------------------------------------------


def test_only_what_the_jobs_read_is_opened(good, monkeypatch):
    monkeypatch.chdir(good)
    inputs = Inputs(Grid(configuration.read(["mine.yaml"])))
    assert FileCheck(inputs, []).rows == []
    (split,) = FileCheck(inputs, ["results/splits/atlas/lung.h5ad"]).rows
    assert split["used as"] == "atlas/lung"
    both = FileCheck(inputs, ["results/embeddings/mine/atlas/lung.h5ad"]).rows
    assert [row["used as"] for row in both] == ["atlas/lung", "mine on atlas/lung"]


def test_slow_text_waits_for_its_job(good, monkeypatch):
    monkeypatch.chdir(good)
    monkeypatch.setattr("cellgauge.plan.check.SLOW_TEXT", 100)
    inputs = Inputs(Grid(configuration.read(["mine.yaml"])))
    before = FileCheck(inputs, ["results/embeddings/mine/atlas/lung.h5ad"])
    assert not before.rows and "its job reads" in before.notes[0]
    assert len(FileCheck(inputs).rows) == 2


# --- the configuration itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("models:\n  m: {path: a}\n bad: }\n", "mine.yaml, line 3: not YAML"),
        ("models:\n  m:\n    path: {dataset}.csv\n", "mine.yaml, line 3: not YAML"),
        ("models:\n\tm: 1\n", "mine.yaml, line 2: not YAML"),
        ("- a\n- b\n", "mine.yaml: it has no `key: value`"),
        (json.dumps(CONFIG).replace("{split}.csv", "{tissue}.csv"), "models.mine.path: no placeholder '{tissue}'"),
        (json.dumps(CONFIG).replace("{split}.csv", "split}.csv"), "models.mine.path: an unmatched brace"),
        (json.dumps(CONFIG).replace("atlas.h5ad", "{split}.h5ad"), "datasets.atlas.splits.lung: no placeholder"),
    ],
)
def test_a_fault_of_the_configuration_is_one_sentence(text, sentence, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.yaml").write_text(text)
    status, _, errors = checked(tmp_path, monkeypatch, capsys)
    assert status == 1 and len(errors) == 1 and sentence in errors[0]


def test_what_configfile_takes_by_mistake(good, monkeypatch, capsys):
    for name, sentence in (
        ("results/splits/atlas/lung.h5ad", "comes after --configfile"),
        ("mien.yaml", "no such file, did you mean 'mine.yaml'?"),
    ):
        status, _, errors = checked(good, monkeypatch, capsys, name)
        assert status == 1 and len(errors) == 1 and name in errors[0] and sentence in errors[0]
    (good / "bytes.yaml").write_bytes(b"\x89HDF\xff\xfe")
    with pytest.raises(CellgaugeError, match="cannot be read as a configuration"):
        configuration.read([good / "bytes.yaml"])
