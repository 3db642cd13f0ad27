"""From a split to rows: streaming, batches, memory of the device, random numbers of single cells."""

import math
import threading
import time

import numpy as np
import pytest
import tiny
import torch
from counting import expected_rows

from cellgauge.core.errors import CellgaugeError
from cellgauge.files.split import Split
from cellgauge.inference import device, kernels
from cellgauge.inference.run import (
    Record,
    cell_generator,
    cell_generators,
    embed_split,
    key_mask,
    padded,
    require_matches,
)


class Sums:
    """Embeds a cell as (sum of counts, number of genes), records the mini-batches, and may run out of memory."""

    n_dims = 2

    def __init__(self, skip=(), capacity=math.inf):
        self.skip, self.capacity, self.sizes, self.widths = set(skip), capacity, [], []

    def tokenize(self, counts, cells):
        for row, cell in zip(counts, cells, strict=True):
            yield None if cell in self.skip else Record((row.data,), row.nnz)

    def collate(self, records):
        return padded([record.arrays[0] for record in records], 0), *key_mask([record.length for record in records])

    def forward(self, counts, mask=None):
        if counts.numel() > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.sizes.append(len(counts))
        self.widths.append(counts.shape[1])
        tokens = torch.ones_like(counts) if mask is None else mask.float()
        return torch.stack([counts.sum(1), tokens.sum(1)], dim=1)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return Split.open(tiny.split_file(tmp_path_factory.mktemp("tiny"), n_cells=150))


@pytest.fixture(scope="module")
def expected(split):
    return expected_rows(split)


def run(split, encoder, **options):
    return embed_split(split, encoder, device="cpu", **options)


@pytest.mark.parametrize("tokens", [1, 100, 10**6, None])
@pytest.mark.parametrize("window", [1, 16, 1000])
def test_rows_are_the_splits_whatever_the_batches(split, expected, tokens, window):
    encoder = Sums()
    matrix, facts = run(split, encoder, tokens_per_batch=tokens, cells_per_window=window)
    np.testing.assert_array_equal(matrix, expected)
    assert sum(encoder.sizes) == 150 and max(encoder.sizes) <= window
    fits = np.multiply(encoder.sizes, encoder.widths) <= (tokens or 8192)
    assert (fits | (np.asarray(encoder.sizes) == 1)).all()
    assert facts["cells_per_second"] > 0 and facts["precision"] == "fp32" and facts["halved_batches"] == 0
    assert facts["gpu_seconds"] == 0 and facts["peak_gpu_memory_mb"] == 0


def test_batches_are_formed_of_about_equal_lengths(split):
    encoder = Sums()
    run(split, encoder, tokens_per_batch=500)
    in_order = Sums()
    run(split, in_order, tokens_per_batch=500, cells_per_window=12)
    padding = [int(np.dot(e.sizes, e.widths)) for e in (encoder, in_order)]
    assert padding[0] < padding[1]


def test_without_a_budget_a_window_is_one_batch(split, expected):
    encoder = Sums(skip=split.cells[:3])
    matrix, _ = run(split, encoder, tokens_per_batch=math.inf, cells_per_window=25)
    assert encoder.sizes == [25] * 5 + [22]
    np.testing.assert_array_equal(matrix[3:], expected[3:])


def test_cells_without_a_record_are_nan_rows(split, expected):
    skip = split.cells[[0, 7, 149]]
    matrix, _ = run(split, Sums(skip=skip), tokens_per_batch=200)
    lost = np.isin(split.cells, skip)
    assert np.isnan(matrix[lost]).all()
    np.testing.assert_array_equal(matrix[~lost], expected[~lost])


@pytest.mark.parametrize("capacity", [80, 200, 700])
def test_batches_that_do_not_fit_are_halved_once_and_for_all(split, expected, capacity):
    encoder = Sums(capacity=capacity)
    matrix, facts = run(split, encoder, tokens_per_batch=5000)
    np.testing.assert_array_equal(matrix, expected)
    assert 0 < facts["halved_batches"] < 10  # not again for every mini-batch
    assert sum(encoder.sizes) == 150


