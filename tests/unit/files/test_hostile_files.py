"""Arrays, archives, tables and pickles that promise more than they hold."""

import gzip
import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.tables import MOST_COLUMNS, read_table
from cellgauge.fetch import FetchError, formats, members
from cellgauge.files.arrays import Npz, read_npy
from cellgauge.inference.checkpoints import Checkpoint, CheckpointError, read_pickled_dict


def npy(shape, dtype="<f8", content=b"", version=(1, 0)):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()[:6] + bytes(version) + file.getvalue()[8:] + content


@pytest.mark.reliability(
    fault="an array promises more than the file holds",
    provoked="npy and npz with shapes of TBs, negative shapes, members that inflate 5,000-fold, Python objects",
    outcome="one sentence, no memory taken",
    tries=8,
)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy((10**12,)), r"its shape \(1000000000000,\) takes 8,000,000,000,000 bytes"),
        (npy((10**9, 10**9)), "takes"),
        (npy((-4, 2), content=bytes(64)), "shape"),
        (npy((2, 2), content=bytes(31)), "takes 32 bytes"),
        (npy((2,), "|O", bytes(16)), "Python objects"),
        (npy((2,), content=bytes(16), version=(3, 0)), "npy format"),
        (pickle.dumps({"a": 1}), "magic"),
    ],
)
def test_an_array_takes_what_its_file_holds(tmp_path, content, words):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_npy(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("embedding.npy", content)
    with pytest.raises(ValueError, match=words):
        Npz(tmp_path / "a.npz")["embedding"]


def test_a_member_that_inflates_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("embedding.npy", npy((10**7 * 2,), content=bytes(16 * 10**7)))
    with pytest.raises(ValueError, match="promises 160,000,"):
        Npz(path)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "w") as file:
        for _ in range(2):
            file.writestr("x.npy", npy((1,), content=bytes(8)))
    with pytest.raises(ValueError, match="one name"):
        Npz(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_sound_arrays_are_read_exactly(tmp_path, save):
    arrays = {
        "x": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.eye(3)),
        "t": np.asarray(["é", "b"]),
        "s": np.array(4),
    }
    save(tmp_path / "a.npz", **arrays, empty=np.zeros((0, 3)))
    read = Npz(tmp_path / "a.npz")
    assert all((read[name] == array).all() and read[name].dtype == array.dtype for name, array in arrays.items())
    assert list(read) == [*arrays, "empty"] and read["empty"].shape == (0, 3)


def test_an_archive_that_promises_more_than_it_can_hold_is_refused(tmp_path, monkeypatch):
    """A limit of a MB in place of a GB, so that the test takes no GB."""
    monkeypatch.setattr(members, "most_inside", lambda archive: 1 << 20)
    monkeypatch.setattr(formats, "most_inside", lambda archive: 1 << 20)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("big", bytes(1 << 21))
        file.writestr("small", b"x")
    with pytest.raises(FetchError, match="the archive promises over"):
        members.extract("https://h/a.zip!small", path, ["small"], tmp_path / "out")
    with pytest.raises(FetchError, match="claim to be larger than it can hold"):
        formats.check("https://h/a.zip", path, "a.zip", framed=True)
    assert not (tmp_path / "out").exists()


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.reliability(
    fault="a table of text is made to take memory or hours",
    provoked="a million columns; a line of 10 million characters; packed text that unpacks to GBs",
    outcome="one sentence in seconds",
    tries=3,
)
def test_tables_are_bounded(tmp_path):
    wide = tmp_path / "wide.csv"
    wide.write_text("cell," + ",".join(f"d{n}" for n in range(10**6)) + "\nc0" + ",1" * 10**6 + "\n")
    with pytest.raises(CellgaugeError, match=rf"more than {MOST_COLUMNS:,} columns"):
        read_table(wide)
    long = tmp_path / "long.csv"
    long.write_text("cell,d0\nc0," + "1" * 10**7 + "\n")
    with pytest.raises(CellgaugeError, match=r"line 2 has more than 8,388,608 characters"):
        read_table(long)
    packed = tmp_path / "packed.csv.gz"
    block = gzip.compress(b"c0,1\n" * (1 << 22))
    packed.write_bytes(gzip.compress(b"cell,d0\n") + block * 55)
    with pytest.raises(CellgaugeError, match="it unpacks to more than 1,073,741,824 bytes"):
        read_table(packed)


def test_a_wide_table_is_read(tmp_path):
    path = tmp_path / "genes.csv"
    names = [f"ENSG{n:011d}" for n in range(8_000)]
    path.write_text("condition," + ",".join(names) + "\n" + "a" + ",0.5" * 8_000 + "\nb" + ",1" * 8_000 + "\n")
    frame = read_table(path).frame
    assert list(frame.columns) == ["condition", *names] and frame.iloc[1, -1] == 1


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_pickle_takes_what_its_file_holds(tmp_path):
    """Two that hold nothing that runs: one reserves 34 GB by its own numbering, one hashes for ever."""
    path = tmp_path / "dict.pkl"
    path.write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    assert read_pickled_dict(path, int) == {}
    key = ()
    for _ in range(60):
        key = (key, key)
    path.write_bytes(b"\x80\x02}" + pickle.dumps(key, 2)[2:-1] + b"K\x01s.")
    with pytest.raises(CheckpointError, match="keys that are no text"):
        read_pickled_dict(path, int)
    path.write_bytes(pickle.dumps({"a": {1, 2}}, 4))
    with pytest.raises(CheckpointError, match="contains sets"):
        read_pickled_dict(path, int)


def test_a_tensor_that_is_not_stored_in_full_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(1).expand(10**6, 10**6)}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match="'weight' is not stored in full"):
        Checkpoint.open(path).shape("weight", 2)
    torch.save({"weight": torch.eye(3).to_sparse()}, path)
    with pytest.raises(CheckpointError, match="not stored in full"):
        Checkpoint.open(path).shape("weight", 2)
    torch.save({"weight": torch.arange(6.0).reshape(2, 3).T}, path)  # another order of the same numbers
    assert Checkpoint.open(path).shape("weight", 2) == (3, 2)
