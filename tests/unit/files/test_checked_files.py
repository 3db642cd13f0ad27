"""What a stage hands to the next is what was written, or is refused; and what writers leave that are killed."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from cellgauge.core.atomic import atomic_path
from cellgauge.core.errors import ContractError, DamagedError, refusal, run_cli
from cellgauge.data.make_split import make_split
from cellgauge.files import checked
from cellgauge.files.checked import CheckedFile, add_checksums, open_checked
from cellgauge.files.embedding import Embedding, write_embedding
from cellgauge.files.neighbors import Neighbors, write_neighbors
from cellgauge.files.prediction import Prediction
from cellgauge.files.score import Score, read_scores, write_scores
from cellgauge.files.split import Split
from cellgauge.files.truth import Truth
from cellgauge.predictors.base import predict_files
from cellgauge.screens.ground_truth import measure_truth

ABOUT = {"task": "t", "model": "m", "dataset": "d", "split": "s"}
CELLS = np.asarray([f"cell{n}" for n in range(50)], dtype=object)


def split_content(path: Path) -> list:
    split = Split.open(path)
    columns = [split.column(name) for name in split.columns]
    counts = split.counts()
    return [*columns, counts.data, counts.indices, split.genes, split.symbols, split.library_sizes(), split.facts()]


def embedding_content(path: Path) -> list:
    embedding = Embedding.read(path)
    return [embedding.matrix, embedding.cells, embedding.splits, embedding.uns]


def neighbors_content(path: Path) -> list:
    neighbors = Neighbors.read(path, ABOUT, CELLS)
    return [*neighbors.arrays.items(), neighbors.embedded]


def truth_content(path: Path) -> list:
    return [{**vars(Truth.read(path, profile=profile))} for profile in ("corrected", "reference")]


def prediction_content(path: Path) -> list:
    return [{**vars(Prediction.read(path, profile)), "path": 0} for profile in ("corrected", "reference")]


READ = {
    "split": split_content,
    "embedding": embedding_content,
    "neighbors": neighbors_content,
    "truth": truth_content,
    "prediction": prediction_content,
    "score": read_scores,
}


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> dict[str, tuple[Path, bytes, bytes]]:
    """One file of each stage: a path, what the file holds, and what is read of it."""
    folder = tmp_path_factory.mktemp("stages")
    paths = {kind: folder / f"{kind}.h5ad" for kind in ("embedding", "truth", "prediction")}
    paths |= {"neighbors": folder / "neighbors.npz", "score": folder / "score.tsv", "split": tiny.split_file(folder)}
    split = Split.open(paths["split"])
    rows = np.random.default_rng(0).normal(size=(len(split.cells), 8))
    write_embedding(paths["embedding"], rows, split.cells, [split], {"model": "m"})
    write_neighbors(paths["neighbors"], {"found": np.arange(500).reshape(50, 10)}, np.ones(50, bool), ABOUT, CELLS)
    write_scores(paths["score"], [Score("ari", n / 7, "corrected", **ABOUT) for n in range(30)])
    tiny.screen().write_h5ad(folder / "published.h5ad")
    make_split(folder / "published.h5ad", folder / "screen.h5ad", tiny.screen_options())
    measure_truth(folder / "screen.h5ad", paths["truth"])
    predict_files("additive", folder / "screen.h5ad", paths["prediction"], model="additive")
    return {kind: (path, path.read_bytes(), pickle.dumps(READ[kind](path))) for kind, path in paths.items()}


@pytest.mark.reliability(
    fault="a damaged stage file",
    provoked="a bit flipped anywhere, zeros to the end, or cut: split, embedding, prediction, truth, neighbors, scores",
    outcome="refused, or what is read is what was written",
    tries=examples(150),
)
@settings(max_examples=examples(150))
@given(st.sampled_from(sorted(READ)), st.sampled_from(["flip", "zeros", "cut"]), st.floats(0, 1), st.integers(0, 7))
def test_what_is_read_is_what_was_written_or_is_refused(stages, kind, damage, where, bit):
    path, whole, content = stages[kind]
    place = min(int(where * len(whole)), len(whole) - 1)
    changed = bytearray(whole)
    if damage == "flip":
        changed[place] ^= 1 << bit
    else:
        changed[place:] = bytes(len(whole) - place) if damage == "zeros" else b""
    path.write_bytes(changed)
    try:
        assert pickle.dumps(READ[kind](path)) == content
        assert damage == "flip"
    except ContractError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("size", [1, 99, 100, 101, 1000])
@given(data=st.data())
def test_every_reading_of_a_part_is_checked(tmp_path_factory, size, data):
    """Blocks of 100 bytes: a part is read as it was written unless it touches a damaged block, and then it is refused."""
    path, content = tmp_path_factory.mktemp("parts") / "x", bytes(n * 7 % 251 for n in range(size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checked, "BLOCK", 100)
        path.write_bytes(content)
        add_checksums(path)
        broken = data.draw(st.integers(0, size - 1))
        raw = bytearray(path.read_bytes())
        raw[broken] ^= 255
        path.write_bytes(raw)
        with CheckedFile(path) as file:
            for _ in range(5):
                start, length = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
                file.seek(start)
                part = content[start : start + length]
                touched = range(start // 100, -(-(start + len(part)) // 100))
                if broken // 100 in touched:
                    with pytest.raises(DamagedError, match=f"bytes {broken // 100 * 100} to"):
                        file.read(length)
                else:
                    assert file.read(length) == part


def test_the_end_of_a_file_is_not_read_as_content(tmp_path):
    (tmp_path / "x").write_bytes(b"abc\n")
    add_checksums(tmp_path / "x")
    with open_checked(tmp_path / "x") as file:
        assert file.read() == b"abc\n" and file.seek(-2, os.SEEK_END) == 2 and file.read() == b"c\n"
    assert (tmp_path / "x").read_bytes().startswith(b"abc\n# crc32 of each MiB: ")


def test_an_hdf5_file_by_hand_is_read_without_checksums(tmp_path):
    for number, libver in enumerate(("earliest", "latest")):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w", libver=libver) as file:
            file["x"] = np.arange(1000)
        with CheckedFile(path) as source, h5py.File(source, "r") as file:
            assert (file["x"][:] == np.arange(1000)).all()
        with path.open("ab") as file:
            file.write(b"\0")
        with pytest.raises(DamagedError, match="its checksums are missing"):
            CheckedFile(path)


def test_a_damaged_file_is_moved_aside_until_it_is_made_again(tmp_path, stages, capsys):
    path = tmp_path / "e.h5ad"
    shutil.copy(stages["embedding"][0], path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    for _ in range(2):  # a second attempt of the job says it too
        with pytest.raises(SystemExit):
            run_cli(lambda: Embedding.read(path))
        said = capsys.readouterr().err
        assert said.startswith(f"error: {path}: this file is damaged") and "run the same command again" in said
        assert [p.name for p in tmp_path.iterdir()] == [".e.h5ad.damaged"]
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"anew")
    assert [p.name for p in tmp_path.iterdir()] == ["e.h5ad"]


# --- what killed writers leave -------------------------------------------------------------------------------------------

WRITER = """
import sys, time; from pathlib import Path; from cellgauge.core.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as path:
    path.write_text("half"); print(path, flush=True); time.sleep(60)
