"""docs/reliability.md tells what the marked tests tell, and of no fault that does harm."""

from __future__ import annotations

import reliability

PAGE = reliability.TESTS.parent / "docs/reliability.md"


def test_every_marked_test_has_a_row_and_every_row_a_test():
    rows = {(fault, provoked, outcome) for fault, provoked, _, outcome, _ in reliability.read(PAGE)}
    assert rows == set(reliability.marks()), (
        "run `make reliability`, or a part: pytest --reliability docs/reliability.md"
    )


def test_no_row_fails():
    assert [row for row in reliability.read(PAGE) if row[4] not in ("yes", "not run")] == []


def test_a_row_is_as_bad_as_its_worst_test_and_other_rows_stay(tmp_path):
    class Report:
        def __init__(self, fault):
            mark = {"fault": fault, "provoked": "by hand", "outcome": "none", "tries": 2}
            self.user_properties = [("reliability", mark)]

    page, nothing = tmp_path / "x.md", dict.fromkeys(reliability.HOLDS, ())
    reliability.write(page, nothing | {"passed": [Report("b")], "skipped": [Report("c")]})
    reliability.write(page, nothing | {"passed": [Report("a"), Report("a")], "error": [Report("a"), object()]})
    rows = [(fault, tries, holds) for fault, _, tries, _, holds in reliability.read(page)]
    assert rows == [("a", "6", "**no**"), ("b", "2", "yes"), ("c", "2", "not run")]
