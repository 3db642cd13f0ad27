"""Result files of others: read strictly, mapped to our names, left out with a reason; ours come back as they went."""

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import made_up
import numpy as np
import pandas as pd
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from cellgauge.files.score import SCORE_COLUMNS, Score, read_scores, write_scores
from cellgauge.results.blocks import blocks
from cellgauge.results.czbenchmarks import CLASSIFIERS, METRICS, TASKS
from cellgauge.results.export import export
from cellgauge.results.published import PublishedError, import_published, read
from cellgauge.results.reproduction import LEAST, SPREAD, TWO_RUNS, compare_with_published
from cellgauge.results.tables import collect, headline

RECORD = {
    "task_key": "label_prediction",
    "model_key": "UCE-v1-4l",
    "dataset_keys": ["tsv2_lung"],
    "czbenchmarks_version": "0.8.0",
    "metrics": [
        {"metric_key": "mean_fold_f1", "params": {"classifier": "knn"}, "value": 0.8},
        {"metric_key": "mean_fold_f1", "params": {}, "value": 0.7},
    ],
}
SILHOUETTE = {
    "task_key": "embedding",
    "model_key": "BASELINE-v1",
    "dataset_keys": ["a", "b"],
    "metrics": [{"metric_key": "silhouette_score", "params": {}, "value": 0.5}],
}
NAMES = {
    "models": {"UCE-v1-4l": "uce_4l_reference", "BASELINE-v1": "linear"},
    "datasets": {"tsv2_{split}": "tabula_sapiens_v2/{split}", "a+b": "pair/both"},
}

CATALOGUE = made_up.configuration()


@pytest.fixture
def imported(tmp_path):
    """Import a document as JSON of a format; return the rows."""

    def run(document, format="vcp", **options):
        text = document if isinstance(document, str) else json.dumps(document)
        (tmp_path / "found.json").write_text(text)
        import_published(tmp_path / "found.json", tmp_path / "rows.tsv", source="them", format=format, **options)
        return read_scores(tmp_path / "rows.tsv")

    return run


# --- reading ---------------------------------------------------------------------------------------------------------


def test_records_become_score_rows_in_our_names(imported):
    rows = imported([RECORD, SILHOUETTE], **NAMES)
    own = {"task": "label_prediction", "model": "uce_4l_reference", "dataset": "tabula_sapiens_v2", "split": "lung"}
    silhouette = {"task": "clustering", "model": "linear", "dataset": "pair", "split": "both"}
    assert rows == [
        Score("f1", 0.8, "reference", classifier="knn", source="them", **own),
        Score("f1", 0.7, "reference", classifier="mean", source="them", **own),
        Score("silhouette", 0.5, "reference", source="them", **silhouette),
    ]


def changed(**fields):
    return [{**RECORD, **fields}]


def with_metric(**fields):
    return changed(metrics=[{**RECORD["metrics"][0], **fields}])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "not a readable JSON file"),
        ("[" * 100_000, "not a readable JSON file"),
        ('[{"task_key": "a", "task_key": "b"}]', "the key 'task_key' stands twice"),
        ({"task_results": []}, "it holds an object, not the list of records"),
        ([3], "record 1: a number stands where an object with 'task_key' belongs"),
        ([{}], "record 1: the key 'task_key' is missing"),
        (changed(task_key="integration"), "record 1: unknown task 'integration'; there are clustering, embedding"),
        (changed(task_key=None), "record 1: 'task_key' is null"),
        (changed(dataset_keys=[]), "record 1: 'dataset_keys' must be names, one or more"),
        (changed(dataset_keys=[1]), "record 1: 'dataset_keys' must be names, one or more"),
        (changed(dataset_keys="tsv2_lung"), "record 1: 'dataset_keys' is text"),
        (changed(metrics={}), "record 1: 'metrics' is an object"),
        (changed(metrics=["f1"]), "metric 1: text stands where an object"),
        (with_metric(metric_key="f1"), "metric 1: unknown metric 'f1' of task label_prediction"),
        (with_metric(value="0.5"), "metric 1: 'value' is text"),
        (with_metric(value=True), "metric 1: 'value' is true or false"),
        (with_metric(value=float("nan")), "metric 1: the value is nan"),
        (with_metric(value=float("inf")), "metric 1: the value is inf"),
        (with_metric(fold=1), "metric 1: unknown key 'fold', which may tell values apart"),
        (with_metric(params={"seed": "1"}), "metric 1: unknown parameter 'seed', which may tell values apart"),
        (with_metric(params={"classifier": "svm"}), "metric 1: unknown classifier 'svm'; there are lr, knn, rf"),
        (with_metric(params={"classifier": 1}), "metric 1: 'params' must be an object of texts"),
        (changed(model_key="GPT"), "the model 'GPT' is not among the entry's `models`"),
        (changed(dataset_keys=["lung"]), "the data 'lung' are not among the entry's `datasets`"),
        ([], "there is no value in it"),
    ],
)
def test_another_structure_is_one_sentence(imported, document, words):
    with pytest.raises(PublishedError) as fault:
        imported(document, **NAMES)
    assert words in str(fault.value) and "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "a list stands where an object with 'task_results' belongs"),
        ({}, "the key 'task_results' is missing"),
        ({"task_results": [{"task_name": "clustering"}]}, "result 1: the key 'model' is missing"),
    ],
)
def test_another_structure_of_cz_benchmarks_own_results(imported, document, words):
    with pytest.raises(PublishedError, match=words):
        imported(document, "czbenchmarks")


