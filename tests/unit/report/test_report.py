"""The report: what stands in the tables stands on the page, and nothing else does."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import combinations, pairwise
from types import SimpleNamespace
from xml.etree import ElementTree

import made_up
import numpy as np
import pandas as pd
import pytest

from cellgauge.core.errors import CellgaugeError
from cellgauge.files.score import Score, write_scores
from cellgauge.plan.sources import SCRIPTS, code
from cellgauge.report import HERE, render
from cellgauge.report.charts import Dot, dot_plot, rank_diagram, scatter, strip
from cellgauge.report.heat import Cell, HeatTable, Row
from cellgauge.report.pages import overview, splits
from cellgauge.report.pages.gaps import by_task as gaps_by_task
from cellgauge.report.ranking import cliques, letters_of
from cellgauge.report.tradeoffs import frontier
from cellgauge.results import colors as colors
from cellgauge.results.compare import Result
from cellgauge.results.entries import Entry, Metric, Missing, Task, Variant, slug
from cellgauge.results.export import export
from cellgauge.results.numbers import DASH, MINUS, alternatives, as_printed, number, size
from cellgauge.results.read import OF_JSON, OF_METRICS, Tables
from cellgauge.results.scales import Scale
from cellgauge.results.tables import RUNTIME_COLUMNS, collect
from cellgauge.results.words import usual

ARI = Metric("ari", "ARI", higher_is_better=True, low=-0.5, high=1.0)
MSE = Metric("mse", "MSE", higher_is_better=False, low=0.0)
EVIL = "<script>window.hacked=1</script>\"'><img src=x onerror=window.hacked=1>&amp;"
LONG = "a model with a name of three hundred letters " * 7


# --- reading a page --------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """A report's elements: tags with attributes, the text, and every table as {caption, about, head, rows}."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.tables, self.texts = [], [], []
        self._section = self._about = self._row = self._cell = None
        self._within = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self._within.append(tag)
        if tag in ("meta", "link", "br", "input", "img"):
            self._within.pop()
        if tag == "section":
            self._section = attributes["id"]
        elif tag == "figure":
            self._about = {k.removeprefix("data-"): v for k, v in attributes.items() if k.startswith("data-")}
        elif tag == "table":
            self.tables.append({"page": self._section, "about": self._about, "caption": "", "head": [], "rows": []})
        elif tag == "tr":
            self._row = []
        elif tag in ("td", "th") and self._row is not None:
            self._cell = {"text": "", "small": "", "tag": tag, **attributes}
            self._row.append(self._cell)

    def handle_endtag(self, tag):
        while self._within and self._within.pop() != tag:
            pass
        if tag in ("td", "th"):
            self._cell = None
        elif tag == "tr":
            self.tables[-1]["head" if "thead" in self._within else "rows"].append(self._row)
            self._row = None

    def handle_data(self, data):
        if "script" in self._within or "style" in self._within:
            return
        self.texts.append(data)
        if self._cell is not None and "sup" not in self._within:
            self._cell["small" if "small" in self._within else "text"] += data
        elif "caption" in self._within:
            self.tables[-1]["caption"] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def of(self, page: str, **about: str) -> list[dict]:
        return [t for t in self.tables if t["page"] == page and about.items() <= (t["about"] or {}).items()]


def heading(table) -> list[str]:
    return [cell.get("data-key") for cell in table["head"][-1]]


def rows(table) -> dict[str, dict[str, str]]:
    """The texts of a table by the first cell of the row and the heading's key."""
    keys = heading(table)
    return {
        row[0]["text"].strip(): {key: cell["text"].strip() for key, cell in zip(keys, row, strict=True)}
        for row in table["rows"]
    }