"""


@pytest.mark.reliability(
    fault="a job is killed while it writes",
    provoked="kill -9 in the middle of a file",
    outcome="no half file under its name; the next job that writes it removes what was left, and never what a live job has",
    tries=1,
)
def test_what_a_killed_writer_left_is_removed_and_a_live_one_is_left_alone(tmp_path):
    output = tmp_path / "x[1].h5ad"
    environment = {**os.environ, "PYTHONPATH": str(Path(checked.__file__).parents[2])}
    command = [sys.executable, "-c", WRITER, str(output)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    half = Path(process.stdout.readline().strip())
    with atomic_path(output) as path:
        path.write_text("whole")
    assert half.read_text() == "half" and output.read_text() == "whole"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with atomic_path(output) as path:
        path.write_text("anew")
    assert [p.name for p in tmp_path.iterdir()] == [output.name] and output.read_text() == "anew"


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: events.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
    )
    with atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("x")
    assert events == [str(temporary), str(tmp_path)]


# --- what the system refuses ---------------------------------------------------------------------------------------------

HDF5_FULL = (
    "Can't synchronously write data (file write failed: time = Fri Nov 27 11:58:00 2026\n, filename = '/r/splits/"
    ".m.h5ad.x1.part/m.h5ad', file descriptor = 3, errno = 28, "
    "error message = 'No space left on device', buf = 0x1, total write size = 9)"
)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "x", "/r/t.csv"), "/r/t.csv: No space left on device; make room there and run the same"),
        (OSError(HDF5_FULL), "/r/splits: No space left on device; make room there and run the same command again"),
        (RuntimeError(HDF5_FULL), "/r/splits: No space left on device"),
        (PermissionError(errno.EACCES, "x", "/r/t"), "/r/t: Permission denied; change its owner or permissions"),
        (OSError(errno.EROFS, "x", "/r/t"), "/r/t: Read-only file system; mount it for writing"),
        (OSError(errno.EINVAL, "x", "/r/t"), ""),
        (ValueError("a fault of ours"), ""),
    ],
)
def test_what_the_system_refuses_is_one_sentence(error, sentence, capsys):
    assert refusal(error).startswith(sentence) if sentence else refusal(error) == ""

    def main():
        raise error

    with pytest.raises(SystemExit if sentence else type(error)):
        run_cli(main)
    assert capsys.readouterr().err.startswith(f"error: {sentence}") if sentence else True


def test_an_error_that_follows_from_a_full_disk_is_told_as_that(capsys):
    def main():
        try:
            raise OSError(errno.ENOSPC, "x", "/r/t")
        except OSError:
            raise RuntimeError("cannot close the file")  # noqa: B904

    with pytest.raises(SystemExit):
        run_cli(main)
    assert capsys.readouterr().err.startswith("error: /r/t: No space left on device")
