"""Checkpoints are read strictly, and nothing in them is executed."""

import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from cellgauge.inference.checkpoints import (
    Checkpoint,
    CheckpointError,
    find_file,
    open_tensor,
    read_json,
    read_pickled_dict,
)


class Bomb:
    """Creates a folder if it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))


@pytest.fixture
def state():
    return network().state_dict()


def write(path, state):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["m.pt", "m.torch", "m.bin", "m.safetensors"])
def test_a_network_takes_the_tensors_and_ignores_named_heads(tmp_path, state, name):
    path = write(tmp_path / name, {**state, "head.weight": torch.ones(2)})
    loaded = Checkpoint.open(path).load(network, [r"head\."])
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state[key]) and not tensor.requires_grad
    assert not loaded.training


def test_half_precision_is_computed_in_fp32(tmp_path, state):
    half = {name: tensor.half() for name, tensor in state.items()}
    loaded = Checkpoint.open(write(tmp_path / "m.pt", half)).load(network)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}


def test_buffers_that_are_not_saved_are_made(tmp_path, state):
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("numbers", torch.arange(4), persistent=False)

    def build():
        return nn.Sequential(*network(), nn.Sequential(Positions()))

    loaded = Checkpoint.open(write(tmp_path / "m.pt", state)).load(build)
    assert torch.equal(loaded[2][0].numbers, torch.arange(4)) and torch.equal(loaded[0].weight, state["0.weight"])
    assert not any(tensor.is_meta for tensor in [*loaded.parameters(), *loaded.buffers()])


def test_the_old_format_of_torch_is_read(tmp_path, state):
    torch.save(OrderedDict(state), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(Checkpoint.open(tmp_path / "old.pt").load(network)[0].weight, state["0.weight"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("0.bias"), r"m\.pt: has no tensor '0\.bias' \(it has 0\.weight, 1\.bias, 1\.weight\)"),
        (lambda s: s.update({"0.bias2": torch.ones(1)}), r"no tensor '0\.bias2' \(1 such tensors in the file\)"),
        (
            lambda s: s.update({"0.bias": torch.ones(5)}),
            r"'0\.bias' has shape \(5,\), but the other tensors require \(4,\)",
        ),
        (lambda s: s.update({"0.bias": torch.ones(4, 1)}), r"'0\.bias' has shape \(4, 1\), but must have 1 axes"),
        (lambda s: s.update({"0.bias": 3}), r"not a dict of tensors by name \('0\.bias' is of type int\)"),
        (lambda s: s.clear(), r"not a dict of tensors by name \(it is empty\)"),
        (lambda s: s.update({"headless": torch.ones(1)}), "has no tensor 'headless'"),
    ],
)
def test_a_wrong_state_is_one_sentence_that_names_the_tensor(tmp_path, state, change, words):
    state = dict(state)
    change(state)
    with pytest.raises(CheckpointError, match=words):
        Checkpoint.open(write(tmp_path / "m.pt", state)).load(network, [r"head\."])


def test_layers_are_counted_and_a_gap_is_named():
    names = ["encoder.layers.0.w", "encoder.layers.1.w", "encoder.layers.10.w", "other.layers.5.w"]
    for missing, known in (("2", names), ("0", names[1:])):
        with pytest.raises(CheckpointError, match=rf"has no layer 'encoder\.layers\.{missing}' but has"):
            Checkpoint("m.pt", dict.fromkeys(known)).count("encoder.layers")
    assert Checkpoint("m.pt", dict.fromkeys(names[:2])).count("encoder.layers") == 2
    with pytest.raises(CheckpointError, match=r"no layer 'decoder\.0'"):
        Checkpoint("m.pt", dict.fromkeys(names)).count("decoder")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(6))
def test_a_bomb_is_refused_and_does_not_go_off(tmp_path, protocol):
    trace = tmp_path / "trace"
    for content in (Bomb(trace), {"0.weight": Bomb(trace)}):
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(CheckpointError, match=r"m\.pkl: refused, it names posix\.mkdir, which could run code"):
            read_pickled_dict(tmp_path / "m.pkl", int)
        torch.save(content, tmp_path / "m.pt", pickle_protocol=max(2, protocol))
        for path in (tmp_path / "m.pt", tmp_path / "m.pkl"):
            with pytest.raises(CheckpointError, match=r"refused, it names posix\.mkdir|truncated or corrupt"):
                Checkpoint.open(path)
    assert not trace.exists()


def test_a_bomb_saved_by_torch_is_called_what_it_is(tmp_path):
    torch.save({"0.weight": Bomb(tmp_path / "trace")}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=r"m\.pt: refused, it names posix\.mkdir, which could run code$"):
        Checkpoint.open(tmp_path / "m.pt")


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
def test_every_truncation_is_one_sentence(tmp_path, state, name):
    whole = write(tmp_path / f"whole_{name}", state).read_bytes()
    for size in {0, 1, 7, 8, 9, 50, len(whole) // 2, len(whole) - 1, *range(100, len(whole), 97)}:
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="truncated or corrupt"):
            Checkpoint.open(tmp_path / name)


@given(st.binary(max_size=200), st.sampled_from(["m.pt", "m.safetensors", "m.pkl", "m.json"]))
def test_no_bytes_make_a_reader_fail_in_another_way(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("junk") / name
    path.write_bytes(content)
    read = {".pkl": lambda p: read_pickled_dict(p, int), ".json": read_json}.get(path.suffix, Checkpoint.open)
    try:
        read(path)
    except CheckpointError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def test_a_web_page_instead_of_a_file_and_no_file(tmp_path):
    (tmp_path / "m.pt").write_text("<html>not found</html>")
    with pytest.raises(CheckpointError, match=r"truncated or corrupt.*remove it to download it again"):
        Checkpoint.open(tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="no such file"):
        Checkpoint.open(tmp_path / "n.pt")


def test_a_zip_that_is_no_checkpoint(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        Checkpoint.open(tmp_path / "m.pt")


def test_one_tensor(tmp_path):
    torch.save(torch.ones(3, 2), tmp_path / "t.torch")
    assert open_tensor(tmp_path / "t.torch", 2).shape == (3, 2)
    with pytest.raises(CheckpointError, match=r"holds a tensor of shape \(3, 2\), not a tensor of 1 axes"):
        open_tensor(tmp_path / "t.torch", 1)
    with pytest.raises(CheckpointError, match=r"t\.torch: holds a Tensor, not a dict of tensors"):
        Checkpoint.open(tmp_path / "t.torch")
    torch.save({"a": torch.ones(1)}, tmp_path / "t.torch")
    with pytest.raises(CheckpointError, match="holds dict, not a tensor"):
        open_tensor(tmp_path / "t.torch", 1)


# --- dictionaries ----------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(), st.integers()), st.integers(0, 5))
def test_plain_dictionaries_are_read_whatever_the_protocol(tmp_path_factory, content, protocol):
    path = tmp_path_factory.mktemp("dict") / "d.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    assert read_pickled_dict(path, int) == content


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.uint8])
def test_scalars_of_numpy_become_numbers(tmp_path, kind):
    (tmp_path / "d.pkl").write_bytes(pickle.dumps({"a": kind(3), "b": kind(7)}))
    content = read_pickled_dict(tmp_path / "d.pkl", (int, float))
    assert content == {"a": 3, "b": 7} and type(content["a"]) in (int, float)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1], "holds a list, not a dictionary"),
        ({"a": "x"}, "holds 'a' -> str, but keys must be str and values int"),
        ({"a": True}, "holds 'a' -> bool, but keys must be str"),
        ({1: 1}, "holds 1 -> int, but keys must be str"),
        ({"a": np.datetime64("2020-01-01")}, r"refused, it contains numpy values of type 'M8'"),
        ({"a": np.ones(2)}, r"refused, it names numpy\._core\.(multiarray|numeric)\.\w+, which could run code"),
        ({"a": np.array(["x"], object)[0:1]}, "refused"),
        ({"a": np.void(b"12")}, "refused, it contains numpy values of type"),
    ],
)
def test_other_contents_are_refused(tmp_path, content, words):
    (tmp_path / "d.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match=words):
        read_pickled_dict(tmp_path / "d.pkl", int)


def test_numbers_of_another_byte_order_are_refused_not_misread(tmp_path):
    (tmp_path / "d.pkl").write_bytes(pickle.dumps({"a": np.float64(1)}).replace(b"\x8c\x01<", b"\x8c\x01>"))
    with pytest.raises(CheckpointError, match="not plain little-endian numbers"):
        read_pickled_dict(tmp_path / "d.pkl", float)


def test_a_pickle_that_refers_to_files_of_its_own_is_refused(tmp_path):
    class Outside(pickle.Pickler):
        def persistent_id(self, value):
            return "elsewhere" if value == "x" else None

    buffer = io.BytesIO()
    Outside(buffer).dump({"a": "x"})
    (tmp_path / "d.pkl").write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="not readable as a pickled dictionary"):
        read_pickled_dict(tmp_path / "d.pkl", str)


# --- files -----------------------------------------------------------------------------------------------------------


def test_json(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"a": 1}))
    assert read_json(tmp_path / "a.json") == {"a": 1}
    for text, words in (
        ("{", "not readable as JSON"),
        ("[1]", "holds a value of type list, not a mapping"),
        ("[" * 10**5, "not readable"),
    ):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(CheckpointError, match=words):
            read_json(tmp_path / "a.json")


def test_files_are_found_by_name_in_order_of_preference(tmp_path):
    with pytest.raises(CheckpointError, match=r"no file b\.pt or \*\.bin \(found: nothing\)"):
        find_file(tmp_path, "b.pt", "*.bin")
    for name in ("a.bin", "b.pt"):
        (tmp_path / name).touch()
    assert find_file(tmp_path, "b.pt", "*.bin").name == "b.pt" and find_file(tmp_path, "*.bin").name == "a.bin"
    (tmp_path / "c.bin").touch()
    with pytest.raises(CheckpointError, match=r"several files match \*\.bin: a\.bin, c\.bin; remove all but one"):
        find_file(tmp_path, "*.bin")