def page_of(folder, **changes) -> Page:
    output = folder / "report.html"
    render(folder, output)
    return Page(output.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def report(demo, tmp_path_factory):
    """The file of the demo's report."""
    output = tmp_path_factory.mktemp("demo") / "report.html"
    render(demo, output)
    return output


@pytest.fixture(scope="module")
def page(report):
    return Page(report.read_text(encoding="utf-8"))


@pytest.fixture
def tables(tmp_path):
    """Write score files, by (model, split), and collect them with a catalogue."""

    def write(cells, *, catalogue=None, task="clustering"):
        paths = []
        for (model, split), scores in cells.items():
            path = tmp_path / "results" / "scores" / task / model / "d" / f"{split}.tsv"
            own = {"task": task, "model": model, "dataset": "d", "split": split}
            write_scores(path, [Score(**{**vars(score), **own}) for score in scores])
            paths.append(path)
        output = tmp_path / "tables"
        collect(paths, output, benchmarks=tmp_path / "benchmarks", catalogue=catalogue or {})
        return output

    return write


def described(*metrics, models=(), skipped=()):
    """A catalogue with one task: metrics as Metric, models as {name: kind}."""
    facts = {
        m.name: {
            "title": m.title,
            "description": "what it is",
            "higher_is_better": m.higher_is_better,
            "range": [m.low, m.high],
        }
        for m in metrics
    }
    return {
        "tasks": {"clustering": {"title": "Clustering", "metrics": facts}},
        "models": {name: {"title": name.title(), "kind": kind} for name, kind in dict(models).items()},
        "skipped": list(skipped),
    }


def ari(value, **fields):
    return [Score("ari", value, "corrected", **fields)]


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_every_score_of_every_split_is_on_the_page_as_it_is_in_the_table(demo, page):
    scores = pd.read_csv(
        demo / "scores.csv", keep_default_na=False, na_values=dict.fromkeys(("value", "seed", "fold"), "")
    )
    known = pd.read_csv(demo / "tasks.csv").set_index(["task", "metric"])
    titles = pd.read_csv(demo / "models.csv").set_index("model")["title"]
    whole = scores[
        (scores["status"] == "ok") & scores["fold"].isna() & scores["seed"].isna() & (scores["condition"] == "")
    ]
    checked = 0
    several = whole.groupby("dataset")["split"].transform("nunique") > 1  # a table over splits needs some
    for row in whole[(whole["split"] != "all") & several].itertuples():
        if pd.isna(known.loc[(row.task, row.metric), "higher_is_better"]) or row.metric.endswith("_sd"):
            continue
        if row.classifier not in ("", "mean") and row.metric != "f1":
            continue  # in scores.csv alone: the page would weigh twice as much
        about = {key: getattr(row, key) for key in ("profile", "metric", "classifier", "subset", "dataset")}
        (table,) = [t for t in page.of(f"task-{row.task.replace('_', '-')}", **about) if "ranks" not in t["caption"]]
        cell = rows(table)[titles[row.model]][row.split]
        assert float(cell.replace(MINUS, "-")) == pytest.approx(row.value, abs=0.0005 + 1e-9), about
        checked += 1
    assert checked > 500


def test_overview_and_task_means_equal_the_summary(demo, page):
    summary = pd.read_csv(demo / "summary.csv", keep_default_na=False)
    titles = pd.read_csv(demo / "models.csv").set_index("model")["title"]
    checked = 0
    for row in summary.itertuples():
        if row.classifier not in ("", "mean") or row.metric.endswith("_sd"):
            continue
        task = row.task.replace("_", "-")
        for place, key in (
            ("overview", f"{task}.{row.metric}"),
            (f"task-{task}", ".".join(filter(None, (row.metric, row.subset)))),
        ):
            for table in page.of(place, profile=row.profile, dataset=row.dataset):
                cells = rows(table).get(titles[row.model], {}) if "metric" not in table["about"] else {}
                preferred = place != "overview" or row.subset in ("", "donor_folds")
                if key in cells and preferred and table["about"].get("classifier", row.classifier) == row.classifier:
                    text = cells[key].replace(MINUS, "-").replace(",", "")
                    assert float(text) == pytest.approx(float(row.mean), abs=0.0005 + 1e-9)
                    checked += 1
    assert checked > 200


def test_overview_keeps_profiles_datasets_and_tasks_apart(page):
    found = page.of("overview")
    assert [(t["about"]["profile"], t["about"]["dataset"]) for t in found] == [
        (profile, dataset)
        for profile in ("corrected", "reference")
        for dataset in ("baron_pancreas", "transcriptformer_tests", "planted_pancreas")
    ]
    tasks = [cell.get("data-task") for cell in found[0]["head"][0] if cell["tag"] == "th"]
    assert tasks == ["clustering", "label_prediction", "cross_species", None], "the last are facts of the models"
    assert not any("overall" in str(key) for table in found for key in heading(table))


def test_overview_takes_held_out_donors_where_there_are_such_folds(page):
    corrected, reference = (
        page.of("overview", profile=p, dataset="baron_pancreas")[0] for p in ("corrected", "reference")
    )
    f1 = {
        table["about"]["profile"]: rows(table)["Linear baseline"]["label-prediction.f1"]
        for table in (corrected, reference)
    }
    by_subset = rows(
        page.of("task-label-prediction", profile="corrected", classifier="mean", dataset="baron_pancreas")[-1]
    )
    assert f1["corrected"] == by_subset["Linear baseline"]["f1.donor_folds"]
    assert f1["corrected"] != by_subset["Linear baseline"]["f1.random_folds"]


def test_overview_takes_random_folds_where_few_splits_have_donors(tables):
    def f1(value, subset):
        return Score("f1", value, "corrected", classifier="mean", subset=subset)

    one_donor = Score(profile="corrected", subset="donor_folds", status="not_applicable", reason="one donor")
    cells = {("a", split): [f1(0.9, "random_folds"), one_donor] for split in "stu"}
    cells["a", "u"] = [f1(0.9, "random_folds"), f1(0.2, "donor_folds")]
    catalogue = described(Metric("f1", "F1", higher_is_better=True, low=0.0, high=1.0))
    assert rows(page_of(tables(cells, catalogue=catalogue)).of("overview")[0])["a"]["clustering.f1"] == "0.900"
    cells["a", "t"] = cells["a", "u"]
    page = page_of(tables(cells, catalogue=catalogue))
    assert rows(page.of("overview")[0])["a"]["clustering.f1"] == "0.200"
    assert "without s: one donor" in page.text and "F1, donors held out" in page.text


def test_pictures_come_with_enough_splits(tables):
    cells = {("a", split): ari(0.5) for split in "stuv"}
    assert len(re.findall(r"splits 0.500 to 0.500", str(page_of(tables(cells, catalogue=described(ARI))).tags))) == 1


def test_counts_stand_apart_from_the_scores(page):
    heat = [t["about"]["metric"] for t in page.tables if "metric" in (t["about"] or {})]
    assert "ari" in heat and not {"n_cells", "n_clusters", "n_unembedded", "ari_sd"} & set(heat)
    (counts,) = [
        t
        for t in page.of("task-clustering", profile="corrected", dataset="baron_pancreas")
        if "What" in t["head"][0][0]["text"]
    ]
    assert [row[0]["text"] for row in counts["rows"]] == [
        *("Cells scored", "Cells left out", "Clusters", "Donors", "Batches")
    ]
    assert {row[1]["text"] for row in counts["rows"]} == {"all models"}


def test_models_that_lack_splits_agree_with_the_others_on_counts(page):
    found = page.of("task-clustering", profile="corrected", dataset="transcriptformer_tests")
    (counts,) = [table for table in found if "What" in table["head"][0][0]["text"]]
    assert [row[1]["text"] for row in counts["rows"]] == ["all models"] * 5
    assert DASH not in {cell["text"] for row in counts["rows"] for cell in row}


def test_counts_that_differ_name_their_models(tables):
    clusters = {("a", "s"): 7, ("a", "t"): 9, ("b", "s"): 7, ("b", "t"): 9, ("c", "s"): 8}
    cells = {key: [*ari(0.5), Score("n_clusters", float(n), "corrected")] for key, n in clusters.items()}
    counts = page_of(tables(cells, catalogue=described(ARI))).of("task-clustering")[-1]
    assert [[cell["text"] for cell in row] for row in counts["rows"]] == [
        ["n_clusters", "a, b", "7", "9"],
        ["n_clusters", "c", "8", DASH],
    ]


def test_values_of_single_conditions_do_not_stand_for_the_whole(tables):
    cells = {("a", split): [*ari(0.5), *ari(0.1, condition="T cell")] for split in "st"}
    page = page_of(tables(cells, catalogue=described(ARI)))
    assert {cell["text"] for t in page.of("task-clustering", metric="ari") for cell in t["rows"][0][3:]} == {"0.500"}


def test_the_spread_of_seeds_stands_beside_the_score(demo, page):
    assert "±: standard deviation over seeds" in page.text
    scores = pd.read_csv(demo / "scores.csv", keep_default_na=False)
    one = scores[(scores["metric"] == "ari_sd") & (scores["model"] == "linear") & (scores["split"] == "mouse")]
    assert f"±{float(one['value'].iloc[0]):.3f}" in page.text


def test_the_spread_of_seeds_stands_beside_a_rank_too(tables):
    spread = Metric("ari_sd", "Standard deviation of the ARI over Leiden seeds", higher_is_better=False, low=0.0)
    cells = {}
    for model, value in (("a", 0.5), ("b", 0.6)):
        donors = [Score("ari_without", value + n / 1000, "corrected", condition=f"d{n}") for n in range(6)]
        cells[model, "s"] = [*ari(value), Score("ari_sd", 0.012, "corrected"), *donors]
    kinds = {"a": "foundation", "b": "foundation"}
    page = page_of(tables(cells, catalogue=described(ARI, spread, models=kinds)))
    smalls = [cell_of(page, model)["small"] for model in "AB"]
    assert [small.partition("±")[0] for small in smalls] == ["rank #2", "rank #1"]
    assert all(small.partition("±")[2].startswith("0.012") for small in smalls)


def test_cross_species_shows_mixing_beside_label_transfer(page):
    table = page.of("task-cross-species", profile="corrected", classifier="mean")[0]
    assert heading(table)[1:] == [
        "transfer_f1", "transfer_balanced_accuracy", "bras", "entropy_ratio",
        "n_cells", "n_unembedded", "labels_shared", "labels_not_shared", "n_donors", "n_batches",
    ]  # fmt: skip
    assert "in one species only: schwann cell" in page.text
    (overview,) = page.of("overview", profile="corrected", dataset="baron_pancreas")
    shown = [key for key in heading(overview) if key.startswith("cross-species.")]
    assert shown == [
        f"cross-species.{key}" for key in ("transfer_f1", "transfer_balanced_accuracy", "bras", "entropy_ratio")
    ]


def test_pairs_of_species_have_a_table_of_their_own_and_give_no_interval(demo, page):
    tables = [t for t in page.of("task-cross-species") if "by pair of species" in t["caption"]]
    assert len(tables) == 6  # two scores, by two classifiers and their mean
    for table in tables:
        assert [row["label"] for row in rows(table).values()] == ["human to mouse", "mouse to human"]
    intervals = pd.read_csv(demo / "intervals.csv", keep_default_na=False)
    of_task = intervals[(intervals["task"] == "cross_species") & (intervals["condition"] == "")]
    assert set(of_task["metric"]) == {"bras", "entropy_ratio"} and set(of_task["resampled"]) == {"labels"}


# --- ranks, colors --------------------------------------------------------------------------------------------------


def cell_of(page, model, key="clustering.ari", place="overview"):
    (table,) = page.of(place)[:1]
    at = heading(table).index(key)
    return next(row[at] for row in table["rows"] if row[0]["text"].strip() == model)


def test_ranks_share_a_place_leave_controls_out_and_need_every_split(tables):
    kinds = {"a": "foundation", "b": "baseline", "c": "baseline", "part": "foundation", "noise": "control"}
    spread = np.random.default_rng(1).normal(0, 0.02, (5, 7))
    values = dict(zip(kinds, np.array([[0.6], [0.601], [0.2], [0.9], [0.99]]) + spread, strict=True))
    cells = {(m, split): ari(v) for m, own in values.items() for split, v in zip("stuvwxy", own, strict=True)}
    del cells["part", "t"]
    catalogue = described(ARI, models=kinds, skipped=[["clustering", "part", "d", "t", "no embedding of it"]])
    folder = tables(cells, catalogue=catalogue)
    page = page_of(folder)
    text = (folder / "report.html").read_text()
    first = text[text.index('<table class="heat') : text.index("</table>")]
    shown = dict(re.findall(r'<tr data-model="(\w+)".*?<td[^>]*>[\d.]+(.*?)</td>', first))
    assert [re.findall(r"#\d", shown[m]) for m in "abc"] == [["#1"], ["#1"], ["#3"]]
    assert "rank" not in shown["noise"]
    assert "6 of 7 splits" in shown["part"] and "rank" not in shown["part"]
    assert "class" not in cell_of(page, "Part") and cell_of(page, "Noise")["class"] == "v12"
    assert "n/a: no embedding of it" in page.text
    assert "Part: " in verdicts(page) and "over 6 of 7 splits, above the best baseline there" in verdicts(page)
    assert "beats" in page.text or "Noise" not in verdicts(page)


def test_without_units_that_models_share_there_are_no_ranks(tables):
    cells = {(m, "s"): ari(v) for m, v in (("a", 0.5), ("b", 0.9))}
    page = page_of(tables(cells, catalogue=described(ARI, models={"a": "baseline", "b": "foundation"})))
    assert cell_of(page, "B")["small"] == "" and "there are too few units for a test" in page.text
    assert "B: 0.900, above the best baseline, A (0.500; not tested)." in page.text
    cells[("c", "s")] = ari(0.8)
    models = {"a": "baseline", "b": "foundation", "c": "foundation"}
    page = page_of(tables(cells, catalogue=described(ARI, models=models)))
    assert "Above the best baseline, A (0.500; not tested): B (0.900), C (0.800)." in page.text


def test_lower_is_better_turns_ranks_and_colors(tables):
    page = page_of(
        tables(
            {(m, "s"): [Score("mse", v, "corrected")] for m, v in (("good", 0.001), ("bad", 0.5))},
            catalogue=described(MSE, models={"good": "foundation", "bad": "foundation"}),
        )
    )
    assert cell_of(page, "Good", "clustering.mse")["class"] == "v12"
    assert cell_of(page, "Bad", "clustering.mse")["class"] == "v0"
    assert "lower is better" in page.text


def test_colors_do_not_blow_up_small_differences():
    scale = Scale.of([0.50, 0.51], ARI)
    assert scale.high - scale.low == pytest.approx(0.15)
    assert scale.level(0.51) - scale.level(0.50) <= 1
    for values in ([0.99, 1.0], [1.0], [-0.5, -0.49], [-0.45]):
        scale = Scale.of(values, ARI)
        assert scale.high - scale.low == pytest.approx(0.15)
        assert -0.5 <= scale.low <= min(values) and max(values) <= scale.high <= 1.0 + 1e-12
    assert Scale.of([0.99, 1.0], ARI).high == pytest.approx(1.0)
    assert Scale.of([0.3], MSE).level(0.3) == 6


@pytest.mark.parametrize("anchors", [colors.LIGHT, colors.DARK])
def test_colors_are_ordered_by_lightness_and_leave_text_legible(anchors):
    steps = colors.ramp(anchors)
    light = [colors.luminance(step) for step in steps]
    assert light == sorted(light, reverse=anchors is colors.LIGHT)
    assert min(abs(b - a) for a, b in pairwise(light)) > 0.004
    assert min(colors.contrast(step, colors.text_on(step)) for step in steps) >= 4.5


def test_text_is_legible_on_the_page_in_both_modes():
    style = (HERE / "assets" / "report.css").read_text()
    for block in re.findall(r":root \{(.*?)\}", style, re.S):
        named = dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        for text in ("ink", "soft", "link", "failed"):
            assert colors.contrast(named[text], named["page"]) >= 4.5, text
        assert colors.contrast(named["warn"], named["warn-shade"]) >= 4.5


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0.5, ARI, "0.500"),
        (-0.01234, ARI, f"{MINUS}0.012"),
        (-0.0001, ARI, "0.000"),
        (-10.0, MSE, f"{MINUS}10.0"),
        (0.0016234, MSE, "0.00162"),
        (1234.5, MSE, "1,234"),
        (1.0531, MSE, "1.053"),
        (0.0, MSE, "0.000"),
        (2142.0, Metric("n_cells", "Cells"), "2,142"),
        (12.4, Metric("n_clusters", "Clusters"), "12.4"),
    ],
)
def test_numbers(value, metric, text):
    assert number(value, metric) == text
    assert as_printed(value, metric) == pytest.approx(value, rel=0.05, abs=0.0005)


