"""Adapters that predict responses: what each computes, from which cells, and what they say when they cannot."""

import numpy as np
import pandas as pd
import pytest
import tiny
from scipy.sparse import csr_matrix

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.make_split import make_split
from cellgauge.files.prediction import Prediction
from cellgauge.predictors.base import load_predictor, predict_files
from cellgauge.screens.screen import Screen


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screen")
    tiny.screen(n_cells=600, n_genes=60).write_h5ad(folder / "published.h5ad")
    make_split(folder / "published.h5ad", folder / "split.h5ad", tiny.screen_options())
    return folder / "split.h5ad"


@pytest.fixture(scope="module")
def screen(path):
    return Screen.open(path)


@pytest.fixture
def predict(path, tmp_path):
    def run(adapter, weights=None, profile="corrected", **options):
        predict_files(adapter, path, tmp_path / "p.h5ad", weights=weights, model="mine", options=options)
        return Prediction.read(tmp_path / "p.h5ad", profile)

    return run


def of(prediction, condition):
    (row,) = np.flatnonzero(prediction.conditions == condition)
    return prediction.means[row], prediction.reasons[row]


def mean(screen, condition):
    return screen.expression(screen.rows_of(condition)).toarray().astype(float).mean(axis=0)


@pytest.fixture(params=["reference", "corrected"])
def controls(request, screen):
    """Return a profile, and the controls that predictors see for it."""
    seen = screen if request.param == "reference" else screen.without_withheld()
    return request.param, seen.controls().toarray().astype(float)


def test_no_change(predict, controls):
    profile, cells = controls
    assert np.allclose(predict("no_change", profile=profile).means, cells.mean(axis=0))
    assert np.allclose(predict("no_change", profile=profile, statistic="median").means, np.median(cells, axis=0))
    with pytest.raises(CellgaugeError, match="statistic must be mean or median"):
        predict("no_change", statistic="mode")


def test_training_mean_gives_conditions_the_same_weight_and_sees_no_test_cell(screen, predict):
    expected = np.mean([mean(screen, condition) for condition in screen.training_conditions], axis=0)
    assert np.allclose(predict("training_mean").means, expected, atol=1e-6)
    assert "GENE4+ctrl" not in screen.training_conditions and "GENE1+GENE2" in screen.training_conditions


def test_matching_mean(screen, predict):
    prediction = predict("matching_mean")
    overall = np.mean([mean(screen, condition) for condition in screen.training_conditions], axis=0)
    assert np.allclose(of(prediction, "GENE4+ctrl")[0], overall, atol=1e-6)
    assert np.allclose(of(prediction, "GENE1+GENE4")[0], (mean(screen, "GENE1+ctrl") + overall) / 2, atol=1e-6)
    both = (mean(screen, "GENE2+ctrl") + mean(screen, "GENE0+ctrl")) / 2
    assert np.allclose(of(prediction, "GENE2+GENE0")[0], both, atol=1e-6)


def test_additive(screen, predict, controls):
    profile, cells = controls
    prediction = predict("additive", profile=profile)
    expected = mean(screen, "GENE2+ctrl") + mean(screen, "GENE0+ctrl") - cells.mean(axis=0)
    assert np.allclose(of(prediction, "GENE2+GENE0")[0], expected, atol=1e-6)
    # a single that the data write the other way round counts too
    assert np.isfinite(of(prediction, "GENE3+GENE1")[0]).all()
    assert of(prediction, "GENE4+ctrl")[1] == "the additive model does not apply to single-gene perturbations"
    assert of(prediction, "GENE1+GENE4")[1] == "no training condition perturbs GENE4 alone"