def test_names_without_a_map_must_say_dataset_and_split(imported):
    with pytest.raises(PublishedError, match="'tsv2_lung' are not of the form dataset/split"):
        imported([RECORD])


def test_models_of_cz_benchmarks_own_results_are_named_by_type_and_options(imported):
    metrics = [{"metric_type": "adjusted_rand_index", "params": None, "value": 1}]
    result = {"task_name": "clustering", "datasets": [{"name": "d/s"}], "metrics": metrics}
    result["model"] = {"type": "UCE", "args": {"model_variant": "4l"}}
    (row,) = imported({"task_results": [result]}, "czbenchmarks", models={"UCE-4l": "uce_4l_reference"})
    assert (row.model, row.dataset, row.split, row.value) == ("uce_4l_reference", "d", "s", 1.0)


@pytest.mark.parametrize("name", ["rows.tsv", "rows.csv", "rows.parquet"])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"value": "much"}, "much"),
        ({"status": "fine"}, "is not one of ok"),
        ({"value": None}, "finite value"),
        ({"fold": 1.5}, "1.5"),
        ({"extra": "x"}, "the columns are"),
    ],
)
def test_score_rows_that_break_the_contract_are_one_sentence(tmp_path, name, fields, words):
    row = vars(Score("ari", 0.5, "reference", task="clustering", model="m", dataset="d", split="s"))
    table = pd.DataFrame([{**{column: row[column] for column in SCORE_COLUMNS}, **fields}])
    path = tmp_path / name
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)
    with pytest.raises(PublishedError, match=words) as fault:
        list(read(path, "scores"))
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.parquet", "a.json"])
def test_what_is_no_table_is_one_sentence(tmp_path, name):
    format = "vcp" if name == "a.json" else "scores"
    (tmp_path / name).write_bytes(b"\x80\x04\x95\x00\x01PAR1\x00\n" * 9)
    for path in (tmp_path / name, tmp_path / f"no-{name}"):
        with pytest.raises(PublishedError) as fault:
            list(read(path, format))
        assert path.name in str(fault.value) and "\n" not in str(fault.value)


def test_files_of_before_the_column_source_still_read(tmp_path):
    row = Score("ari", 0.5, "reference", task="clustering", model="m", dataset="d", split="s", seed=4)
    write_scores(tmp_path / "rows.tsv", [row])
    lines = (tmp_path / "rows.tsv").read_text().splitlines()
    (tmp_path / "rows.tsv").write_text("\n".join(line.rpartition("\t")[0] for line in lines[:2]) + "\n")
    assert read_scores(tmp_path / "rows.tsv", by_hand=True) == [row]
    table = pd.DataFrame([vars(row)])[list(SCORE_COLUMNS[:-1])]
    table.to_parquet(tmp_path / "rows.parquet")
    assert list(read(tmp_path / "rows.parquet", "scores")) == [row]


# --- as jobs ---------------------------------------------------------------------------------------------------------


