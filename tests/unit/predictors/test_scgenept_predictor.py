"""scGenePT on a tiny screen with a tiny checkpoint: controls, refusals, prediction files. Numbers: tests/golden."""

import json
import shutil

import anndata
import made_checkpoints
import numpy as np
import pytest
import tiny
import torch

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.make_split import make_split
from cellgauge.files.h5ad import open_h5, read_scalars
from cellgauge.files.prediction import Prediction
from cellgauge.predictors import scgenept
from cellgauge.predictors.base import predict_files
from cellgauge.predictors.scgenept import CONTROLS_ON_CPU, bootstrap, chosen_controls, predict
from cellgauge.screens.screen import Screen

SYMBOLS = [f"GENE{i}" for i in range(40)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return made_checkpoints.scgenept(tmp_path_factory.mktemp("checkpoints") / "scgenept", SYMBOLS[:36])


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return screen_file(tmp_path_factory.mktemp("screen"))


def screen_file(folder, change=lambda data: data):
    change(tiny.screen()).write_h5ad(folder / "published.h5ad")
    make_split(folder / "published.h5ad", folder / "split.h5ad", tiny.screen_options())
    return folder / "split.h5ad"


def cells(split, weights, **options):
    """Return the predicted cells of each condition, and the facts."""
    predicted = predict(Screen.open(split), weights, **{"device": "cpu", "seed": 42, **options})
    return {response.condition: response.cells for response in predicted.responses}, predicted.facts


def test_a_prediction_file(split, weights, tmp_path):
    predict_files("scgenept", split, tmp_path / "p.h5ad", weights=weights, options={"device": "cpu", "controls": 20})
    prediction, screen = Prediction.read(tmp_path / "p.h5ad"), Screen.open(split)
    assert list(prediction.conditions) == screen.test_conditions and list(prediction.genes) == list(screen.genes)
    with open_h5(tmp_path / "p.h5ad") as file:
        uns = read_scalars(file)
    controls = len(screen.divided_controls()[0])  # of profile corrected, whose facts these are
    assert uns["controls"] == 20 and uns["controls_available"] == controls and uns["matched_genes"] == 36
    assert uns["device"] == "cpu" and uns["precision"] == "fp32" and uns["revision"].startswith("sha256:")
    assert uns["unpredicted"] == 0 and json.loads(uns["versions"])["torch"]


def test_predictions_are_of_every_control_and_differ_between_conditions(split, weights):
    predicted, facts = cells(split, weights)
    assert facts["controls"] == facts["controls_available"] == len(predicted["GENE4+ctrl"])
    assert len(predicted) == 4 and all(np.isfinite(part).all() for part in predicted.values())
    assert np.abs(predicted["GENE4+ctrl"] - predicted["GENE1+GENE4"]).max() > 1e-3


def test_batches_change_nothing(split, weights):
    whole, _ = cells(split, weights)
    one_by_one, _ = cells(split, weights, tokens_per_batch=1)
    for condition, part in whole.items():
        np.testing.assert_allclose(one_by_one[condition], part, atol=1e-5)


def test_controls_are_sampled_by_their_ids_and_the_seed(split, weights, tmp_path):
    order = np.random.default_rng(0).permutation(400)
    shuffled, _ = cells(screen_file(tmp_path, lambda data: data[order].copy()), weights, controls=10)
    (first, _), (other, _) = (cells(split, weights, controls=10, seed=seed) for seed in (42, 43))
    for condition, part in first.items():
        assert part.shape == (10, 40) and not np.allclose(part.mean(axis=0), other[condition].mean(axis=0))
        np.testing.assert_allclose(np.sort(shuffled[condition], axis=0), np.sort(part, axis=0), atol=1e-5)


def test_on_a_cpu_300_controls_are_taken_and_elsewhere_all(split, weights, monkeypatch):
    assert CONTROLS_ON_CPU == 300
    monkeypatch.setattr("cellgauge.predictors.scgenept.CONTROLS_ON_CPU", 7)
    assert cells(split, weights)[1]["controls"] == 7
    assert cells(split, weights, controls=9)[1]["controls"] == 9
    screen = Screen.open(split)
    every = (screen.conditions == "ctrl").sum()
    assert [len(chosen_controls(screen, None, device, 0)) for device in ("cpu", "cuda:0", "mps")] == [7, every, every]


def test_the_bootstrap_computes_each_control_once(split, weights, monkeypatch):
    computed, compute = [], scgenept._predicted

    def predicted(network, controls, rows, *others):
        computed.append(rows)
        return compute(network, controls, rows, *others)

    monkeypatch.setattr(scgenept, "_predicted", predicted)
    sampled, _ = cells(split, weights, draw="bootstrap")
    every, _ = cells(split, weights)
    n = len(every["GENE4+ctrl"])
    rows = bootstrap(n, 42)
    assert computed[0].tolist() == sorted(set(rows)) and len(computed[0]) < n
    np.testing.assert_allclose(sampled["GENE4+ctrl"], every["GENE4+ctrl"][rows], atol=1e-5)


def test_the_bootstrap_stays_within_chunks():
    rows = bootstrap(1100, 0)
    assert (
        len(rows) == 1100 and {row // 512 for row in rows[:512]} == {0} and {row // 512 for row in rows[1024:]} == {2}
    )
    np.testing.assert_array_equal(rows[:512], np.random.RandomState(0).randint(0, 512, 512))


def test_a_gene_outside_the_panel_is_a_reason(split, weights, tmp_path):
    screen = Screen.open(split)
    (tmp_path / "panel.txt").write_text("\n".join(gene for gene in screen.genes if not gene.endswith("4")))
    predicted = predict(screen, weights, device="cpu", seed=0, controls=5, panel=str(tmp_path / "panel.txt"))
    reasons = {response.condition: response.reason for response in predicted.responses}
    assert reasons["GENE4+ctrl"] == reasons["GENE1+GENE4"] == "the model does not know GENE4"
    assert reasons["GENE3+GENE1"] == ""


def test_genes_that_the_vocabulary_lacks_are_one_unknown_gene(split, weights, tmp_path):
    """They are used whatever their names. GENE36 to GENE39 are unknown already."""

    def renamed(data):
        data.var["feature_name"] = [*SYMBOLS[:36], *(f"NEW{i}" for i in range(4))]
        return data

    predicted, facts = cells(split, weights, controls=6)
    other, _ = cells(screen_file(tmp_path, renamed), weights, controls=6)
    assert facts["matched_genes"] == 36
    for condition, part in predicted.items():
        np.testing.assert_allclose(other[condition], part, atol=1e-5)


def test_bf16_is_near_and_says_how_near(split, weights):
    exact, _ = cells(split, weights, controls=10)
    predicted, facts = cells(split, weights, controls=10, precision="bf16")
    assert 0 < max(np.abs(predicted[condition] - part).max() for condition, part in exact.items()) < 0.3
    assert 0 < facts["fp32_max_deviation"] < 0.3 and facts["precision"] == "bf16"


def test_the_comparison_with_fp32_does_not_count(split, weights, monkeypatch):
    """Only fp32 runs out of memory, which must not change the mini-batches of the four conditions and the trial before."""
    from cellgauge.predictors.scgenept.network import ScGenePT

    sizes, compute = {True: [], False: []}, ScGenePT.forward

    def forward(self, values, perturbed):
        rounded = torch.is_autocast_enabled("cpu")
        if not rounded and len(values) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        sizes[rounded].append(len(values))
        return compute(self, values, perturbed)

    monkeypatch.setattr(ScGenePT, "forward", forward)
    _, facts = cells(split, weights, controls=10, precision="bf16")
    assert sizes == {True: [10] * 5, False: [2] * 5} and facts["halved_batches"] == 0


@pytest.mark.parametrize("text", ["gopt_encoder_c", "genept_encoder"])
def test_every_kind_of_text_is_known(split, weights, tmp_path, text):
    folder = made_checkpoints.scgenept(tmp_path / "other", SYMBOLS[:36], text)
    predicted, expected = cells(split, folder, controls=3)[0], cells(split, weights, controls=3)[0]
    np.testing.assert_array_equal(predicted["GENE4+ctrl"], expected["GENE4+ctrl"])


# --- invalid input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draw": "wrong"}, "draw must be 'each' or 'bootstrap', not 'wrong'"),
        ({"controls": 0}, "controls must be at least 1, not 0"),
        ({"heads": 5}, "its width 16 is not a multiple of the 5 attention heads"),
        ({"precision": "fp16"}, "precision must be one of"),
        ({"panel": "/nowhere/panel.txt"}, r"/nowhere/panel\.txt: the panel cannot be read"),
        ({"panel": __file__}, "none of its .* genes is in dataset tiny_screen, split k562"),
        ({"min_matched_genes": 0.95}, "split k562 of tiny_screen: 36 of 40 genes that could match"),
    ],
)
def test_options_out_of_range(split, weights, options, words):
    with pytest.raises(CellgaugeError, match=words):
        cells(split, weights, **options)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", r"has no tensor 'transformer_encoder\.layers\.1\.norm1\.bias'"),
        ("extra", r"the model has no tensor 'transformer_encoder\.layers\.1\.norm1\.gain'"),
        ("shape", r"'transformer_encoder\.layers\.1\.norm1\.bias' has shape \(3,\)"),
        ("no texts", r"has 0 encoders of gene texts \(none\) instead of one; is this the right model\?"),
        ("two texts", r"has 2 encoders of gene texts \(genept_encoder, gopt_encoder_f\)"),
        ("vocabulary", "it has 30 genes and 39 texts, but the vocabulary uses gene id 36"),
    ],
)
def test_tensors_are_loaded_strictly(split, weights, tmp_path, fault, words):
    copy = shutil.copytree(weights, tmp_path / "copy")
    path = copy / "best_model_seed_42.pt"
    tensors = torch.load(path)
    name = "transformer_encoder.layers.1.norm1.bias"
    if fault == "missing":
        del tensors[name]
    elif fault == "extra":
        tensors[name.replace("bias", "gain")] = torch.ones(2)
    elif fault == "shape":
        tensors[name] = torch.ones(3)
    elif fault == "no texts":
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("gopt")}
    elif fault == "two texts":
        tensors["genept_encoder.enc_norm.bias"] = torch.ones(3)
    else:
        tensors["encoder.embedding.weight"] = tensors["encoder.embedding.weight"][:30]
    torch.save(tensors, path)
    with pytest.raises(CellgaugeError, match=words):
        cells(split, copy)