def test_one_cell_that_does_not_fit_is_one_sentence(split):
    with pytest.raises(
        CellgaugeError, match=r"one cell of \d+ tokens does not fit in the memory of cpu; use another device"
    ):
        run(split, Sums(capacity=3))


def test_a_network_that_yields_nan_is_one_sentence(split):
    encoder = Sums()
    encoder.forward = lambda counts, mask=None: torch.full((len(counts), 2), torch.nan)
    with pytest.raises(
        CellgaugeError, match="split human of tiny: the network returns values that are not finite for cell 'human-"
    ):
        run(split, encoder)


@pytest.mark.parametrize("where", ["tokenize", "collate", "forward"])
def test_errors_of_every_stage_reach_the_caller_and_no_thread_stays(split, where):
    encoder = Sums()

    def fail(*arguments):
        raise CellgaugeError(f"{where} failed")

    setattr(encoder, where, fail)
    with pytest.raises(CellgaugeError, match=f"{where} failed"):
        run(split, encoder)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tokenize")]


def test_tokenising_overlaps_the_device(split):
    """The network waits until the next mini-batch is collated, which without the thread would never happen."""
    encoder, collated = Sums(), threading.Semaphore(0)
    collate, forward = encoder.collate, encoder.forward
    encoder.collate = lambda records: (collate(records), collated.release())[0]

    def wait_for_next(*arrays):
        is_last = len(encoder.sizes) == 29
        assert collated.acquire(timeout=20) and (is_last or collated.acquire(timeout=20))
        collated.release()
        return forward(*arrays)

    encoder.forward = wait_for_next
    run(split, encoder, tokens_per_batch=math.inf, cells_per_window=5)
    assert len(encoder.sizes) == 30


def test_no_more_than_a_few_batches_are_made_ahead(split):
    encoder, collated = Sums(), []
    collate, forward = encoder.collate, encoder.forward
    encoder.collate = lambda records: (collated.append(1), collate(records))[1]
    ahead = []
    encoder.forward = lambda *arrays: (
        time.sleep(0.01),
        ahead.append(len(collated) - len(encoder.sizes)),
        forward(*arrays),
    )[2]
    run(split, encoder, tokens_per_batch=math.inf, cells_per_window=5)
    assert max(ahead) <= 5


# --- precision -------------------------------------------------------------------------------------------------------


class Product(Sums):
    """Embeds a cell as a product of matrices."""

    n_dims = 8

    def forward(self, counts, mask=None):
        weight = torch.linspace(-1, 1, 8 * counts.shape[1]).reshape(8, -1)
        return torch.nn.functional.linear(counts, weight)


def test_bf16_reports_how_far_it_is_from_fp32(split):
    exact, facts = run(split, Product(), cells_per_window=1)
    assert "fp32_max_deviation" not in facts
    rounded, facts = run(split, Product(), cells_per_window=1, precision="bf16")
    assert 0 < facts["fp32_max_deviation"] == np.abs(rounded[0] - exact[0]).max() and facts["precision"] == "bf16"
    assert 0.99 < facts["fp32_min_cosine"] <= 1


@pytest.mark.parametrize(
    ("precision", "words"),
    [("fp16", "precision must be one of auto, fp32, tf32, bf16, not 'fp16'"), ("tf32", "'tf32' needs an NVIDIA GPU")],
)
def test_precisions_that_cannot_be_had(split, precision, words):
    with pytest.raises(CellgaugeError, match=words):
        run(split, Sums(), precision=precision)


# --- a simulated GPU --------------------------------------------------------------------------------------------------


