"""Tables that are opened in a spreadsheet run nothing, and are read back exactly."""

import csv

import numpy as np
import pandas as pd
import pytest
from effort import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cellgauge.files.score import Score, read_scores, write_scores
from cellgauge.files.spreadsheets import quoted, read_csv, unquoted, write_csv

RUNS = ("=", "@", "+", "-", "\t", "\r", "\n")
# as_text lets no NUL into a table: pandas reads no further than one
texts = st.text(
    st.sampled_from("'=@+-\t\r\n a1.,\";é") | st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6
)


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


@given(texts)
@example("'=1")
@example("''=1")
@example("'")
@example("-1e5")
def test_no_text_runs_and_each_comes_back(text):
    cell = quoted(text)
    assert not cell.startswith(RUNS) or is_number(cell)
    assert unquoted(cell) == text


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "@SUM(1+1)*cmd|' /C calc'!A0", "+1+cmd", "-2+3", "\t=1", "\r=1"])
def test_a_formula_gets_an_apostrophe(text):
    assert quoted(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-1.5", "+3", "-1e-05", -2.5, None, 7, "B cell", "a=b", "'quoted'", "a-b"])
def test_numbers_and_other_texts_stay(value):
    assert quoted(value) == value


@pytest.mark.reliability(
    fault="a label, a model or an id is a formula",
    provoked="texts of =, @, +, -, tabs, ends of lines and apostrophes in every column of text",
    outcome="no cell of a csv begins a formula; read back exactly; numbers unchanged",
    tries=examples(25),
)
@settings(max_examples=examples(25))
@given(st.lists(st.tuples(texts, texts, st.floats(allow_nan=False), st.integers(-9, 9)), min_size=1, max_size=5))
def test_a_table_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "table.csv"
    table = pd.DataFrame(rows, columns=["label", "category", "value", "count"]).astype({"category": "category"})
    write_csv(table, path)
    with path.open(newline="", encoding="utf-8") as file:
        for line in list(csv.reader(file))[1:]:
            assert not any(cell.startswith(RUNS) and not is_number(cell) for cell in line)
    back = read_csv(path)
    assert back["label"].tolist() == table["label"].tolist()
    assert back["category"].tolist() == table["category"].astype(str).tolist()
    assert [float(text) for text in back["value"]] == table["value"].tolist()
    typed = read_csv(path, typed=True)
    assert np.array_equal(typed["value"], table["value"]) and typed["count"].tolist() == table["count"].tolist()


def test_score_rows_come_back(tmp_path):
    score = Score(
        metric="m", value=-0.25, task="t", model="-m", dataset="=1+1", split="'=x", condition="@a", reason="+1"
    )
    write_scores(tmp_path / "scores.tsv", [score])
    assert read_scores(tmp_path / "scores.tsv") == [score]
    line = (tmp_path / "scores.tsv").read_text().splitlines()[1].split("\t")
    assert "'=1+1" in line and "''=x" in line and "-0.25" in line