def test_pictures_hold_one_dot_per_value():
    drawn = str(strip([0.0, 0.5, 1.0], 0.5, 0.0, 1.0, alt='0 to "1"'))
    assert 'd="M5 9h0M60 9h0M115 9h0"' in drawn and 'd="M60 3v12"' in drawn
    assert "0 to &#34;1&#34;" in drawn


def test_the_usual_variant():
    of = [Variant("corrected", "f1", c, s) for c in ("knn", "mean") for s in ("random_folds", "donor_folds")]
    assert usual(of) == Variant("corrected", "f1", "mean", "donor_folds")
    assert usual(of[:1]) == of[0]
    of = [Variant("corrected", "pearson_delta", "", subset) for subset in ("unmasked", "top20_de", "all")]
    assert usual(of) == of[-1]


def lab(color):
    """CIE L*a*b* of an sRGB color (D65), by its definition."""
    rgb = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = to_xyz @ linear / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def ciede2000(first, second):
    """The color difference of two L*a*b* (Sharma, Wu & Dalal 2005, Color Research & Application 30, 21-30)."""
    (l1, a1, b1), (l2, a2, b2) = first, second
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1 + (1 - np.sqrt(mean**7 / (mean**7 + 25**7))) / 2
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, stretch * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    hue = (h1 + (h2 - h1 + 180) % 360 / 2 - 90) % 360 if c1 * c2 else h1 + h2
    cos = lambda times, shift: np.cos(np.radians(times * hue - shift))  # noqa: E731
    t = 1 - 0.17 * cos(1, 30) + 0.24 * cos(2, 0) + 0.32 * cos(3, -6) - 0.2 * cos(4, 63)
    d_l = (l2 - l1) / (1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2))
    d_c = (c2 - c1) / (1 + 0.045 * chroma)
    d_h = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * t)
    rotation = (
        -2 * np.sqrt(chroma**7 / (chroma**7 + 25**7)) * np.sin(np.radians(60) * np.exp(-(((hue - 275) / 25) ** 2)))
    )
    return np.sqrt(d_l**2 + d_c**2 + d_h**2 + rotation * d_c * d_h)