def test_linear_is_the_papers_closed_form(screen, predict, controls):
    """Against the normal equations of the same model, solved for all entries of W at once."""
    profile, cells = controls
    prediction = predict("linear_responses", profile=profile, n_components=3, ridge=0.1)
    names = ["ctrl", *screen.training_conditions]
    expression = np.stack([cells.mean(axis=0), *(mean(screen, name) for name in names[1:])], axis=1)
    change = expression - expression[:, :1]
    centered = expression - expression.mean(axis=0)
    values, vectors = np.linalg.eigh(centered.T @ centered)
    genes = centered @ vectors[:, np.argsort(-values)[:3]]

    def embedded(name):
        return sum((genes[int(g[4:])] for g in name.split("+") if g != "ctrl"), np.zeros(3))

    perturbations = np.stack([embedded(name) for name in names], axis=1)
    center = change.mean(axis=1)
    left = np.linalg.inv(genes.T @ genes + 0.1 * np.eye(3)) @ genes.T
    right = perturbations.T @ np.linalg.inv(perturbations @ perturbations.T + 0.1 * np.eye(3))
    weight = left @ (change - center[:, None]) @ right
    for condition in screen.test_conditions:
        expected = expression[:, 0] + center + genes @ weight @ embedded(condition)
        assert np.allclose(of(prediction, condition)[0], expected, atol=1e-6)


def test_ceiling_is_the_first_half_of_the_cells(screen, predict):
    prediction = predict("ceiling")
    first = screen.halves(screen.rows_of("GENE4+ctrl"))[0]
    assert np.allclose(of(prediction, "GENE4+ctrl")[0], screen.expression(first).toarray().mean(axis=0), atol=1e-6)
    assert (
        prediction.uns["scored_against"] == "second_half"
        and (prediction.n_cells > 0).all()
        and prediction.cells is not None
    )


def test_provenance(predict):
    uns = predict("no_change", seed=7).uns
    assert (uns["model"], uns["adapter"], uns["dataset"], uns["split"]) == ("mine", "no_change", "tiny_screen", "k562")
    assert uns["seed"] == 7 and uns["unpredicted"] == 0 and uns["controls_compared"] == 70 and uns["cpu_seconds"] >= 0


@pytest.mark.parametrize("adapter", ["training_mean", "matching_mean", "ceiling"])
def test_what_says_that_it_uses_no_controls_uses_none(path, screen, predict, adapter):
    """It runs once; both profiles take the result."""
    module = load_predictor(adapter)
    assert module.USES_CONTROLS is False
    both = [predict(adapter, profile=profile).means for profile in ("reference", "corrected")]
    assert np.array_equal(*both)
    for visible in (screen, screen.without_withheld()):
        for response in module.predict(visible, None, device="cpu", seed=0).responses:
            (row,) = np.flatnonzero(np.asarray(screen.test_conditions) == response.condition)
            given = response.mean if response.cells is None else response.cells.toarray().astype(float).mean(axis=0)
            assert np.allclose(given, both[0][row], atol=1e-6)


def test_half_of_the_controls_is_withheld_by_their_ids_and_the_split_says_which(path, screen):
    import anndata

    obs = anndata.read_h5ad(path, backed="r").obs
    seen, withheld = screen.divided_controls()
    assert obs.index[obs["withheld"]].tolist() == screen.split.cells[withheld].tolist()
    assert sorted([*seen, *withheld]) == screen.rows_of("ctrl").tolist() and min(len(seen), len(withheld)) > 50
    visible = screen.without_withheld()
    assert visible.rows_of("ctrl").tolist() == seen.tolist()
    assert (visible.controls() != screen.expression(seen)).nnz == 0
    assert np.allclose(visible.means(["ctrl"])[0], screen.expression(seen).toarray().mean(axis=0), atol=1e-6)
    assert visible.test_conditions == screen.test_conditions


# --- a user's predictions --------------------------------------------------------------------------------------------