def test_what_a_job_reads_and_is_told():
    from made_up import inputs_of
    from small_run import CONFIG

    value = {
        "task": "clustering",
        "model": "linear",
        "dataset": "pair",
        "split": "human",
        "metric": "ari",
        "value": 0.5,
    }
    entries = {
        "far": {
            "title": "Far",
            "url": "https://example.org/a/results.json",
            "format": "vcp",
            "models": {"X": "linear"},
        },
        "near": {"title": "Near", "url": "mine/scores.parquet", "format": "scores"},
        "here": {"title": "Here", "values": [value]},
    }
    inputs = inputs_of(
        {**CONFIG, "published": entries, "run": {**CONFIG["run"], "published": ["here", "far", "near", "far"]}}
    )
    jobs = {name: SimpleNamespace(source=name) for name in entries}
    assert inputs.published_rows() == [f"results/published/{name}.tsv" for name in ("here", "far", "near")]
    files = {name: inputs.published_file(job) for name, job in jobs.items()}
    assert files == {"far": ["resources/published/far/results.json"], "near": ["mine/scores.parquet"], "here": []}
    assert inputs.published_url(jobs["far"]) == "https://example.org/a/results.json"
    told = {name: json.loads(inputs.published_options(job)) for name, job in jobs.items()}
    assert told["far"] == {"source": "far", "format": "vcp", "models": {"X": "linear"}}
    assert told["here"] == {"source": "here", "values": [value]}
    about = json.loads(inputs.manifest())["catalogue"]["published"]
    assert about["far"]["title"] == "Far" and list(about["far"]["models"]) == ["linear"]
    assert set(about["near"]["models"]) == set(CONFIG["models"])
    assert inputs_of(CONFIG).published_rows() == []


# --- left out --------------------------------------------------------------------------------------------------------


def test_values_that_a_rule_names_are_left_out_with_its_reason(imported):
    rules = [{"metric": "f1", "classifier": "knn", "reason": "a fault"}]
    rows = imported([RECORD, SILHOUETTE], left_out=rules, **NAMES)
    assert [(row.status, row.value, row.reason) for row in rows] == [
        ("not_applicable", None, "a fault"), ("ok", 0.7, ""), ("ok", 0.5, ""),
    ]  # fmt: skip


def test_a_rule_that_fits_nothing_is_a_mistake(imported):
    with pytest.raises(PublishedError, match="`left_out` names model linear, metric ari, which no value has"):
        imported([RECORD], left_out=[{"model": "linear", "metric": "ari", "reason": "x"}], **NAMES)


def test_a_second_record_is_left_out_and_says_both_values(imported):
    rows = imported([RECORD, {**RECORD, "metrics": [{**RECORD["metrics"][1], "value": 0.6}]}], **NAMES)
    assert [row.status for row in rows] == ["ok", "ok", "not_applicable"]
    assert rows[2].reason == "a second record of a value that stands here already (0.6, 0.7)"


# --- there and back --------------------------------------------------------------------------------------------------


def as_exported(rows):
    """Return the rows that cz-benchmarks' format can hold, in an order of their own, without what it does not hold."""
    known = {(TASKS.get(task, task), metric) for task, names in METRICS.items() for metric in names}
    best = headline(pd.DataFrame([vars(row) for row in rows]).astype({"seed": "Int64", "fold": "Int64"}))
    best = best[(best["profile"] == "reference") & (best["condition"] == "") & ~best["subset"].str.contains("/")]
    exported = [row for row in best.to_dict("records") if (row["task"], row["metric"]) in known]
    return Counter(Score(**{**row, "seed": None, "fold": None, "reason": "", "source": ""}) for row in exported)


def test_our_exports_come_back_as_they_went(demo, tmp_path):
    rows = list(read(demo / "scores.csv", "scores"))
    for name in ("scores.parquet", "scores.csv"):
        import_published(demo / name, tmp_path / "back.tsv", source="us", format="scores")
        back = read_scores(tmp_path / "back.tsv")
        assert [replace(row, source="") for row in back] == rows and {row.source for row in back} == {"us"}
    exported = demo.parents[1] / "czbenchmarks.json"
    import_published(exported, tmp_path / "back.tsv", source="us", format="czbenchmarks")
    back = Counter(replace(row, source="") for row in read_scores(tmp_path / "back.tsv"))
    assert back == as_exported(rows) and len(back) > 300