class Gpu(device.Host):
    """A device "cuda:0" that is the CPU, and that copies rows to the host no sooner than it must.

    Attributes:
        fast: whether it multiplies faster in low precisions.
        peak: bytes since the last reset; a network may raise it.
        unfetched: mini-batches whose rows have not arrived; `most_unfetched` is the largest number of them at once.
    """

    def __init__(self):
        super().__init__("cpu")
        self.fast, self.peak, self.freed = True, 100, 0
        self.unfetched, self.most_unfetched = [], 0

    def is_fast(self):
        return self.fast

    def download(self, rows):
        target = torch.full_like(rows, torch.nan)
        self.unfetched.append((target, rows.clone()))
        self.most_unfetched = max(self.most_unfetched, len(self.unfetched))
        return target

    def mark(self):
        return time.perf_counter(), len(self.unfetched)

    def seconds(self, began, ended):
        for target, rows in self.unfetched[:1]:
            target.copy_(rows)
        del self.unfetched[:1]
        return ended[0] - began[0]

    counting = device.Gpu.counting

    def free_memory(self):
        self.freed += 1

    def reset_peak_memory(self):
        self.peak = 3 * 2**20

    def peak_memory(self):
        return self.peak


@pytest.fixture
def gpu(monkeypatch):
    simulated, autocast = Gpu(), torch.autocast
    monkeypatch.setattr(device, "Gpu", lambda name: simulated)
    monkeypatch.setattr(torch, "autocast", lambda kind, *others, enabled: autocast("cpu", *others, enabled=enabled))
    return simulated


def on_gpu(split, encoder, **options):
    return embed_split(split, encoder, device="cuda:0", **options)


class Rounded(Sums):
    """As Sums, with an error in each precision and at each level of kernels, and a level that fails.

    Attributes:
        used: the precision and the level of each call.
    """

    def __init__(self, errors=None, fails=(), **options):
        super().__init__(**options)
        self.errors, self.fails, self.used = errors or {}, fails, []

    def forward(self, counts, mask=None):
        precision = {True: "bf16", False: {"high": "tf32"}.get(torch.get_float32_matmul_precision(), "fp32")}
        precision = precision[torch.is_autocast_enabled("cpu")]
        self.used.append((precision, kernels._level))
        if kernels._level in self.fails:
            raise RuntimeError("no kernel image is available")
        rows = super().forward(counts, mask)
        return rows + self.errors.get(precision, 0) * rows.flip(1)


@pytest.mark.parametrize("capacity", [80, 200, 700, math.inf])
@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_rows_are_fetched_late_and_land_where_they_belong(split, expected, gpu, capacity, precision):
    encoder = Sums(capacity=capacity)
    matrix, facts = on_gpu(split, encoder, tokens_per_batch=1000, precision=precision)
    np.testing.assert_array_equal(matrix, expected)
    assert not gpu.unfetched and gpu.most_unfetched >= 2
    assert (facts["halved_batches"] > 0) == (capacity < math.inf)
    assert bool(gpu.freed) == bool(facts["halved_batches"])


def test_the_next_batch_is_started_before_the_rows_of_one_are_fetched(split, gpu):
    encoder = Sums()
    forward, states = encoder.forward, []
    encoder.forward = lambda *arrays: (states.append(len(gpu.unfetched)), forward(*arrays))[1]
    on_gpu(split, encoder, tokens_per_batch=1000, precision="fp32")
    assert states[:2] == [0, 0]  # the reference, then the first mini-batch
    assert set(states[2:]) == {1}


def test_a_gpu_is_timed_and_its_peak_memory_reported(split, expected, gpu):
    encoder = Sums(capacity=200)
    forward, tokenize = encoder.forward, encoder.tokenize
    encoder.forward = lambda *arrays: (time.sleep(0.001), forward(*arrays))[1]
    encoder.tokenize = lambda *arguments: (time.sleep(0.05), tokenize(*arguments))[1]
    began = time.perf_counter()
    matrix, facts = on_gpu(split, encoder, tokens_per_batch=5000)
    seconds = time.perf_counter() - began
    np.testing.assert_array_equal(matrix, expected)
    assert 0.001 * 20 <= facts["gpu_seconds"] <= seconds
    assert facts["peak_gpu_memory_mb"] == 3
    assert 150 / seconds <= facts["cells_per_second"] <= 150 / facts["gpu_seconds"]
    tokens = expected[:, 1].sum()
    assert facts["tokens_per_second"] / facts["cells_per_second"] == pytest.approx(tokens / 150)
    assert 0.05 <= facts["host_wait_seconds"] <= seconds
    share = facts["gpu_seconds"] * facts["cells_per_second"] / 150
    assert facts["gpu_utilization"] == pytest.approx(share) and facts["gpu_utilization"] < 1