@pytest.fixture
def table(screen):
    """Means of three conditions under other names, genes by symbol and in another order."""
    rows = {name: mean(screen, real) for name, real in {"GENE4": "GENE4+ctrl", "GENE0+GENE2": "GENE2+GENE0"}.items()}
    frame = pd.DataFrame(rows, index=screen.symbols).T
    return frame[frame.columns[::-1]]


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet", "h5ad", "sparse h5ad", "csv with a column"])
def test_formats(screen, predict, table, tmp_path, form):
    path = tmp_path / f"mine.{next(name for name in ('h5ad', 'csv', 'tsv', 'parquet') if name in form)}"
    if path.suffix == ".h5ad":
        import anndata

        matrix = csr_matrix(table.to_numpy()) if form.startswith("sparse") else table.to_numpy()
        anndata.AnnData(matrix, pd.DataFrame(index=table.index), pd.DataFrame(index=table.columns)).write_h5ad(path)
    elif form == "parquet":
        table.to_parquet(path)
    elif form == "csv with a column":
        table.assign(condition=table.index).reset_index(drop=True).to_csv(path)
    else:
        table.to_csv(path, sep="," if form == "csv" else "\t")
    prediction = predict("precomputed_responses", path)
    for condition in ("GENE4+ctrl", "GENE2+GENE0"):
        predicted, reason = of(prediction, condition)
        assert reason == "" and np.allclose(predicted, mean(screen, condition)[::-1], atol=1e-6)
    assert of(prediction, "GENE1+GENE4")[1] == f"{path.name} has no row of this condition"
    assert prediction.uns["matched_genes"] == 60


def test_several_rows_of_a_condition_are_cells(screen, predict, tmp_path):
    cells = screen.expression(screen.rows_of("GENE4+ctrl")).toarray()[:9]
    frame = pd.DataFrame(cells, columns=screen.genes).assign(perturbation="ctrl+GENE4")
    frame.to_csv(tmp_path / "mine.csv")
    prediction = predict("precomputed_responses", tmp_path / "mine.csv")
    (row,) = np.flatnonzero(prediction.conditions == "GENE4+ctrl")
    assert prediction.n_cells[row] == 9 and np.allclose(prediction.means[row], cells.mean(axis=0), atol=1e-6)
    sampled = prediction.cells[row]
    assert sorted(sampled[np.isfinite(sampled).all(axis=1)].sum(axis=1)) == pytest.approx(sorted(cells.sum(axis=1)))


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda t: t.rename(index=lambda name: f"X{name}"), {}, "none of its conditions (such as 'XGENE4+ctrl')"),
        (lambda t: t.rename(columns=str.lower), {}, "none of its columns (such as 'gene59') is a gene of"),
        (lambda t: t, {"condition_column": "pert"}, "no column 'pert' for conditions"),
        (lambda t: t.assign(ENSG00000000000=0.0), {}, "gene ENSG00000000000 has two columns"),
        (lambda t: t.iloc[:0], {}, "it has no rows"),
        (
            lambda t: (
                t.astype({"GENE7": object}).replace({"GENE7": {t["GENE7"].iloc[1]: "n. d."}}).assign(about="mine")
            ),
            {},
            "mine.csv: column 'GENE7' is a gene, but not all of it are numbers (such as 'n. d.')",
        ),
        (lambda t: t.assign(GENE7=True), {}, "column 'GENE7' is a gene, but"),
    ],
)
def test_faults_of_a_file(predict, table, tmp_path, change, options, words):
    change(table).to_csv(tmp_path / "mine.csv")
    with pytest.raises(CellgaugeError) as error:
        predict("precomputed_responses", tmp_path / "mine.csv", **options)
    assert words in str(error.value)


def test_faults_of_a_path(predict, tmp_path):
    for path, words in (
        (None, "need a file"),
        (tmp_path / "no.csv", "no such file"),
        (tmp_path / "x.xls", "unknown format"),
    ):
        with pytest.raises(CellgaugeError, match=words):
            predict("precomputed_responses", path)
    (tmp_path / "broken.h5ad").write_text("not a file")
    with pytest.raises(CellgaugeError, match="not a readable h5ad file"):
        predict("precomputed_responses", tmp_path / "broken.h5ad")


def test_names_of_adapters_and_options():
    with pytest.raises(CellgaugeError, match="unknown adapter 'additiv', did you mean 'additive'"):
        load_predictor("additiv")


def test_an_unknown_option_is_named(predict):
    with pytest.raises(CellgaugeError, match="unknown option 'statistics', did you mean 'statistic'"):
        predict("no_change", statistics="mean")