CELLS = st.tuples(st.sampled_from(["a", "b_1"]), st.sampled_from(["d", "e_2"]), st.sampled_from(["s", "t_3"]))
SCORED = st.sampled_from(
    [
        *(
            ("label_prediction", metric, classifier)
            for metric in ("f1", "auroc", "folds_succeeded")
            for classifier in CLASSIFIERS
        ),
        *(("clustering", metric, "") for metric in ("ari", "nmi", "silhouette", "n_clusters")),
    ]
)
VALUES = st.floats(-1e150, 1e150) | st.sampled_from([0.0, 1e-320, 1 / 3])


@st.composite
def score_rows(draw):
    """Return score rows of a run: means, some of their folds, some that failed."""
    rows = []
    for cell in draw(st.lists(CELLS, min_size=1, max_size=4, unique=True)):
        for task, metric, classifier in draw(st.lists(SCORED, min_size=1, max_size=5, unique=True)):
            profile = draw(st.sampled_from(["reference", "corrected"]))
            own = {"task": task, "metric": metric, "classifier": classifier, "profile": profile}
            own |= dict(zip(("model", "dataset", "split"), cell, strict=True))
            if draw(st.booleans()) or not rows:
                rows.append(Score(value=draw(VALUES), **own))
                if classifier not in ("", "mean"):
                    rows += [
                        Score(value=v, fold=n, **own) for n, v in enumerate(draw(st.lists(st.floats(0, 1), max_size=3)))
                    ]
            else:
                rows.append(
                    Score(status=draw(st.sampled_from(["failed", "not_applicable"])), reason="no\tcells; why?", **own)
                )
    return rows


@settings(max_examples=examples(25))
@given(score_rows())
def test_any_table_comes_back_as_it_went(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("back")
    paths = []
    for task, model, dataset, split in dict.fromkeys((r.task, r.model, r.dataset, r.split) for r in rows):
        paths.append(folder / f"results/scores/{task}/{model}/{dataset}/{split}.tsv")
        own = [r for r in rows if (r.task, r.model, r.dataset, r.split) == (task, model, dataset, split)]
        write_scores(paths[-1], own)
    collect(paths, folder / "tables", catalogue={"tasks": CATALOGUE["tasks"]})
    export(folder / "tables", folder)
    there = [row for path in paths for row in read_scores(path)]
    import_published(folder / "tables/scores.parquet", folder / "back.tsv", source="us")
    assert [replace(row, source="") for row in read_scores(folder / "back.tsv")] == there
    expected = as_exported(there)
    if expected:
        import_published(folder / "czbenchmarks.json", folder / "back.tsv", source="us", format="czbenchmarks")
        assert Counter(replace(row, source="") for row in read_scores(folder / "back.tsv")) == expected


# --- blocks ----------------------------------------------------------------------------------------------------------


def table_of(covered, metric="ari"):
    rows = [
        Score(metric, 0.5, "reference", task="clustering", model=model, dataset="d", split=split)
        for model, splits in covered.items()
        for split in splits
    ]
    table = pd.DataFrame([vars(row) for row in rows], columns=SCORE_COLUMNS)
    return table.astype({"value": "float64", "seed": "Int64", "fold": "Int64"})


def test_models_are_compared_on_what_they_share():
    by_splits = list(blocks(table_of({"a": "rstuv", "b": "vutsr", "c": "ts", "d": "r"})))
    assert [("".join(splits), set(rows["model"])) for splits, rows in by_splits] == [
        ("rstuv", {"a", "b"}), ("st", {"a", "b", "c"}), ("r", {"a", "b", "d"}),
    ]  # fmt: skip


def test_a_model_alone_is_no_block_and_a_metric_may_cover_less():
    assert list(blocks(table_of({"a": "rs"}))) == []
    both = pd.concat([table_of({"a": "rs", "b": "rs"}), table_of({"a": "r", "b": "r"}, "nmi")], ignore_index=True)
    whole, part = blocks(both)
    assert whole[0] == ["r", "s"] and set(whole[1]["metric"]) == {"ari"}
    assert part[0] == ["r"] and set(part[1]["metric"]) == {"ari", "nmi"}


@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.sets(st.sampled_from(["r", "s", "t", "u"]), min_size=1), min_size=1, max_size=6
    )
)
def test_every_model_of_a_block_has_every_split_of_it(covered):
    for splits, rows in blocks(table_of(covered)):
        of_models = rows.groupby("model")["split"].agg(set)
        assert len(of_models) > 1 and all(of_model == set(splits) for of_model in of_models)
        assert set(of_models.index) == {model for model, of_model in covered.items() if of_model >= set(splits)}


