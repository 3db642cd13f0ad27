"""The warm Python of the tests gives a command what a new Python gives it, and nothing of the command before."""

import os
import subprocess
import sys
import time

import psutil
import pytest
from warm_python import LIBRARIES, warm_python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a warm Python forks: on Linux alone")
SAY = """
import json, os, sys
about = {"argv": sys.argv, "folder": os.getcwd(), "first": sys.path[:2], "name": __name__, "here": os.environ.get("HERE")}
about["ours"] = sorted(name for name in sys.modules if name.startswith("cellgauge"))
about["bytes"] = os.environb.get(b"RAW", b"").hex()
print(json.dumps(about))
print("to stderr", file=sys.stderr)
sys.exit(EXIT)
"""


@pytest.fixture
def say(tmp_path):
    """Return a function that makes script and module `say`, which end with an exit status, in a folder."""

    def make(status: str):
        (tmp_path / "say.py").write_text(SAY.replace("EXIT", status))
        return tmp_path

    return make


@pytest.mark.parametrize("status", ["0", "3", "None", "'a reason'"])
@pytest.mark.parametrize("form", [["say.py"], ["-m", "say"], ["-c", "import say"]], ids=" ".join)
def test_a_command_gets_what_a_new_python_gives_it(say, form, status):
    folder = say(status)
    environment = {**os.environ, "HERE": "1", "PYTHONPATH": str(folder / "more")}
    environment = {os.fsencode(name): os.fsencode(text) for name, text in environment.items()} | {b"RAW": b"\xff=\n"}
    warm, new = (
        subprocess.run([python, *form, "a", "b c", ""], cwd=folder, env=environment, capture_output=True, text=True)
        for python in (warm_python(), sys.executable)
    )
    assert (warm.returncode, warm.stdout, warm.stderr) == (new.returncode, new.stdout, new.stderr)
    assert warm.stdout and warm.stderr


def test_an_error_ends_in_a_traceback_and_a_missing_script_in_a_failure(tmp_path):
    (tmp_path / "wrong.py").write_text("def f():\n    raise RuntimeError('Boom')\nf()\n")
    done = subprocess.run([warm_python(), "wrong.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.endswith("RuntimeError: Boom\n") and "line 2, in f" in done.stderr
    assert subprocess.run([warm_python(), "none.py"], cwd=tmp_path, capture_output=True, check=False).returncode


def test_nothing_of_a_command_is_left_to_the_next(tmp_path):
    (tmp_path / "ours.py").write_text("")
    change = (
        "import os, sys, ours, numpy; os.environ['LEFT'] = '1'; os.chdir('/'); sys.path.insert(0, 'x'); numpy.left = 1"
    )
    look = "import os, sys, numpy; print('LEFT' in os.environ, os.getcwd(), 'x' in sys.path, 'ours' in sys.modules,"
    look += " hasattr(numpy, 'left'), sys.argv)"
    for code, printed in ((change, ""), (look, f"False {tmp_path} False False False ['-c']\n")):
        done = subprocess.run([warm_python(), "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout == printed


def test_libraries_are_imported_and_none_that_reads_the_environment_of_a_test():
    code = f"import sys; print(set({LIBRARIES!r}) - set(sys.modules), 'huggingface_hub' in sys.modules)"
    assert subprocess.check_output([warm_python(), "-c", code], text=True) == "set() False\n"


def test_flags_and_variables_of_python_start_a_new_one():
    code = "import sys; print('numpy' in sys.modules)"
    warm = warm_python()
    for command, variables, printed in (
        ([warm, "-c", code], {}, "True\n"),
        ([warm, "-P", "-c", code], {}, "False\n"),
        ([warm, "-c", code], {"PYTHONHASHSEED": "1"}, "False\n"),
    ):
        assert subprocess.check_output(command, env={**os.environ, **variables}, text=True) == printed


def test_a_killed_command_ends(tmp_path):
    code = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    client = subprocess.Popen([warm_python(), "-c", code], cwd=tmp_path)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    command = psutil.Process(int((tmp_path / "pid").read_text()))
    client.kill()
    client.wait()
    _, alive = psutil.wait_procs([command], timeout=30)
    assert not alive


def test_a_signal_ends_both(tmp_path):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert subprocess.run([warm_python(), "-c", code], check=False).returncode == -15