def test_twenty_labels_and_more_have_colors_that_eyes_tell_apart():
    published = [((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425), ((50, 2.5, 0), (73, 25, -18), 27.1492)]
    published += [
        ((50, -0.001, 2.49), (50, 0.0011, -2.49), 4.7461),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ]
    for first, second, distance in published:
        assert ciede2000(first, second) == pytest.approx(distance, abs=1e-4)
    labels = [lab(color) for color in colors.LABELS]
    assert len(labels) >= 20 and min(ciede2000(a, b) for a, b in combinations(labels, 2)) >= 19
    assert min(ciede2000(a, b) for a, b in combinations(labels[:12], 2)) >= 22, "the first ones are the most unlike"
    for ground in ("#ffffff", "#11161d"):
        assert min(ciede2000(color, lab(ground)) for color in labels) >= 18


# --- the pictures of the overview ------------------------------------------------------------------------------------


def bounded(values, metric, models):
    """A result with these means, of which `models` says {name: (kind, uninformed)}."""
    entries = {
        name: Entry(name, name, kind, {"uninformed": str(uninformed)}) for name, (kind, uninformed) in models.items()
    }
    of_metrics = {"clustering": Task("clustering", "Clustering", {metric.name: metric})}
    variant = Variant("corrected", metric.name, "", "")
    key = ("clustering", "d", variant)
    tables = SimpleNamespace(
        models=entries, tasks=of_metrics, metric=lambda task, name: metric, shortfalls={},
        means={key: {name: (value, 1) for name, value in values.items()}},
    )  # fmt: skip
    return Result(tables, "clustering", "d", variant)


@pytest.mark.parametrize("metric", [ARI, MSE])
def test_controls_are_the_ends_of_the_scale(metric):
    sign = 1 if metric.higher_is_better else -1
    kinds = {
        "noise": ("control", True),
        "worse": ("control", True),
        "oracle": ("control", False),
        "a": ("foundation", False),
    }
    generator = np.random.default_rng(3)
    for low, width, place in generator.uniform(0.1, 0.9, (50, 3)):
        values = {
            "noise": low,
            "worse": low - sign * 0.05,
            "oracle": low + sign * width,
            "a": low + sign * width * place,
        }
        result = bounded(values, metric, kinds)
        assert result.bounds == (values["noise"], values["oracle"])
        assert (result.scaled(values["noise"]), result.scaled(values["oracle"])) == ("0.000", "1.000")
        assert float(result.scaled(values["a"])) == pytest.approx(place, abs=6e-4)
    assert bounded({"noise": 0.5, "oracle": 0.5 - sign * 0.1}, metric, kinds).bounds is None, "noise is as good"
    assert bounded({"noise": 0.5, "a": 0.6}, metric, kinds).scaled(0.6) == DASH, "there is no positive control"


def test_a_dot_plot_puts_better_further_right_and_keeps_outliers_inside():
    generator = np.random.default_rng(0)
    for metric in (ARI, MSE):
        values = [*generator.uniform(0.1, 0.3, 12), 5.0 if metric is MSE else 1.0]
        scale = Scale.of_most(values, metric)
        dots = [
            Dot(f"m{n}", f"m{n}", "foundation", v, number(v, metric), DASH, (v, v + 9)) for n, v in enumerate(values)
        ]
        svg = ElementTree.fromstring(str(dot_plot(dots, scale, (0.1, 0.3), 0.2, alt="dots")))
        marks = [p.get("d") for p in svg.iter("path") if "mark" in p.get("class")]
        places = [float(re.match(r"M([\d.]+)", mark)[1]) for mark in marks]
        order = np.argsort(places, kind="stable")
        means = [values[n] for n in order]
        assert means == sorted(means, reverse=metric is MSE)
        assert all(200 < place < 450 for place in places)
        assert [e.get("data-row") for e in svg.iter("g") if e.get("data-row")] == [f"m{n} m{n}" for n in range(13)]


def test_a_dot_plot_writes_what_a_long_name_has_in_brackets_below_it():
    for title, words in {
        "TF-Metazoa (shipped embedding)": ["TF-Metazoa", "shipped embedding"],
        "Random (negative control)": ["Random (negative control)"],
    }.items():
        dot = Dot("m", title, "foundation", 0.5, "0.500", DASH)
        svg = ElementTree.fromstring(str(dot_plot([dot], Scale.of([0.0, 1.0], ARI), None, None, alt="")))
        (row,) = [group for group in svg.iter("g") if group.get("data-row")]
        assert [text.text for text in row.iter("text") if "end" in text.get("class")] == words
        assert row.get("data-row") == f"m {title}"


def test_colors_say_that_outliers_lie_beyond_their_ends():
    assert Scale.of_most([0.01, 0.02, 0.03, 0.02, 9.0], MSE).ends(MSE)[0].startswith("\N{GREATER-THAN OR EQUAL TO} ")
    assert not any(sign in "".join(Scale.of([0.01, 9.0], MSE).ends(MSE)) for sign in "\u2264\u2265")


def test_published_values_stand_beside_ours_in_the_picture_and_the_table(tmp_path):
    own = {"task": "clustering", "dataset": "d", "split": "s"}
    path = tmp_path / "results/scores/clustering/a/d/s.tsv"
    write_scores(path, [Score("ari", 0.5, profile, model="a", **own) for profile in ("reference", "corrected")])
    theirs = tmp_path / "results/published/them.tsv"
    write_scores(theirs, [Score("ari", 0.4, "reference", model="a", source="them", **own)])
    catalogue = {
        **described(ARI, models={"a": "foundation"}),
        "published": {"them": {**described(ARI), "title": "A paper"}},
    }
    collect([path], tmp_path / "tables", catalogue=catalogue, published=[theirs])
    page = page_of(tmp_path / "tables")
    said = [a["aria-label"] for tag, a in page.tags if tag == "svg" and a.get("class") == "dots"]
    assert [text for text in said if "A, published 0.400" in text and "A 0.500" in text], said
    assert sum("published" in text for text in said[:2]) == 1, "not beside recommended scores"
    shown = {
        profile: [[cell["text"] for cell in row[:2]] for row in page.of("overview", profile=profile)[0]["rows"]]
        for profile in ("reference", "corrected")
    }
    assert shown["reference"][0][0].startswith("A") and shown["reference"][1][0].startswith("A, published")
    assert shown["reference"][1][1] == "0.400"
    assert not any("published" in row[0] for row in shown["corrected"])


# --- what is missing -------------------------------------------------------------------------------------------------


def test_gaps_say_why_below_the_table_and_on_their_page(page):
    (table,) = page.of("task-clustering", profile="corrected", metric="ari", dataset="transcriptformer_tests")
    cells = rows(table)["TF-Sapiens (shipped embedding)"]
    assert (cells["chicken_embryo"], cells["mouse_brain"]) == ("n/a", "n/a") and float(cells["human_heart"]) > 0
    assert "n/a: the model has no embedding of this split" in page.text
    (table,) = page.of("task-clustering", profile="corrected", metric="ari", dataset="baron_pancreas")
    assert rows(table)["Harmony (batches)"]["human"] == "failed"
    assert "failed: out of memory" in page.text
    assert "TF-Sapiens (shipped embedding)" not in rows(table)
    assert "Not in this table: TF-Sapiens (shipped embedding), TF-Metazoa (shipped embedding)" in page.text
    failed, *folded = page.of("gaps")
    assert ["out of memory", "Harmony (batches)", "Baron pancreas", "all", "Clustering", "all"] in [
        [cell["text"] for cell in row] for row in failed["rows"]
    ]
    (row,) = [row for table in folded for row in table["rows"] if "not for this task" in row[0]["text"]]
    assert "Linear baseline" in row[1]["text"] and "Additive" not in row[1]["text"]


def test_reasons_that_differ_in_numbers_alone_are_one_gap(tables):
    cells = [
        Score("ari", profile="corrected", subset=f"part{n}", status="not_applicable", reason=f"only {n} cells of type2")
        for n in (3, 5)
    ]
    (table,) = page_of(tables({("a", "s"): [*ari(0.5), *cells]}, catalogue=described(ARI))).of("gaps")
    assert [row[0]["text"] for row in table["rows"]] == ["only N cells of type2"]


def test_many_gaps_are_folded_by_task():
    few, many = ([{"task": f"t{n % 2}", "reason": str(n)} for n in range(size)] for size in (30, 31))
    assert gaps_by_task([]) == {} and gaps_by_task(few) == {"": few}
    assert gaps_by_task(many) == {"t0": many[::2], "t1": many[1::2]}


def test_a_missing_score_is_never_a_number(page):
    checked = 0
    for table in page.tables:
        for row in table["rows"]:
            if row[0]["text"].strip() == "Harmony (batches)" and table["page"] != "cost":
                scores = [c for c, key in zip(row, heading(table), strict=True) if not str(key).startswith("about.")]
                assert {cell["text"] for cell in scores[1:]} <= {"failed", "n/a", ""}
                checked += any(cell["text"] == "failed" for cell in row[1:])
    assert checked >= 8


def test_the_most_specific_reason_wins(tables):
    rows_ = [
        *ari(0.5),
        Score("nmi", profile="corrected", status="not_applicable", reason="one label"),
        Score("nmi", profile="corrected", fold=1, status="failed", reason="a fold broke"),
    ]
    catalogue = described(ARI, Metric("nmi", "NMI", higher_is_better=True))
    folder = tables({("a", "s"): rows_, ("b", "s"): [*ari(0.4), Score("nmi", 0.3, "corrected")]}, catalogue=catalogue)
    found = Tables.read(folder)
    assert found.why("clustering", "d", "a", "s", Variant("corrected", "nmi", "", "")).reason == "a fold broke"
    assert (
        found.why("clustering", "d", "a", "s", Variant("reference", "nmi", "", "")).reason
        == "the score file holds no such value"
    )
    text = page_of(folder).text
    assert "failed: a fold broke" in text and "NMI \N{MIDDLE DOT} fold 1" in text


def test_splits_to_which_nothing_applies_do_not_count_against_a_model(tables):
    cells = {
        ("a", "s"): ari(0.5),
        ("a", "t"): [Score("ari", profile="corrected", status="not_applicable", reason="one label")],
    }
    page = page_of(tables(cells, catalogue=described(ARI, models={"a": "foundation"})))
    assert cell_of(page, "A")["text"] == "0.500" and "class" in cell_of(page, "A")
    assert "without t: one label" in page.text


def test_remarks_on_values_become_notes(tables):
    page = page_of(tables({("a", "s"): ari(0.5, reason="only 30 cells")}, catalogue=described(ARI)))
    assert "only 30 cells" in page.text


def test_notes_are_lettered_beyond_z():
    notes = [Missing("failed", str(n % 28)) for n in range(30)]
    row = Row(Entry("m", "M"), [Cell("failed", note=note) for note in notes])
    letters = HeatTable("", [], [row], {}).notes
    marks = [letters[note] for note in notes]
    assert marks[:2] + marks[25:] == ["a", "b", "z", "aa", "ab", "a", "b"]


def test_what_files_say_of_themselves_is_on_the_page(tables, tmp_path):
    import h5py

    for path, facts in {
        "embeddings/a/d/s.h5ad": {"n_dims": 64, "notes": "642 of 2,142 cells have no row\nnot taken: celltype <b>"},
        "embeddings/a/d/gone.h5ad": {"n_dims": 1, "not_applicable": "one batch"},  # a column of NaN is no embedding
        "splits/d/s.h5ad": {"notes": "column 'label': the text 'na' counts as a missing value"},
    }.items():
        file = tmp_path / "results" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(file, "w") as opened:
            for group in ("obs", "var", "X", "uns"):
                opened.create_group(group)
            for key, value in facts.items():
                opened["uns"][key] = value
    catalogue = described(ARI, models={"a": "precomputed"}) | {"datasets": {"d": {"title": "The data"}}}
    folder = tables({("a", "s"): ari(0.5), ("a", "gone"): ari(0.4)}, catalogue=catalogue)
    page = page_of(folder)
    (notes,) = [t for t in page.of("gaps") if "left out of files" in t["caption"]]
    assert [[cell["text"] for cell in row] for row in notes["rows"]] == [
        ["column 'label': the text 'na' counts as a missing value", DASH, "The data", "s"],
        ["642 of 2,142 cells have no row; not taken: celltype <b>", "A", "The data", "s"],
    ]
    assert rows(page.of("overview")[0])["A"]["about.n_dims"] == "64"
    assert "Notes on your files" not in page_of(tables({("a", "t"): ari(0.5)}, catalogue=described(ARI))).text


def test_everything_failed(tmp_path):
    models = ("linear", "random", "additive")
    page = page_of(made_up.write_tables(tmp_path, made_up.few(*models), failed=dict.fromkeys(models, "no disk")))
    assert "no disk" in page.text
    assert "No score succeeded" in page.text
    assert any(table["page"] == "gaps" for table in page.tables)


def test_no_scores_at_all(tmp_path):
    collect([], tmp_path / "tables")
    page = page_of(tmp_path / "tables")
    assert "No score succeeded" in page.text and "Nothing failed" in page.text


def test_scores_without_a_catalogue(tables):
    page = page_of(tables({("a", "s"): ari(0.5)}))
    assert "0.500" in page.text and "made without a catalogue" in page.text
    assert {t["page"] for t in page.tables} == {"task-clustering"}


# --- names are the users' --------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(demo, tmp_path):
    """The demo's tables with a hostile text in every cell that is text, models and all."""
    names = pd.read_csv(demo / "models.csv")["model"]
    evil = {"linear": EVIL, "hvg": LONG, "oracle": "NA", "random": '"><script>1</script>'}
    evil |= {name: f"{name}' onmouseover='window.hacked=1" for name in names if name not in evil}
    for source in demo.glob("*.csv"):
        table = pd.read_csv(source, dtype=str, keep_default_na=False)
        if "model" in table:
            table["model"] = table["model"].map(evil)
        for column in ("title", "description", "licence", "citation", "reason", "task_title", "source"):
            if column in table:
                table[column] = table[column].where(table[column] == "", table[column] + EVIL)
        if "dataset" in table:
            table["dataset"] = table["dataset"].replace("baron_pancreas", f"baron {EVIL}")
        if "split" in table:
            table["split"] = table["split"].replace("mouse", f"mouse {EVIL}")
        if source.name == "models.csv":
            table["url"] = "javascript:window.hacked=1"
        table.to_csv(tmp_path / source.name, index=False)
    places = pd.read_parquet(demo / "layouts.parquet").astype({"model": str, "label": str, "batch": str})
    places = places.assign(model=places["model"].map(evil), label=places["label"] + EVIL, batch=places["batch"] + EVIL)
    places.to_parquet(tmp_path / "layouts.parquet")
    return tmp_path


def test_hostile_names_show_as_text(hostile, page):
    found = page_of(hostile)
    assert sum(tag == "script" for tag, _ in found.tags) == 1
    assert not any(tag == "img" for tag, _ in found.tags)
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert not [a["href"] for tag, a in found.tags if tag == "a" and "script:" in a.get("href", "")]
    assert {tag for tag, _ in found.tags} == {tag for tag, _ in page.tags} | {"span"}
    assert EVIL in found.text and LONG.strip() in found.text
    assert any(row[0]["text"].strip().startswith("TF-Sapiens") for table in found.tables for row in table["rows"])


def test_a_model_may_be_called_na(tables):
    page = page_of(tables({("NA", "s"): ari(0.5), ("null", "s"): ari(0.4)}, catalogue=described(ARI)))
    assert set(rows(page.of("overview")[0])) == {"NA", "null"}


def test_models_of_one_title_are_told_apart(tables):
    catalogue = described(ARI)
    catalogue["models"] = {name: {"title": "Random", "kind": "control"} for name in ("random", "random@43")}
    page = page_of(tables({("random", "s"): ari(0.5), ("random@43", "s"): ari(0.4)}, catalogue=catalogue))
    assert set(rows(page.of("overview")[0])) == {"Random (random)", "Random (random@43)"}


def test_ids_of_tasks_are_safe_and_unlike():
    assert slug("label_prediction") == "label-prediction"
    assert slug('"><script>', ["script"]) == "script-2"
    assert slug("...") == "x"


# --- how sure the numbers are ----------------------------------------------------------------------------------------


def test_intervals_stand_below_the_means(demo, page):
    summary = pd.read_csv(demo / "summary.csv", keep_default_na=False)
    titles = pd.read_csv(demo / "models.csv").set_index("model")["title"]
    checked = 0
    for row in summary[(summary["metric"] == "silhouette") & (summary["resampled"] != "")].itertuples():
        (table,) = page.of("overview", profile=row.profile, dataset=row.dataset)
        at = heading(table).index("clustering.silhouette")
        (found,) = [r[at] for r in table["rows"] if r[0]["text"].strip() == titles[row.model]]
        if row.n_splits == len(splits_of(demo, row.dataset)):
            assert f"{float(row.low):.3f} to {float(row.high):.3f}" in found["small"]
            checked += 1
    assert checked >= 8
    assert "95 % confidence interval over donors" in page.text


def splits_of(demo, dataset):
    scores = pd.read_csv(demo / "scores.csv", keep_default_na=False)
    return {s for s in scores.loc[scores["dataset"] == dataset, "split"] if s != "all"}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Tables of four models on twelve splits: two alike, one far behind, one control."""
    folder = tmp_path_factory.mktemp("many")
    generator, paths = np.random.default_rng(0), []
    for split in "abcdefghijkl":
        for model, skill in {"good": 0.8, "twin": 0.8, "poor": 0.3, "noise": 0.0}.items():
            path = folder / "results/scores/clustering" / model / "d" / f"{split}.tsv"
            own = {"task": "clustering", "model": model, "dataset": "d", "split": split}
            value = float(skill + generator.normal(0, 0.01))
            write_scores(path, [Score("ari", value, "corrected", **own)])
            paths.append(path)
    models = {"good": "foundation", "twin": "foundation", "poor": "baseline", "noise": "control"}
    collect(paths, folder / "tables", catalogue=described(ARI, models=models))
    return folder / "tables"


def test_who_can_be_told_apart(many):
    page = page_of(many)
    (table,) = [t for t in page.of("task-clustering") if "ranks" in t["caption"]]
    found = rows(table)
    assert set(found) == {"Good", "Twin", "Poor"}
    assert found["Good"]["group"] == found["Twin"]["group"] == "a" and found["Poor"]["group"] == "b"
    assert found["Good"]["ahead"] == "Poor" and found["Poor"]["ahead"] == DASH
    ranks = pd.read_csv(many / "ranks.csv").set_index("model")["mean_rank"]
    assert {name.lower(): float(row["mean_rank"]) for name, row in found.items()} == ranks.round(2).to_dict()
    assert {name: row["rank"] for name, row in found.items()} == {"Good": "1", "Twin": "1", "Poor": "3"}
    assert "Over 12 splits." in page.text
    (diagram,) = [a["aria-label"] for tag, a in page.tags if tag == "svg" and a.get("class") == "ranks"]
    assert f"Poor {ranks['poor']:.2f}. Bars join models that do not differ significantly: " in diagram
    assert {"Good", "Twin"} == set(diagram.rpartition(": ")[2].rstrip(".").split(", "))


def told_apart(*pairs):
    return {frozenset(pair): pair[0] for pair in pairs}


def test_letters_join_those_that_no_test_tells_apart():
    def letters(order, better):
        found = letters_of(cliques(order, better))
        return ["".join(letter for letter, group in found if model in group) for model in order]

    assert letters("abcd", {}) == ["a"] * 4
    assert letters("abcd", told_apart("ac", "ad", "bd")) == ["a", "ab", "bc", "c"]
    assert letters("abcd", told_apart("ab", "ac", "ad")) == ["a", "b", "b", "b"]
    assert letters("abc", told_apart("ab")) == ["a", "b", "ab"], "the outer two differ less than their neighbor says"


def test_cliques_are_those_of_networkx():
    from networkx import find_cliques, from_numpy_array

    generator = np.random.default_rng(0)
    for n in (2, 5, 12, 30):
        order = [f"m{place}" for place in range(n)]
        skill = np.sort(generator.normal(size=n))
        apart = np.abs(skill[:, None] - skill + generator.normal(0, 0.1, (n, n))) > 1
        apart = np.triu(apart, 1) | np.triu(apart, 1).T
        better = {frozenset((order[a], order[b])): order[a] for a, b in np.argwhere(apart)}
        expected = ([order[place] for place in group] for group in find_cliques(from_numpy_array(~apart)))
        assert sorted(map(sorted, cliques(order, better))) == sorted(map(sorted, expected))


def test_letters_go_on_as_numbers():
    found = letters_of([[str(n)] for n in range(54)])
    assert [letter for letter, _ in found][24:28] == ["y", "z", "A", "B"] and found[-1][0] == ",54"


def drawing(points, bars):
    return ElementTree.fromstring(str(rank_diagram(points, bars)))


def test_the_diagram_has_a_name_a_line_and_its_bars_for_each_model():
    svg = drawing([("best", 1.25), ("<second>", 2.0), ("third", 2.75)], [("a", [0, 1]), ("b", [1, 2])])
    said = [text.text.strip() for text in svg.iter("text")]
    assert said == ["1", "2", "3", "a", "b", "best 1.25", "<second> 2.00", "2.75 third"]
    axis, leaders, *of_bars = (
        [float(x) for x in re.findall(r"(?<=[MH])[0-9.]+", p.get("d"))] for p in svg.iter("path")
    )
    first, last = axis[:2]
    expected = [first + (rank - 1) / 2 * (last - first) for rank in (1.25, 2.0, 2.75)]
    assert leaders[::2] == pytest.approx(expected, abs=0.06)
    bar_a, dots_a, bar_b, dots_b = of_bars
    assert bar_a == dots_a == leaders[:4:2] and bar_b == dots_b == leaders[2::2]
    assert "Bars join models that do not differ significantly: best, <second>; <second>, third." in svg.get(
        "aria-label"
    )


def test_no_name_of_a_scatter_hides_another():
    points = [(f"a model {n}", "baseline", 100.0 + n % 3, 0.5 + 0.01 * (n // 3)) for n in range(1, 13)]
    svg = ElementTree.fromstring(str(scatter(points, {1}, "ARI", alt="dots")))
    names = [t for t in svg.iter("text") if "name" in (t.get("class") or "").split()]
    assert {t.text for t in names} <= {name for name, *_ in points} and len(names) >= 8, "where there is no room"
    assert [t.text for t in svg.iter("title")] == [name for name, *_ in points], "the mark names itself"
    places = [(float(t.get("x")), float(t.get("y"))) for t in names]
    for (x, y), (other_x, other_y) in combinations(places, 2):
        assert abs(x - other_x) >= 40 or abs(y - other_y) >= 9


def test_the_diagram_of_thirty_models_stays_legible():
    names = [f"{'a foundation model with a long name' * 3} {n}" for n in range(30)]
    bars = [(str(n), [n, n + 3]) for n in range(26)]
    svg = drawing([(name, 1.0 + n) for n, name in enumerate(names)], bars)
    texts = [text for text in svg.iter("text") if text.find("title") is not None]
    assert [text.find("title").text for text in texts] == names
    assert all(len(text.text) <= 50 and "…" in text.text for text in texts)
    at_left = [float(text.get("y")) for text in texts if text.get("class") == "end"]
    at_right = sorted(float(text.get("y")) for text in texts if text.get("class") != "end")
    assert len(at_left) == 15 and min(np.diff(at_left)) >= 16 and min(np.diff(at_right)) >= 16
    joins = [
        [float(x) for x in re.findall(r"[0-9.]+", p.get("d"))] for p in svg.iter("path") if p.get("class") == "join"
    ]
    for first, second in combinations(joins, 2):
        assert first[1] != second[1] or first[2] < second[0], "bars on one level do not touch"
    assert max(y for _, y, _ in joins) < min(at_left) - 4
    assert float(svg.get("height")) >= max(at_left)
    assert 8 * max(len(text.text) for text in texts) < float(svg.get("width")) / 2, "names fit beside the axis"


# --- which model for what ----------------------------------------------------------------------------------------------


def verdicts(page, profile="corrected"):
    """The sentences of the overview, by task and dataset."""
    text = (page.text[: page.text.index("There is no overall score")]).rpartition("Best model per task")[2]
    return " ".join(text.split())


def test_a_verdict_says_how_sure_it_is(many):
    said = verdicts(page_of(many))
    means = pd.read_csv(many / "summary.csv").set_index("model")["mean"]
    best, other = ("Good", "Twin") if means["good"] > means["twin"] else ("Twin", "Good")
    assert f"{best} scores best, but not significantly better than {other} over 12 splits." in said
    assert f"Above the best baseline, Poor ({means['poor']:.3f}): {best} ({means[best.lower()]:.3f}), {other} (" in said
    assert "beats" not in said


def cells_of(values, n_splits, task="clustering", metric="ari"):
    """Score rows of models on splits: {model: [value of each split]}."""
    return [
        ({"task": task, "model": model, "dataset": "d", "split": f"s{split}"}, Score(metric, value, "corrected"))
        for model, own in values.items()
        for split, value in enumerate(own[:n_splits])
    ]


def verdict_of(tmp_path, values, models, n_splits=99, metric=ARI):
    paths = []
    for own, row in cells_of(values, n_splits, metric=metric.name):
        paths.append(tmp_path / f"results/scores/clustering/{own['model']}/d/{own['split']}.tsv")
        write_scores(paths[-1], [Score(**{**vars(row), **own})])
    collect(paths, tmp_path / "tables", catalogue=described(metric, models=models))
    models_csv = pd.read_csv(tmp_path / "tables/models.csv")
    models_csv = models_csv.assign(uninformed=["True" if name == "random" else "" for name in models_csv["model"]])
    models_csv.to_csv(tmp_path / "tables/models.csv", index=False)
    return verdicts(page_of(tmp_path / "tables"))


def test_a_model_that_wins_everywhere_is_ahead(tmp_path):
    values = {"a": np.linspace(0.8, 0.9, 9), "b": np.linspace(0.4, 0.52, 9), "random": np.linspace(0, 0.01, 9)}
    said = verdict_of(tmp_path, values, {"a": "baseline", "b": "foundation", "random": "control"})
    assert "A scores best, significantly better than every other model over 9 splits." in said
    assert "B: 0.460, below the best baseline, A (0.850)." in said


def test_few_splits_and_noise_that_wins_are_said(tmp_path):
    values = {"a": [0.8, 0.7], "b": [0.5, 0.5], "c": [0.9], "random": [0.99, 0.98]}
    models = {"a": "foundation", "b": "foundation", "c": "foundation", "random": "control"}
    said = verdict_of(tmp_path, values, models)
    assert "No model beats Random (0.985); the best is A (0.750)." in said
    assert "There is no baseline to compare with." in said
    assert "C: 0.900 over 1 of 2 splits." in said
    page = page_of(tmp_path / "tables")
    assert "Random (0.985), which knows nothing about the cells, beats A (0.750) and B (0.500)." in page.text
    assert page.text.count("beats A (0.750)") == 1, "on the page of the task; the overview's sentence says it"


def test_fewer_than_two_models_are_not_compared(tmp_path):
    said = verdict_of(tmp_path, {"a": [0.5], "random": [0.1]}, {"a": "foundation", "random": "control"})
    assert "Fewer than two models can be compared." in said and "scores best" not in said


def test_verdicts_of_the_demo_are_those_of_the_table(demo, page):
    summary = pd.read_csv(demo / "summary.csv", keep_default_na=False)
    own = summary[
        (summary["metric"] == "ari") & (summary["profile"] == "corrected") & (summary["dataset"] == "baron_pancreas")
    ]
    models = pd.read_csv(demo / "models.csv").set_index("model")
    own = own[own["model"].map(models["kind"]) != "control"].assign(mean=own["mean"].astype(float))
    best = own.loc[own["mean"].idxmax()]
    assert f"{models.loc[best['model'], 'title']} scores best" in verdicts(page)


def test_numbers_of_one_scale_keep_three_digits():
    assert [number(value, MSE) for value in (0.023, 0.0295, 0.1, 12.0, 123.4, 4321.0)] == [
        "0.0230", "0.0295", "0.100", "12.0", "123", "4,321",
    ]  # fmt: skip


def test_what_was_drawn_is_told_once():
    assert alternatives(["donors, seeds", "donors", "folds"]) == "donors, seeds or folds"
    assert alternatives(["splits"]) == "splits"


# --- split by split --------------------------------------------------------------------------------------------------


def data_of(page, key):
    return [json.loads(a[key]) for _, a in page.tags if key in a]


def test_the_f1_of_each_label_is_that_of_the_table(demo, page):
    scores = pd.read_csv(demo / "scores.csv", keep_default_na=False)
    f1 = scores[(scores["metric"] == "f1") & (scores["condition"] != "") & (scores["subset"] == "donor_folds")]
    f1 = f1[(f1["split"] == "mouse") & (f1["classifier"] == "mean")]
    (table,) = [t for t in page.of("splits") if t["caption"].startswith("Labels of mouse:")]
    found, checked = rows(table), 0
    for row in f1.itertuples():
        assert float(found[row.condition][f"of.{row.model}"]) == pytest.approx(float(row.value), abs=0.0005 + 1e-9)
        checked += 1
    assert checked > 50
    assert [row["cells"] for row in found.values()][:2] == ["200", "180"]


def test_pictures_hold_the_places_of_the_table(demo, page):
    layouts = pd.read_parquet(demo / "layouts.parquet")
    pictures = data_of(page, "data-cells")
    assert len(pictures) == 5
    first = pictures[0]  # Baron, human
    own = layouts[
        (layouts["dataset"] == "baron_pancreas") & (layouts["split"] == "human") & (layouts["model"] == "linear")
    ]
    (packed,) = [data for name, _, data in first["models"] if name == "linear"]
    places = np.frombuffer(base64.b64decode(packed), np.uint8).reshape(-1, 2)
    expected = own.assign(cell=own["cell"].astype(str)).sort_values("cell")
    assert np.abs(places / 254 - expected[["x", "y"]].to_numpy()).max() <= 0.5 / 254 + 1e-6
    codes = np.frombuffer(base64.b64decode(first["label_of"]), np.uint8)
    assert [first["label"][code] for code in codes] == expected["label"].astype(str).tolist()


def test_mistakes_are_shares_of_each_labels_cells(demo, page):
    scores = pd.read_csv(demo / "scores.csv", keep_default_na=False)
    own = scores[(scores["metric"] == "confusion") & (scores["subset"] == "donor_folds") & (scores["model"] == "hvg")]
    own = own[(own["dataset"] == "baron_pancreas") & (own["split"] == "human")].assign(
        value=lambda t: t["value"].astype(float)
    )
    pairs = {tuple(json.loads(row.condition)): row.value for row in own.itertuples()}
    about = data_of(page, "data-mistakes")[0]
    (shares,) = [shares for name, _, shares in about["models"] if name == "hvg"]
    for true, predicted, share in shares:
        label = about["labels"][true]
        whole = sum(n for (first, _), n in pairs.items() if first == label)
        assert share == pytest.approx(pairs[label, about["labels"][predicted]] / whole, abs=6e-4)
    assert len(shares) == len(pairs)


def test_pictures_shrink_where_there_are_many(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "PICTURES_BYTES", 20_000)
    for source in (*demo.glob("*.csv"), demo / "layouts.parquet"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    pictures = data_of(page_of(tmp_path), "data-cells")
    assert 12_000 < sum(len(packed) for picture in pictures for *_, packed in picture["models"]) < 21_000


def test_species_of_labels_stand_on_the_page_of_the_task(page):
    (table,) = [t for t in page.of("task-cross-species") if "cells of each label and species" in t["caption"]]
    assert rows(table)["cell type A"] == {"label": "cell type A", "of.human": "200", "of.mouse": "200"}
    assert [t["caption"] for t in page.of("task-cross-species") if ", by label" in t["caption"]] == [
        f"Baron pancreas, all: human, mouse: {title}, by label, recommended scores"
        for title in ("BRAS of species within labels", "Species mixing within labels, relative to random")
    ]


@pytest.fixture(scope="module")
def of_sets(tmp_path_factory):
    models = ["tf_metazoa", "tf_exemplar", "uce_4l", "random", "oracle"]
    run = {"models": models, "datasets": ["spermatogenesis"], "tasks": ["clustering", "cross_species"]}
    return made_up.write_tables(tmp_path_factory.mktemp("sets"), made_up.configuration({"run": run}))


def test_sets_have_tables_of_their_own_with_their_species(of_sets):
    page = page_of(of_sets)
    summary = pd.read_csv(of_sets / "summary.csv", keep_default_na=False)
    ours = summary[(summary["metric"] == "entropy_ratio") & (summary["profile"] == "corrected")]
    means = ours[ours["subset"] == ""].set_index(["set", "model"])["mean"].astype(float)
    assert ("all", "uce_4l") not in means and ("common", "uce_4l") in means
    captions = [table["caption"] for table in page.of("task-cross-species")]
    common, everything = (
        "common: human, mouse, rhesus macaque",
        "all: chicken, chimpanzee, gorilla, human, marmoset",
    )
    for name, words in (("common", common), ("all", everything)):
        (table,) = [
            t
            for t in page.of("task-cross-species", profile="corrected", classifier="mean")
            if t["caption"].startswith(f"Spermatogenesis, {words}")
        ]
        shown = rows(table)
        for model, title in (("tf_metazoa", "TF-Metazoa"), ("tf_exemplar", "TF-Exemplar")):
            text = next(value for key, value in shown[title].items() if key == "entropy_ratio")
            assert float(text) == pytest.approx(means[name, model], abs=0.0005 + 1e-9)
        assert ("UCE, 4 layers" in shown) == (name == "common")
    assert sum("by label" in caption and common in caption for caption in captions) == 2
    for words in (common, "all: 9 species"):
        assert f"Cross-species integration ({words})" in page.text
    assert "chicken: the model does not support chicken" in page.text


def test_a_set_is_no_split_more(of_sets):
    tables = Tables.read(of_sets)
    assert {what: n for n, what, _ in overview.facts(tables)}["splits"] == "9"
    assert set(tables.splits("cross_species", "spermatogenesis")) == {"common", "all"}
    assert set(pd.read_csv(of_sets / "comparisons.csv")["task"]) == {"clustering", "cross_species"}
    export(of_sets, of_sets.parent)
    results = json.loads((of_sets.parent / "czbenchmarks.json").read_text())
    spans = {len(r["datasets"]) for r in results["task_results"] if r["task_name"] == "cross_species"}
    assert spans == {3, 9}


def test_strata_of_a_screen_are_those_of_the_table(demo, page):
    summary = pd.read_csv(demo / "summary.csv", keep_default_na=False)
    (table,) = page.of("task-perturbation", profile="corrected", metric="mse", subset="top20_de")[:1]
    assert heading(table)[-3:] == ["unseen_single", "combo_seen1", "combo_seen2"]
    own = summary[(summary["metric"] == "mse") & (summary["profile"] == "corrected")].set_index(["model", "subset"])[
        "mean"
    ]
    found = rows(table)
    for key in ("unseen_single", "combo_seen1", "combo_seen2"):
        text = found["Training mean"][key].replace(MINUS, "-")
        assert float(text) == pytest.approx(float(own["training_mean", f"top20_de/{key}"]), abs=0.0005 + 1e-9)
    mean = float(found["Training mean"]["mean"].replace(MINUS, "-"))
    assert mean == pytest.approx(float(own["training_mean", "top20_de"]), abs=0.0005 + 1e-9)
    assert found["Additive"]["combo_seen1"] == "n/a"


def test_models_of_a_screen_are_compared_over_conditions(demo, page):
    (contest,) = [
        t
        for t in page.of("task-perturbation", profile="corrected", metric="mse", subset="all")
        if "ranks" in t["caption"]
    ]
    assert "Training mean" in rows(contest) and "Additive" not in rows(contest)
    assert "Over 6 conditions." in page.text
    intervals = pd.read_csv(demo / "intervals.csv", keep_default_na=False)
    own = intervals[
        (intervals["task"] == "perturbation") & (intervals["subset"] == "all") & (intervals["metric"] == "mse")
    ]
    drawn = own.set_index(["model", "profile"])[["resampled", "n_resampled"]]
    assert drawn.loc[("training_mean", "corrected")].tolist() == ["conditions", 6]


def test_a_model_that_predicts_some_conditions_has_no_rank(page):
    (table,) = [t for t in page.of("task-perturbation", profile="corrected") if "one value per model" in t["caption"]]
    at = heading(table).index("mse.all")
    ranked = {row[0]["text"].strip(): "rank" in row[at]["small"] for row in table["rows"]}
    assert ranked["Training mean"] and not ranked["Additive"] and not ranked["Ceiling (positive control)"]


# --- anchors, cost, models -------------------------------------------------------------------------------------------


def test_published_numbers_beside_ours(tmp_path):
    own = {"task": "clustering", "dataset": "d", "split": "s"}
    paths = [tmp_path / f"results/scores/clustering/{model}/d/s.tsv" for model in "ab"]
    for model, value, path in zip("ab", (0.515, 0.4), paths, strict=True):
        row = Score("ari", value, "reference", model=model, **own)
        write_scores(path, [row, Score("ari", 0.9, "corrected", model=model, **own)])
    theirs = [Score("ari", 0.5, "reference", model=model, source="them", **own) for model in "abc"]
    write_scores(tmp_path / "results/published/them.tsv", theirs)
    catalogue = {**described(ARI), "published": {"them": {**described(ARI), "title": "A paper", "version": "0.1"}}}
    collect(paths, tmp_path / "tables", catalogue=catalogue, published=[tmp_path / "results/published/them.tsv"])
    page = page_of(tmp_path / "tables")
    beside, values = page.of("published")
    found = {row[1]["text"]: [cell["text"] for cell in row] for row in beside["rows"]}
    assert found["a"][0] == "within" and found["a"][4:8] == ["0.500", "0.515", "+0.015", "0.0443"]
    assert found["b"][0] == "outside" and found["b"][6] == f"{MINUS}0.100" and found["b"][8] == "A paper"
    assert set(found) == {"a", "b"} and set(rows(values)) == {"a", "b", "c"}
    assert "1 within the allowed difference, 1 outside." in page.text and "not run here" in page.text


def test_without_published_numbers_there_is_no_page_of_them(tables):
    assert not page_of(tables({("a", "s"): ari(0.5)})).of("published")


def test_published_values_are_on_the_page_as_they_are_in_the_table(demo, page):
    published = pd.read_csv(demo / "published.csv", keep_default_na=False)
    titles = json.loads(pd.read_csv(demo / "published_sources.csv")["models"].iloc[0])
    atlas = published[(published["dataset"] == "tabula_sapiens_v2") & (published["status"] == "ok")]
    atlas = atlas[atlas["source"] == "czbenchmarks_2025_05"]
    shown = [
        (table, rows(table))
        for table in page.of("published")
        if "subset" in table["about"] and "ranks" not in table["caption"]
    ]
    checked = 0
    for table, found in shown:
        about = table["about"]
        own = atlas[(atlas["metric"] == about["metric"]) & (atlas["classifier"] == about["classifier"])]
        for row in own.itertuples():
            cells = found.get(titles[row.model]["title"], {})
            if row.split in cells:
                assert float(cells[row.split]) == pytest.approx(float(row.value), abs=0.0005 + 1e-9)
                checked += 1
    assert (
        checked == len(atlas) + 3 * 5 * atlas[["metric", "classifier"]].drop_duplicates().shape[0]
    )  # three models twice
    assert not {t["page"] for t in page.tables if any("as benchmarked" in c["text"] for r in t["rows"] for c in r)} - {
        "published"
    }


def test_speed_is_cells_over_seconds(demo, page):
    (table,) = [t for t in page.of("cost") if t["caption"] == "Quality and cost on Baron pancreas"]
    scores = pd.read_csv(demo / "scores.csv", keep_default_na=False)
    cells = scores[
        (scores["metric"] == "n_cells") & (scores["condition"] == "") & (scores["dataset"] == "baron_pancreas")
    ]
    cells = cells[(cells["model"] == "hvg") & (cells["split"] != "all") & (cells["task"] == "clustering")]
    n = cells[cells["profile"] == "corrected"]["value"].astype(float).sum()
    runtime = pd.read_csv(demo / "runtime.csv", keep_default_na=False)
    own = runtime[
        (runtime["stage"] == "embed") & (runtime["model"] == "hvg") & (runtime["dataset"] == "baron_pancreas")
    ]
    assert rows(table)["Highly variable genes"]["speed"] == f"{n / own['seconds'].sum():,.0f}"


def contest_of(better):
    """A result in which models are told apart as `better` says: {(first, second): the one ahead}."""
    pairs = {frozenset(pair): ahead for pair, ahead in better.items()}
    return SimpleNamespace(ahead=lambda first, second: pairs.get(frozenset((first, second)), ""))


def test_the_frontier_is_what_nothing_beats_beyond_noise():
    speed = {"slow": 1.0, "fast": 9.0, "middling": 3.0, "beaten": 2.0, "alike": 1.1}
    order = ["fast", "beaten", "middling", "slow"]
    better = {(a, b): b for n, a in enumerate(order) for b in order[n + 1 :]} | {("alike", "fast"): "alike"}
    assert frontier(contest_of(better), speed) == ["fast", "middling", "slow"]
    del better["middling", "slow"]
    assert frontier(contest_of(better), speed) == ["fast", "middling"], "slower and not told apart"
    assert frontier(contest_of({}), {"one": 1.0, "other": 1.15}) == ["other", "one"], "neither is clearly faster"


def test_the_frontier_is_of_models_that_have_every_split(tables, tmp_path):
    counts = [Score("n_cells", 100, "corrected")]
    skill = {"whole": 0.5, "other": 0.2, "part": 0.9, "noise": 0.99, "elsewhere": 0.95}
    cells = {(m, s): ari(v + n / 100) + counts for m, v in skill.items() for n, s in enumerate("stuvwx")}
    del cells["part", "t"]
    for model, split in cells:
        path = tmp_path / "benchmarks/embed" / model / "d" / f"{split}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        seconds = {"part": 1, "other": 12}.get(model, 10)
        path.write_text(f"s\tcpu_time\tmax_rss\n{seconds}\t{seconds}\t100\n")
    kinds = {
        "whole": "foundation",
        "other": "foundation",
        "part": "foundation",
        "noise": "control",
        "elsewhere": "precomputed",
    }
    skipped = [["clustering", "part", "d", "t", "no embedding of it"]]
    n_cells = Metric("n_cells", "Cells")

    def said(kinds):
        folder = tables(cells, catalogue=described(ARI, n_cells, models=kinds, skipped=skipped))
        render(folder, folder / "report.html")
        return re.findall(
            r'aria-label="(ARI[^"]* against cells per second[^"]*)"', (folder / "report.html").read_text()
        )

    assert said(kinds) == [
        "ARI (Clustering) against cells per second of 4 models; none is both better and faster than: Whole"
    ], "what was computed elsewhere has no speed"
    assert said(kinds | {"whole": "control", "other": "control"}) == [
        "ARI (Clustering) against cells per second of 4 models"
    ]


def test_models_say_what_they_were_trained_on_and_what_their_files_are(tmp_path, tables):
    catalogue = described(ARI, models={"a": "foundation", "b": "baseline", "c": "baseline"})
    catalogue["models"]["c"] |= {"title": "Components", "fitted_on_split": True}
    catalogue["models"]["a"] |= {
        "training": "33 million cells",
        "leakage": {"d": {"state": "likely", "source": "it predates the corpus"}},
        "files": ["s3://bucket/new.pt", "s3://bucket/model.pt"],
    }
    ledger = tmp_path / "checksums.yaml"
    ledger.write_text(f"s3://bucket/model.pt: {{size: 5120000, sha256: {'ab' * 32}}}\n")
    path = tmp_path / "results/scores/clustering/a/d/s.tsv"
    write_scores(
        path, [Score(**{**vars(ari(0.5)[0]), "task": "clustering", "model": "a", "dataset": "d", "split": "s"})]
    )
    collect([path], tmp_path / "tables", catalogue=catalogue, ledger=ledger)
    text = page_of(tmp_path / "tables").text
    assert "33 million cells" in text and "d: likely (it predates the corpus)" in text and "nothing beforehand" in text
    assert "ab" * 32 in text and "5.1 MB" in text and "not recorded yet" in text
    assert "Components: fitted to the cells that they are scored on (test cells included, labels excluded)." in text
    assert "the cells that it is scored on, without their labels" in text


@pytest.mark.parametrize(
    "n, text", [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (5.12e6, "5.1 MB"), (3e11, "300 GB")]
)
def test_sizes(n, text):
    assert size(n) == text


# --- the file --------------------------------------------------------------------------------------------------------


def test_the_page_asks_for_nothing(report, page):
    urls = [
        v
        for _, attributes in page.tags
        for k, v in attributes.items()
        if k in ("src", "href", "action", "poster", "data")
    ]
    outside = {url for url in urls if not url.startswith(("#", "data:"))}
    assert not outside - {a["href"] for tag, a in page.tags if tag == "a"}, "but for links that a reader may click"
    assert all(url.startswith("https://") for url in outside)
    text = report.read_text()
    assert not re.search(r"@import|url\(", text)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert not [a for _, a in page.tags if "style" in a]


def test_links_of_the_catalogue_open_only_where_they_may(tables):
    catalogue = described(ARI)
    catalogue["models"] = {
        "a": {"title": "A", "url": "https://example.org/a"},
        "b": {"title": "B", "url": "javascript:alert(1)"},
    }
    page = page_of(tables({("a", "s"): ari(0.5), ("b", "s"): ari(0.5)}, catalogue=catalogue))
    links = [a["href"] for tag, a in page.tags if tag == "a" and not a["href"].startswith("#")]
    assert set(links) == {"https://example.org/a"}


def test_a_models_card_says_what_it_has_seen_of_the_data_of_the_run(tables):
    catalogue = described(ARI, models={"a": "foundation"})
    leakage = {
        "d": {"state": "clean", "source": "made <b>later</b>"},
        "elsewhere": {"state": "known", "source": "it is in the corpus"},
    }
    catalogue["models"]["a"] |= {"training": "9 cells", "leakage": leakage}
    catalogue["datasets"] = {"d": {"title": "The data"}}
    text = page_of(tables({("a", "s"): ari(0.5)}, catalogue=catalogue)).text
    assert "9 cells" in text and "The data: clean (made <b>later</b>)" in text and "it is in the corpus" not in text


def test_tables_are_accessible(page):
    for table in page.tables:
        assert table["caption"].strip()
        assert all(
            cell.get("scope") in ("col", "colgroup") for row in table["head"] for cell in row if cell["tag"] == "th"
        )
    assert all(a.get("aria-label") or a.get("aria-hidden") for tag, a in page.tags if tag == "svg")
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    headings = [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1" and headings.count("h1") == 1


def test_the_page_without_a_script_hides_no_table(page):
    assert not [a for tag, a in page.tags if "hidden" in a and tag not in ("form", "p")]


def test_the_guide_tells_the_profiles_apart_and_warns_of_small_runs(page):
    assert "Compare only these with published cz-benchmarks numbers" in page.text
    assert "this is not a ranking" in page.text
    assert "6 splits are too few to rank models" in page.text


def test_what_was_run_in_numbers(demo):
    found = {what: n for n, what, _ in overview.facts(Tables.read(demo))}
    scores = pd.read_csv(demo / "scores.csv", keep_default_na=False)
    cells = scores[(scores["metric"] == "n_cells") & (scores["split"] != "all")]
    sizes = cells.drop_duplicates(["dataset", "split"])["value"].astype(float)
    assert found == {
        "models": "19",
        "datasets": "3",
        "splits": "6",
        "cells": f"{int(sizes.sum()):,}",
        "failed jobs": "10",
    }


def test_cost_sums_jobs_and_keeps_the_peak(demo, page):
    table = page.of("cost")[-1]
    runtime = pd.read_csv(demo / "runtime.csv", keep_default_na=False)
    own = runtime[
        (runtime["model"] == "linear") & (runtime["stage"] == "embed") & (runtime["dataset"] == "baron_pancreas")
    ]
    ((_, _, cpu, _, seconds, memory, jobs),) = [
        [cell["text"].strip() for cell in row]
        for row in table["rows"]
        if [cell["text"].strip() for cell in row[:2]] == ["Linear baseline", "embedding"]
        and row[1]["small"] == "Baron pancreas"
    ]
    assert jobs == str(len(own)) == "2"
    assert [float(seconds), float(cpu)] == pytest.approx([own["seconds"].sum(), own["cpu_seconds"].sum()], abs=0.05)
    assert float(memory) == own["max_rss_mb"].max()


def test_gpu_memory_is_shown_where_some_model_ran_on_a_gpu(tmp_path, page):
    assert "No model used a GPU" in page.text and "GPU memory" not in page.text
    config = made_up.demo()
    config["run"] |= {"datasets": ["baron_pancreas"], "models": ["linear", "hvg", "random"], "tasks": ["clustering"]}
    found = page_of(made_up.write_tables(tmp_path, config, on_gpu={"hvg": 2345.0}))
    assert "Some models computed on a GPU" in found.text and "No model used" not in found.text
    bargain, stages = found.of("cost")[-2:]
    of_models = {name: (row["device"], row["gpu"]) for name, row in rows(bargain).items()}
    assert of_models["Highly variable genes"] == ("GPU", "2,345") and of_models["Linear baseline"] == ("CPU", DASH)
    at = heading(stages).index("gpu_seconds")
    told = {
        (row[0]["text"].strip(), row[1]["text"]): [cell["text"].strip() for cell in row[at - 1 : at + 7]]
        for row in stages["rows"]
    }
    of_network = ["bf16", "2,500", "3,000,000", "62%", "25%"]
    assert told["Highly variable genes", "embedding"] == ["GPU", "1.0", "2,345", *of_network]
    assert told["Highly variable genes", "scoring: Clustering"] == [DASH] * 8
    assert told["Linear baseline", "embedding"] == ["CPU", *[DASH] * 7]


def test_jobs_that_ended_before_they_were_measured_have_no_cost(demo, tmp_path):
    for source in (*demo.glob("*.csv"), demo / "layouts.parquet"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    runtime = pd.read_csv(demo / "runtime.csv")
    runtime[["cpu_seconds", "max_rss_mb"]] = None
    runtime.to_csv(tmp_path / "runtime.csv", index=False)
    table = page_of(tmp_path).of("cost")[-1]
    assert {row[2]["text"] for row in table["rows"]} == {row[5]["text"] for row in table["rows"]} == {DASH}


def test_the_same_tables_give_the_same_bytes(demo, report, tmp_path):
    render(demo, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == report.read_bytes()


def test_the_demo_is_small(report):
    assert report.stat().st_size < 1_600_000


# --- errors ----------------------------------------------------------------------------------------------------------


def run(*arguments):
    command = [sys.executable, str(SCRIPTS / "render_report.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script_writes_the_report(demo, tmp_path):
    done = run(demo, "--output", tmp_path / "deep" / "report.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "deep" / "report.html").read_text().startswith("<!doctype html>")


def test_a_missing_table_is_one_sentence(tmp_path):
    done = run(tmp_path, "--output", tmp_path / "report.html")
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path}/scores.csv: no such table; make the tables with collect_tables.py\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("scores.csv", "", "scores.csv: not a readable CSV table"),
        ("summary.csv", "task,model\n", "summary.csv: the table has no column dataset, set, classifier"),
        ("models.csv", "name\nx\n", r"models.csv: the table has no column model \(found: name\)"),
("runtime.csv", ",".join(RUNTIME_COLUMNS) + "\ne,,m,d,s,long,1,1\n", "runtime.csv: column seconds must hold numbers"),
    ],
)  # fmt: skip
def test_a_broken_table_is_one_sentence(tables, name, text, message):
    folder = tables({("a", "s"): ari(0.5)})
    (folder / name).write_text(text)
    with pytest.raises(CellgaugeError, match=message) as error:
        render(folder, folder / "report.html")
    assert "\n" not in str(error.value)


def test_the_reports_modules_are_found_by_the_import_closure():
    scripts = ("render_report", "compare_runs", "build_site")
    found = {path.rpartition("report/")[2] for path in code(*scripts)}
    own = {str(path.relative_to(HERE)) for path in HERE.rglob("*.py")}
    assert own <= found


@pytest.mark.parametrize(
    "text", ["[", "null", "3", '"known"', "[0]", '["a"]', '{"a": 1}', "[[1], {}]", '{"a": ["b"], "c": {"d": {}}}']
)
def test_json_of_another_type_is_as_if_the_catalogue_said_nothing(demo, tmp_path, text):
    """Tables of a run that others handed in may hold anything."""
    folder = shutil.copytree(demo, tmp_path / "tables")
    for name in ("models", "datasets", "tasks"):
        table = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
        columns = [*OF_JSON, "task_also_known_as", *(OF_METRICS if name == "tasks" else ())]
        table.assign(**dict.fromkeys(columns, text)).to_csv(folder / f"{name}.csv", index=False)
    tables = Tables.read(folder)
    for entry in (*tables.models.values(), *tables.datasets.values()):
        assert all(isinstance(name, str) for name in entry.also_known_as)
        assert all(isinstance(each, dict) for each in [*entry.files, *entry.leakage.values()])
    render(folder, tmp_path / "report.html")