# --- beside ours -----------------------------------------------------------------------------------------------------


def beside(ours, theirs, sources=None):
    frames = [pd.DataFrame([vars(row) for row in rows], columns=SCORE_COLUMNS) for rows in (ours, theirs)]
    best, published = (frame.astype({"value": "float64", "seed": "Int64", "fold": "Int64"}) for frame in frames)
    return compare_with_published(best, published, sources or {}).to_dict("records")


def of(model, value, metric="ari", profile="reference", **fields):
    return Score(metric, value, profile, task="clustering", model=model, dataset="d", split="s", **fields)


def test_what_two_runs_differ_by_is_allowed():
    limit = TWO_RUNS * SPREAD["ari"]
    ours = [of(name, 0.5 + shift) for name, shift in (("a", 0.99 * limit), ("b", -1.01 * limit))]
    a, b = beside(ours, [of("a", 0.5, source="them"), of("b", 0.5, source="them"), of("c", 0.5)])
    assert (a["verdict"], b["verdict"]) == ("within", "outside") and a["allowed"] == pytest.approx(limit)


def test_the_runs_own_seeds_say_more_than_those_of_other_data():
    ours = [of("a", 0.5), of("a", 0.002, "ari_sd", "corrected"), of("a", 0.9, profile="corrected")]
    (row,) = beside(ours, [of("a", 0.51)])
    assert row["sd"] == 0.002 and row["verdict"] == "outside" and row["ours"] == 0.5


def test_repeats_of_a_model_that_draws_are_allowed_for_and_unknown_ones_not_judged():
    spread = {"them": {"spread": {"a": {"ari": 0.05}}}}
    ours = [of("a", 0.6), of("a", 0.6, "silhouette"), of("b", 0.6)]
    known, unknown, other = beside(ours, [replace(row, value=0.5, source="them") for row in ours], spread)
    assert known["sd"] == pytest.approx(np.hypot(0.05, SPREAD["ari"])) and known["verdict"] == "within"
    assert unknown["verdict"] == "not judged" and np.isnan(unknown["allowed"])
    assert other["verdict"] == "outside"


def test_digits_that_nobody_prints_are_no_difference():
    (row,) = beside([of("a", 0.5004, "silhouette")], [of("a", 0.5, "silhouette")])
    assert row["verdict"] == "within" and row["allowed"] == LEAST


def test_values_of_others_never_mix_into_ours(tmp_path):
    config = made_up.few("linear", "pca_joint", "random", "additive", "ceiling")
    tables = made_up.write_tables(tmp_path / "with", config)
    config["run"]["published"] = []
    without = made_up.write_tables(tmp_path / "without", config)
    first, second = (pd.read_parquet(folder / "scores.parquet") for folder in (tables, without))
    pd.testing.assert_frame_equal(first, second)  # their metadata tell what was published, too
    others = ("published", "anchors", "scores.parquet")
    own = [path.name for path in sorted(without.iterdir()) if not path.name.startswith(others)]
    assert len(own) > 10 and all((tables / name).read_bytes() == (without / name).read_bytes() for name in own)
    assert len(pd.read_csv(tables / "published.csv")) > 300 and pd.read_csv(without / "published.csv").empty
    for name in ("published_summary", "published_ranks", "published_comparisons"):
        assert len(pd.read_csv(tables / f"{name}.csv")) and pd.read_csv(without / f"{name}.csv").empty


def test_an_import_that_failed_is_a_row(tmp_path):
    collect([], tmp_path, published=[tmp_path / "results/published/them.tsv"])
    (row,) = pd.read_csv(tmp_path / "published.csv", keep_default_na=False).to_dict("records")
    assert row["status"] == "failed" and row["source"] == "them" and "logs/import_published/them.log" in row["reason"]
