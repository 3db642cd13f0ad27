"""Optional packages are hidden while a library is imported, and only then."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[3] / "workflow" / "scripts"


def python(code: str) -> str:
    command = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
    command += f"from cellgauge.core.optional_imports import without_optional\n{code}"
    return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.strip()


def test_hidden_inside_and_back_afterwards():
    code = """
with without_optional("wave"):
    try:
        import wave
        print("found")
    except ImportError:
        print("hidden")
import wave
print(wave.__name__)
"""
    assert python(code).split() == ["hidden", "wave"]


def test_what_is_already_imported_stays():
    code = """
import wave
with without_optional("wave"):
    import wave as again
print(again is wave)
"""
    assert python(code) == "True"


def test_names_come_back_after_an_error():
    code = """
try:
    with without_optional("wave"):
        raise KeyError
except KeyError:
    import wave
print("wave" in sys.modules)
"""
    assert python(code) == "True"
