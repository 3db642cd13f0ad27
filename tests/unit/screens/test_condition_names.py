"""Names of conditions as screens and predictors write them: the same conditions, or one sentence."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.make_split import make_split, read_split
from cellgauge.files.prediction import Prediction
from cellgauge.predictors.base import predict_files
from cellgauge.screens.condition_names import ConditionNames, gene_of_guide
from cellgauge.screens.screen import Screen, targets

GENES = frozenset(["A", "B", "HLA-A", "C_1", "TP53", "KLF1"])


def names(**options):
    return ConditionNames(**{"genes": GENES, **options})


@pytest.mark.parametrize(
    ("published", "options", "written"),
    [
        ("ctrl", {}, "ctrl"),
        (" ctrl ", {}, "ctrl"),
        ("ctrl+ctrl", {}, "ctrl"),
        ("A", {}, "A+ctrl"),
        ("A +ctrl", {}, "A+ctrl"),
        ("ctrl+ A", {}, "ctrl+A"),
        ("B+A", {}, "B+A"),
        ("A+A", {}, "A+ctrl"),
        ("A+B+ctrl", {}, "A+B"),
        ("A+control", {"control": ["control"]}, "A+ctrl"),
        ("non-targeting_00012", {"control": ["non-targeting*"]}, "ctrl"),
        ("A|NT-3", {"control": ["NT-?", "x"], "separator": "|"}, "A+ctrl"),
        ("A_B", {"separator": "_"}, "A+B"),
        ("C_1", {"separator": "_"}, "C_1+ctrl"),
        ("KLF1_NegCtrl0__KLF1_NegCtrl0", {"separator": "_", "control": ["NegCtrl*"]}, "KLF1+ctrl"),
        ("KLF1_2", {"pool_guides": True}, "KLF1+ctrl"),
        ("sgKLF1-3", {"pool_guides": True}, "KLF1+ctrl"),
        ("HLA-A.g2", {"pool_guides": True}, "HLA-A+ctrl"),
        ("TP53", {"pool_guides": True}, "TP53+ctrl"),
        ("A_2_B_1", {"pool_guides": True, "separator": "_"}, "A+B"),
        ("A_2+B_1", {"pool_guides": True}, "A+B"),
        ("", {}, ""),
    ],
)
def test_names(published, options, written):
    assert names(**options).name(published) == written


def test_a_pair_is_no_guide():
    assert gene_of_guide("A_B", GENES) == "A_B" and gene_of_guide("KLF1_+_5.23-P1P2", GENES) == "KLF1"


@pytest.mark.parametrize("separator", ["+", "_", "|", ",", ";", "&", "/", ":"])
def test_separators_are_recognised_by_the_genes(separator):
    published = ["ctrl", "A", "HLA-A", "C_1", separator.join(["A", "B"]), separator.join(["HLA-A", "B"])]
    assert names().recognised(published).separator == separator
    assert names().recognised(["ctrl", "A", "C_1", "X_Y"]).separator == "+"


# --- through the workflow's readers ----------------------------------------------------------------------------------

GENE_NAMES = [f"GENE{i}" for i in range(5)]


def style(separator, control, alone, blank="", pair_control=""):
    """Return a function that writes a condition in one of the styles of public files."""

    def write(condition, number):
        genes = sorted(targets(condition), key=condition.index)
        pad = blank if number % 2 else ""
        if not genes:
            return f"{pair_control or control}{pad}"
        if len(genes) == 1 and not alone:
            genes = [*genes, control]
        return separator.join(f"{gene}{pad}" for gene in genes)

    return write


STYLES = st.builds(
    style,
    separator=st.sampled_from(["+", " + ", "_", "|", ";", ","]),
    control=st.sampled_from(["ctrl", "control", "non-targeting", "NT", "None", "DMSO"]),
    alone=st.booleans(),
    blank=st.sampled_from(["", " ", "\t"]),
    pair_control=st.just(""),
)


@settings(max_examples=40)
@given(write=STYLES)
def test_every_style_of_names_gives_the_same_screen_or_one_sentence(tmp_path_factory, write):
    folder, data = tmp_path_factory.mktemp("screen"), tiny.screen(n_cells=120)
    conditions = data.obs["condition"].astype(str).tolist()
    data.obs["condition"] = [write(condition, number) for number, condition in enumerate(conditions)]
    data.write_h5ad(folder / "p.h5ad")
    control = write("ctrl", 0)
    made = read_split(folder / "p.h5ad", tiny.screen_options(control=control, partition=""))
    found = made.data.obs["label"].astype(str)
    assert [targets(name) for name in found] == [targets(name) for name in conditions]
    if control != "ctrl":
        with pytest.raises(CellgaugeError, match=r"no cell has the control condition 'ctrl'|have no label"):
            read_split(folder / "p.h5ad", tiny.screen_options(partition=""))


@pytest.fixture
def read(tmp_path):
    def run(change, **options):
        data = tiny.screen()
        data.obs["condition"] = [change(name, n) for n, name in enumerate(data.obs["condition"].astype(str))]
        data.write_h5ad(tmp_path / "p.h5ad")
        return read_split(tmp_path / "p.h5ad", tiny.screen_options(**{"partition": "", **options}))

    return run


def test_half_of_the_controls_have_another_name(read):
    plain = read(lambda name, n: name).data.obs["label"].astype(str)
    other = read(lambda name, n: "ctrl+ctrl" if name == "ctrl" and n % 2 else name).data.obs["label"].astype(str)
    assert (plain == other).all()
    with pytest.raises(CellgaugeError, match=r"'ctrl' is a condition besides .* add it to `control`: \[control, ctrl\]"):
        read(lambda name, n: "control" if name == "ctrl" and n % 2 else name, control="control")
    with pytest.raises(
        CellgaugeError, match=r"'NT' is in \d+ conditions and is not a gene; .*`control`: \[ctrl, NT\]"
    ):
        read(lambda name, n: name.replace("+ctrl", "+NT"))


def test_two_ways_of_writing_pairs_are_refused(read):
    def change(name, n):
        return name.replace("+", "_") if n % 2 and "ctrl" not in name else name

    with pytest.raises(CellgaugeError, match="is read as one gene, but '_' divides it into genes of the screen"):
        read(change)


def test_guides_are_pooled_on_request(read):
    def change(name, n):
        return f"NT_{n % 9:05}" if name == "ctrl" else "+".join(f"{g}_{n % 3}" for g in sorted(targets(name)))

    with pytest.raises(CellgaugeError, match="they look like guides: `pool_guides: true`"):
        read(change, control=["NT_*"])
    made = read(change, control=["NT_*"], pool_guides=True)
    plain = read(lambda name, n: name)
    assert list(map(targets, made.data.obs["label"])) == list(map(targets, plain.data.obs["label"]))


def test_targets_that_are_no_genes_are_told(read):
    def drugs(name, n):
        return name.replace("GENE", "drug")

    def single(name, n):
        return drugs(name, n).replace("+ctrl", "").replace("ctrl+", "").replace("+", "and")

    with pytest.raises(CellgaugeError, match=r"10 of 10 perturbed genes are not genes of the screen \(drug"):
        read(single)
    for change, options in ((single, {"separator": "+"}), (drugs, {})):
        made = read(change, **options)
        assert any("perturbed genes are not genes of the screen: drug" in note for note in made.notes)


def test_controls_need_no_partition(tmp_path):
    data = tiny.screen()
    data.obs["split"] = data.obs["split"].where(data.obs["condition"] != "ctrl")
    data.write_h5ad(tmp_path / "p.h5ad")
    plain = json.loads(read_split(tmp_path / "p.h5ad", tiny.screen_options()).data.uns["strata"])
    assert plain["GENE4+ctrl"] == "unseen_single"
    data.obs["split"] = data.obs["split"].where(np.arange(400) > 30)
    data.write_h5ad(tmp_path / "p.h5ad")
    with pytest.raises(
        CellgaugeError, match=r"must hold train, val, test, not '' \(missing\); only controls need none"
    ):
        read_split(tmp_path / "p.h5ad", tiny.screen_options())


# --- expression ------------------------------------------------------------------------------------------------------

SCALES = {
    "counts": (lambda counts: counts, "whole numbers only"),
    "counts per 10,000": (lambda counts: counts / counts.sum(1, keepdims=True) * 1e4, "holds values up to"),
    "shares": (lambda counts: counts / counts.sum(1, keepdims=True), "its counts times a number"),
    "per small total": (lambda counts: counts / counts.sum(1, keepdims=True) * 37.3, "its counts times a number"),
    "z-scores": (lambda counts: (counts - counts.mean(0)) / (counts.std(0) + 1), "negative values .*z-scores"),
    "not finite": (lambda counts: np.where(counts > 3, np.nan, 0.5), "not finite"),
}


@pytest.mark.parametrize("scale", SCALES)
def test_expression_on_another_scale_is_refused_naming_the_key(tmp_path, scale):
    data = tiny.screen()
    change, words = SCALES[scale]
    data.layers["other"] = change(data.layers["counts"].toarray().astype(float))
    data.write_h5ad(tmp_path / "p.h5ad")
    with pytest.raises(CellgaugeError, match=words) as error:
        read_split(tmp_path / "p.h5ad", tiny.screen_options(expression="layers/other"))
    assert scale == "not finite" or "`expression`" in str(error.value)


@pytest.mark.parametrize("log", [np.log1p, lambda values: np.log2(values + 1)])
@pytest.mark.parametrize("total", [1e2, 1e4, 1e6])
def test_logarithms_of_every_base_and_total_are_taken(tmp_path, log, total):
    data = tiny.screen()
    counts = data.layers["counts"].toarray().astype(float)
    data.layers["other"] = log(counts / counts.sum(1, keepdims=True) * total)
    data.write_h5ad(tmp_path / "p.h5ad")
    made = read_split(tmp_path / "p.h5ad", tiny.screen_options(expression="layers/other"))
    assert np.allclose(made.data.layers["expression"].toarray(), data.layers["other"], rtol=1e-6)


# --- predictions -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screen")
    tiny.screen(n_cells=200).write_h5ad(folder / "p.h5ad")
    make_split(folder / "p.h5ad", folder / "split.h5ad", tiny.screen_options())
    return Screen.open(folder / "split.h5ad")


@pytest.fixture(scope="module")
def table(screen):
    conditions = ["ctrl", *screen.training_conditions, *screen.test_conditions]
    return pd.DataFrame(screen.means(conditions), index=conditions, columns=screen.symbols)


def predicted(screen, path, **options):
    predict_files("precomputed_responses", screen.split.path, path.with_name("out.h5ad"), weights=path, options=options)
    return Prediction.read(path.with_name("out.h5ad"))


@settings(max_examples=40)
@given(write=STYLES, form=st.sampled_from(["csv", "tsv", "parquet", "german"]), told=st.booleans())
def test_predictions_in_every_style_are_all_matched_or_refused(screen, table, tmp_path_factory, write, form, told):
    path = tmp_path_factory.mktemp("mine") / f"mine.{'csv' if form == 'german' else form}"
    frame = table.set_axis([write(name, n) for n, name in enumerate(table.index)])
    if form == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, **{"csv": {}, "tsv": {"sep": "\t"}, "german": {"sep": ";", "decimal": ","}}[form])
    try:
        found = predicted(screen, path, **({"control": write("ctrl", 0)} if told else {}))
    except CellgaugeError as error:
        assert not told and "`control`" in str(error)
        return
    assert (found.reasons == "").all()
    assert np.allclose(found.means, table.loc[screen.test_conditions], atol=1e-6)


VALUES = ("", "n.d.", "inf", "#N/A", "1,5", "TRUE")


@settings(max_examples=60)
@given(data=st.data())
def test_a_table_of_predictions_with_one_thing_wrong(screen, table, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("mine") / "mine.csv"
    frame = table.astype(object)
    kind = data.draw(st.sampled_from(["value", "column", "gene twice", "row twice", "row lost", "turned"]))
    row = data.draw(st.integers(0, len(table) - 1))
    if kind == "value":
        frame.iloc[row, data.draw(st.integers(0, 39))] = data.draw(st.sampled_from(VALUES))
    elif kind == "column":
        name = data.draw(st.sampled_from(["n_counts", "note", "split", "leiden"]))
        frame.insert(data.draw(st.integers(0, 40)), name, data.draw(st.sampled_from([5, "text"])))
    elif kind == "gene twice":
        frame[screen.genes[row]] = 1.0
    elif kind == "row lost":
        frame = frame.drop(index=frame.index[row])
    elif kind == "row twice":
        frame = pd.concat([frame, frame.iloc[[row]]])
    else:
        frame = frame.T
    frame.to_csv(path)
    try:
        found = predicted(screen, path)
    except CellgaugeError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert kind not in ("gene twice", "turned")
    known = found.reasons == ""
    assert np.allclose(found.means[known], table.loc[found.conditions[known]], atol=1e-6)
    assert (~known).sum() <= (kind == "row lost")