@pytest.mark.parametrize(
    ("errors", "chosen", "rejected"),
    [
        ({}, "bf16", ""),
        ({"bf16": 1e-4, "tf32": 1.0}, "bf16", ""),
        ({"bf16": 0.1}, "tf32", "bf16 ("),
        ({"bf16": 0.1, "tf32": 0.2}, "fp32", "bf16 ("),
        ({"bf16": math.nan, "tf32": math.nan}, "fp32", "bf16 (nan), tf32 (nan)"),
    ],
)
def test_auto_takes_the_fastest_precision_that_agrees_with_fp32(split, gpu, errors, chosen, rejected):
    encoder = Rounded(errors)
    _, facts = on_gpu(split, encoder, tokens_per_batch=1000)
    tried = ("bf16", "tf32", "fp32").index(chosen) + 1
    assert [precision for precision, _ in encoder.used[1:tried]] == ["bf16", "tf32"][: tried - 1]
    assert encoder.used[0] == ("fp32", "plain")
    level = "plain" if chosen == "fp32" else "fused"
    assert set(encoder.used[3:]) == {(chosen, level)} and (facts["precision"], facts["kernels"]) == (chosen, level)
    assert facts.get("rejected_precisions", "").startswith(rejected)
    assert ("fp32_min_cosine" in facts) == (chosen != "fp32")
    assert facts.get("fp32_min_cosine", 1) >= 0.9999


def test_auto_is_fp32_where_low_precisions_are_not_faster(split, gpu):
    gpu.fast = False
    _, facts = on_gpu(split, Rounded(), tokens_per_batch=1000)
    assert facts["precision"] == "fp32"
    encoder = Rounded()
    _, facts = run(split, encoder)
    assert facts["precision"] == "fp32" and set(encoder.used) == {("fp32", "plain")}
    assert facts["gpu_utilization"] == 0 and "gflop_per_cell" not in facts


def test_a_precision_that_was_asked_for_is_kept_whatever_its_deviation(split, gpu):
    before = torch.get_float32_matmul_precision()
    _, facts = on_gpu(split, Rounded({"tf32": 0.5}), precision="tf32", tokens_per_batch=1000)
    assert facts["precision"] == "tf32" and facts["fp32_min_cosine"] < 0.99 and facts["fp32_max_deviation"] > 1
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("fails", [("compiled",), ("compiled", "fused")])
def test_kernels_that_fail_are_replaced_by_plainer_ones_and_said_once(split, expected, gpu, monkeypatch, capsys, fails):
    monkeypatch.setattr(device, "COMPILE_FROM", 0)
    encoder = Rounded(fails=fails)
    matrix, facts = on_gpu(split, encoder, tokens_per_batch=1000)
    np.testing.assert_array_equal(matrix, expected)
    assert facts["kernels"] == ("fused" if len(fails) == 1 else "plain") and facts["precision"] == "bf16"
    assert facts["kernels_that_failed"].count("no kernel image is available") == len(fails)
    assert capsys.readouterr().err.count("no kernel image is available") == len(fails)
    assert sum(level in fails for _, level in encoder.used) == len(fails)


def test_an_error_of_plain_kernels_reaches_the_caller(split, gpu):
    with pytest.raises(RuntimeError, match="no kernel image"):
        on_gpu(split, Rounded(fails=("plain",)))


