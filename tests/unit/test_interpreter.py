"""Which Python runs the jobs of an environment without conda."""

import pytest

from cellgauge.core.errors import CellgaugeError
from cellgauge.plan import interpreter


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(interpreter, "ROOT", tmp_path)
    return tmp_path


def test_an_environment_without_a_lock_of_its_own_is_snakemakes(checkout):
    interpreter.require("score", "task clustering")
    assert interpreter.python_of("score") == "python"


def test_one_with_a_lock_must_be_made_from_it(checkout):
    (checkout / "requirements-own.lock").write_text("a==1\n")
    assert interpreter.python_of("own").endswith(".venv-own/bin/python")
    with pytest.raises(CellgaugeError, match=r"task t .* has not been made yet: type `make setup-own`"):
        interpreter.require("own", "task t")
    (checkout / ".venv-own").mkdir()
    (checkout / ".venv-own/.installed").write_text("a==1\n")
    interpreter.require("own", "task t")
    (checkout / "requirements-own.lock").write_text("a==2\n")
    with pytest.raises(CellgaugeError, match=r"\.venv-own, which is of an older lock file"):
        interpreter.require("own", "task t")
