"""One reading of columns of text."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgauge.core.errors import one_line
from cellgauge.files.text_columns import as_text, ids, text_column

TEXT = st.text(max_size=12)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (np.nan, ""),
        (pd.NA, ""),
        (pd.NaT, ""),
        ("", ""),
        (" \t", ""),
        (" a  b\n", "a b"),
        ("a\N{NO-BREAK SPACE}b\u200b", "a b"),
        (b"bytes", "bytes"),
        (1.0, "1"),
        (np.float32(2), "2"),
        (np.int8(3), "3"),
        (0.5, "0.5"),
        (np.inf, "inf"),
        (True, "True"),
        ("u\u0308", "ü"),
        ("1.0", "1.0"),
    ],
)
def test_values(value, text):
    assert as_text(value) == text


@given(TEXT)
def test_text_keeps_its_look_in_tables(text):
    read = as_text(text)
    assert one_line(read) == read == as_text(read)


@given(
    st.lists(
        st.one_of(st.none(), st.floats(), TEXT, st.sampled_from(["nan", "NA ", "None", "<NA>", "n/a"])), max_size=20
    )
)
def test_every_way_of_storing_a_column_reads_the_same(values):
    column = pd.Series(values, dtype=object)
    plain = text_column(column)
    assert plain.values.tolist() == [
        ""
        if as_text(v).casefold() in ("nan", "na", "none", "null", "<na>", "n/a", "nat", "<nan>", "#n/a")
        else as_text(v)
        for v in values
    ]
    assert (plain.missing == (plain.values == "")).all()
    if all(isinstance(value, str) for value in values):
        for other in (pd.Categorical(values), pd.array(values, dtype="string"), np.asarray(values, dtype=object)):
            assert text_column(other).values.tolist() == plain.values.tolist()


def test_notes_tell_what_was_taken_for_missing_and_for_one_name():
    column = text_column(["a", "a ", "nan", "NA", "NA", None])
    assert column.values.tolist() == ["a", "a", "", "", "", ""]
    assert column.notes("who") == [
        "column 'who': the text 'NA' (2), 'nan' (1) counts as a missing value",
        "column 'who': 'a' and 'a ' differ only in blanks and count as one name",
    ]
    assert text_column(["a", None]).notes("who") == []


def test_words_that_are_names():
    assert text_column(["None", "nan"], meant=["None"]).values.tolist() == ["None", ""]
    assert ids(["NA", None, 7, 7.0]).tolist() == ["NA", "", "7", "7"]
