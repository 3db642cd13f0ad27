"""Which Python runs the jobs of an environment without conda."""

import pytest

from cellgauge.core.errors import CellgaugeError
from cellgauge.plan import interpreter


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(interpreter, "ROOT", tmp_path)
    (tmp_path / "workflow/envs").mkdir(parents=True)
    (tmp_path / "requirements-base.lock").write_text("numpy==2.0\nnot-here==1\n")
    (tmp_path / "workflow/envs/score.yaml").write_text(
        "dependencies:\n  - pip:\n      - numpy==2.0\n      - not-here==1\n"
    )
    return tmp_path


def test_an_environment_without_a_lock_of_its_own_is_snakemakes(checkout):
    interpreter.require("score", "task clustering")
    assert interpreter.python_of("score") == "python"


def test_what_setup_does_not_install_must_be_there(checkout):
    """Packages of the base are left to Snakemake's own environment, which may hold nothing else for a dry run."""
    pins = "dependencies:\n  - pip:\n      - numpy==2.0\n      - pytest==1\n      - a-package-that-nobody-has==1\n"
    (checkout / "workflow/envs/large.yaml").write_text(pins)
    assert interpreter.beyond_base("large") == ["pytest", "a-package-that-nobody-has"]
    with pytest.raises(CellgaugeError, match=r"^model m needs a-package-that-nobody-has, .*make setup-models"):
        interpreter.require("large", "model m")
    (checkout / "workflow/envs/large.yaml").write_text(pins.replace("a-package-that-nobody-has", "pytest"))
    interpreter.require("large", "model m")


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
