"""Which device a model gets, with GPUs made up: their locks are real."""

import os
import threading

import pytest
import torch

from cellgauge.core import gpu
from cellgauge.core.errors import CellgaugeError
from cellgauge.metrics import scoring_device as scoring


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(gpu, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(gpu, "_held", {})
    yield
    for descriptor in gpu._held.values():
        os.close(descriptor)


def test_jobs_get_gpus_of_their_own_and_wait_where_all_are_used(two_gpus, capsys):
    others = [gpu._lock(0), gpu._lock(1)]  # what two other jobs hold
    picked = []
    waiting = threading.Thread(target=lambda: picked.append(gpu.pick_device()), daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive() and not picked
    os.close(others.pop())  # the second job ends
    waiting.join(20)
    os.close(others.pop())
    assert picked == ["cuda:1"]
    assert capsys.readouterr().err == "all 2 GPUs are used by other jobs, waiting for one\n"


def test_a_job_that_asks_again_gets_the_gpu_that_it_holds(two_gpus, capsys):
    other = gpu._lock(0)
    picked = []
    asking = threading.Thread(target=lambda: picked.extend([gpu.pick_device(), gpu.pick_device("cuda")]), daemon=True)
    asking.start()
    asking.join(20)
    os.close(other)
    assert picked == ["cuda:1", "cuda:1"] and list(gpu._held) == [1]
    assert capsys.readouterr().err == ""


def test_a_scheduler_or_the_user_may_have_chosen(two_gpus, monkeypatch):
    assert gpu.pick_device("cuda:1") == "cuda:1" and gpu.pick_device("cpu") == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.pick_device() for _ in range(3)] == ["cuda:0"] * 3 and not gpu._held


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert gpu.pick_device() == "cpu"
    for name in ("cuda", "cuda:1", "mps", "tpu"):
        with pytest.raises(CellgaugeError, match=f"device '{name}' is not available here \\(available: cpu\\)"):
            gpu.pick_device(name)


def make_gpus_known(monkeypatch, known=True):
    monkeypatch.setattr(scoring, "_has_gpu", lambda: known)
    for name in ("SCIPY_ARRAY_API", "PYTORCH_NVML_BASED_CUDA_CHECK"):
        monkeypatch.setenv(name, "1")  # set by the function; put back afterwards


def test_scorers_take_a_free_gpu_for_large_splits_and_never_wait(two_gpus, monkeypatch):
    make_gpus_known(monkeypatch)
    large = scoring.WORTHWHILE_CELLS
    assert scoring.scoring_device("cpu", large) is None
    assert scoring.scoring_device("auto", large - 1) is None and not gpu._held
    others = [gpu._lock(0), gpu._lock(1)]
    assert scoring.scoring_device("auto", large) is None
    os.close(others.pop())
    assert scoring.scoring_device("auto", large) == scoring.scoring_device("cuda", 1) == "cuda:1"
    os.close(others.pop())


def test_scorers_leave_alone_what_somebody_shares_out(two_gpus, monkeypatch):
    make_gpus_known(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert scoring.scoring_device("auto", 10**6) is None
    assert scoring.scoring_device("cuda", 10) == "cuda:0"


def test_scorers_without_a_gpu(monkeypatch):
    make_gpus_known(monkeypatch, known=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert scoring.scoring_device("auto", 10**6) is None
    with pytest.raises(CellgaugeError, match="score_device is cuda, but PyTorch finds no GPU here"):
        scoring.scoring_device("cuda", 10)
    with pytest.raises(CellgaugeError, match="unknown score_device 'gpu'; there are cpu, cuda, auto"):
        scoring.scoring_device("gpu", 10)
    monkeypatch.setattr(scoring.importlib.util, "find_spec", lambda name: None)
    assert scoring.scoring_device("auto", 10**6) is None
    with pytest.raises(CellgaugeError, match="no PyTorch"):
        scoring.scoring_device("cuda", 10)