@pytest.mark.parametrize("damage", ["truncated", "bomb", "no model", "no vocabulary", "two models"])
def test_a_damaged_checkpoint_leaves_no_prediction(split, weights, tmp_path, damage):
    copy = shutil.copytree(weights, tmp_path / "copy")
    path = copy / "best_model_seed_42.pt"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "bomb":
        torch.save({"a": Bomb(tmp_path / "trace")}, path)
    elif damage == "two models":
        shutil.copy(path, copy / "other.pt")
    else:
        (path if damage == "no model" else copy / "vocab.json").unlink()
    words = {
        "truncated": "truncated or corrupt",
        "bomb": r"refused, it names posix\.mkdir",
        "no model": r"no file \*\.pt",
        "no vocabulary": r"no file vocab\.json",
        "two models": r"several files match \*\.pt: best_model_seed_42\.pt, other\.pt",
    }
    with pytest.raises(CellgaugeError, match=words[damage]):
        predict_files("scgenept", split, tmp_path / "p.h5ad", weights=copy, options={"device": "cpu"})
    assert not (tmp_path / "p.h5ad").exists() and not (tmp_path / "trace").exists()


class Bomb:
    """Creates a folder if it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        import os

        return os.mkdir, (self.trace,)


def test_a_screen_without_controls(weights, tmp_path):
    path = screen_file(tmp_path)
    data = anndata.read_h5ad(path)
    data[data.obs["label"] != "ctrl"].copy().write_h5ad(path)
    with pytest.raises(CellgaugeError, match="no cell is a control"):
        cells(path, weights)