def test_layers_are_compiled_where_the_run_is_long(split, gpu, monkeypatch):
    class Layer(Product, Rounded):
        def forward(self, counts, mask=None):
            Rounded.forward(self, counts, mask)
            return Product.forward(self, counts, mask)

    encoder = Layer()
    _, facts = on_gpu(split, encoder, tokens_per_batch=1000)
    n_genes = encoder.widths[0]
    assert facts["gflop_per_cell"] == 2 * 8 * n_genes / 1e9
    for enough, level in ((1.01, "fused"), (0.99, "compiled")):
        monkeypatch.setattr(device, "COMPILE_FROM", enough * 150 * 2 * 8 * n_genes)
        assert on_gpu(split, Layer(), tokens_per_batch=1000)[1]["kernels"] == level


def test_the_comparison_with_fp32_does_not_count(split, gpu):
    """Neither its seconds, nor its memory, nor the batches that it halved because fp32 needs more."""
    encoder = Rounded()
    forward, sleeping = encoder.forward, []

    def compute(*arrays):
        if torch.is_autocast_enabled("cpu"):
            gpu.peak = max(gpu.peak, 7 * 2**20)
        else:
            began = time.perf_counter()
            time.sleep(0.2)
            gpu.peak = 50 * 2**20
            sleeping.append(time.perf_counter() - began)
            if len(arrays[0]) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(*arrays)

    encoder.forward = compute
    began = time.perf_counter()
    _, facts = on_gpu(split, encoder, tokens_per_batch=150)
    others = time.perf_counter() - began - sum(sleeping)
    assert len(sleeping) > 2 and facts["gpu_seconds"] <= others and facts["cells_per_second"] >= 150 / others
    assert facts["precision"] == "bf16" and facts["peak_gpu_memory_mb"] == 7 and facts["halved_batches"] == 0


# --- random numbers, genes, padding ----------------------------------------------------------------------------------


def test_a_cells_random_numbers_depend_on_the_seed_and_its_id_alone():
    first, again = cell_generator(1, "a").random(5), cell_generator(1, "a").random(5)
    np.testing.assert_array_equal(first, again)
    others = [cell_generator(2, "a"), cell_generator(1, "b"), cell_generator(1, "a "), cell_generator(1, "")]
    assert len({first[0], *(generator.random() for generator in others)}) == 5
    # must be the same on other machines and releases
    numbers = cell_generator(42, "AAACCTG-1").random(3)
    np.testing.assert_allclose(numbers, [0.8313397780068407, 0.3752301244196026, 0.48047788262296387], rtol=1e-15)


def test_streams():
    of_cells = cell_generators("cell", 3, None)
    assert of_cells("a").random() == of_cells("a").random() == cell_generator(3, "a").random()
    official = cell_generators("official", 3, np.random.RandomState)
    np.testing.assert_array_equal(
        [official("a").random(), official("a").random()], np.random.RandomState(3).random_sample(2)
    )
    with pytest.raises(CellgaugeError, match="random_stream must be 'cell' or 'official', not 'none'"):
        cell_generators("none", 3, None)


def test_too_few_known_genes(split):
    require_matches(30, 60, 0.5, "the list", split)
    words = (
        r"split human of tiny: 29 of 60 genes that could match are in the list, but `min_matched_genes`"
        r" requires a fraction of 0.5 \(symbols of the split: 'GENE0', 'GENE1', 'GENE2', ...; ids: 'ENSG0+', ...\)"
    )
    with pytest.raises(CellgaugeError, match=words):
        require_matches(29, 60, 0.5, "the list", split)
    with pytest.raises(CellgaugeError, match="0 of 60"):
        require_matches(0, 60, 0.0, "the list", split)


def test_padding_and_masks():
    arrays = [np.array([1, 2, 3]), np.array([4])]
    np.testing.assert_array_equal(padded(arrays, 9), [[1, 2, 3], [4, 9, 9]])
    assert padded([np.ones(2, np.float32)], 0).dtype == np.float32
    np.testing.assert_array_equal(key_mask([3, 1])[0], [[True, True, True], [True, False, False]])
    assert key_mask([3, 3]) == ()
