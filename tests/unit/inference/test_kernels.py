"""The kernels of GPUs equal the plain ones: their control flow and their arithmetic, on the CPU.

What runs here is everything but CUDA: the graphs that are compiled on a GPU, without a compiler; flex_attention, unfused; and
in place of flash attention a function with its arguments. tests/unit/inference/test_inference_on_device.py runs the kernels
themselves.
"""

import math
from contextlib import contextmanager

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F  # noqa: N812
from made_checkpoints import MAKE
from torch._dynamo.testing import CompileCounter
from torch.nn.attention import SDPBackend, sdpa_kernel
from vectors import embedding

from cellgauge.inference import device, kernels, onednn
from cellgauge.models.scgpt.network import ScGPT

LEVELS = ("fused", "compiled")
OPTIONS = {"uce": {"sample_size": 3}}  # of genes of one, two or three chromosomes, so that lengths differ
FAMILIES = [family for family in MAKE if family != "scvi"]  # scVI has neither attention nor layers to compile


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {family: MAKE[family](folder / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return tiny.split_file(tmp_path_factory.mktemp("tiny"), n_cells=60)


@pytest.fixture
def forced(monkeypatch):
    """Return a function that makes all networks compute at a level, with graphs that are traced but not compiled.

    It returns the counter of graphs, and the number of calls of flash attention.
    """
    plain = kernels.kernels
    graphs, calls = CompileCounter(), []

    def force(level):
        @contextmanager
        def forced_level(_, name):
            with plain(level, name):
                yield

        def flash(*arguments):
            calls.append(1)
            return flash_on_cpu(*arguments)

        torch._dynamo.reset()
        kernels._compile.cache_clear()
        monkeypatch.setattr(kernels, "kernels", forced_level)
        monkeypatch.setattr(kernels, "BACKEND", graphs)
        monkeypatch.setattr(kernels, "_fits_flash", lambda q: True)
        monkeypatch.setattr(kernels, "_flash", torch._dynamo.disable(flash) if level == "fused" else flash_on_cpu)
        monkeypatch.setattr(onednn, "available", lambda: False)  # as on a GPU
        return graphs, calls

    yield force
    kernels._compile.cache_clear()
    torch._dynamo.reset()


def flash_on_cpu(q, k, v, query_starts, key_starts, m, n, lengths):
    """Compute what `_flash_attention_forward` computes for sequences of `m` queries and `n` places for keys."""
    assert lengths.dtype == query_starts.dtype == key_starts.dtype == torch.int32 and q.ndim == 3
    batch = lengths.shape[0]
    q, k, v = q.unflatten(0, (batch, m)), k.unflatten(0, (batch, n)), v.unflatten(0, (batch, n))
    used = torch.arange(n) < lengths[:, None]
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=used[:, None, None])
    return attended.transpose(1, 2).flatten(0, 1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("level", LEVELS)
def test_every_family_computes_the_same_with_the_kernels_of_gpus(checkpoints, split, forced, family, level):
    expected = embedding(family, split, checkpoints[family], tokens_per_batch=300, **OPTIONS.get(family, {}))
    graphs, calls = forced(level)
    result = embedding(family, split, checkpoints[family], tokens_per_batch=300, **OPTIONS.get(family, {}))
    np.testing.assert_allclose(result.matrix, expected.matrix, atol=1e-5)
    if level == "compiled":
        assert 1 <= graphs.frame_count <= 8  # and not one for each shape of a mini-batch
    else:
        assert bool(calls) == (family in ("scgpt", "uce", "geneformer"))
        assert bool(graphs.frame_count) == (family == "transcriptformer")


@pytest.mark.parametrize("cap", [0.0, 3.0])
@pytest.mark.parametrize("hidden", [False, True])
def test_capped_attention_is_what_its_formula_says(cap, hidden):
    generator = torch.Generator().manual_seed(1)
    batch, heads, n, width = 3, 2, 150, 8
    q, k, v = (torch.randn(batch, heads, n, width, generator=generator) for _ in range(3))
    bias, offset = torch.randn(batch, n, generator=generator), torch.zeros(batch, n)
    if hidden:
        offset[1, :2] = -1e4
    found = kernels._capped_attention(q, k, v, bias, offset, cap, kernels.causal_blocks(n, q.device))
    logits = (q.double() @ k.double().mT) / math.sqrt(width) + bias.double()[:, None, None]
    logits = (cap * torch.tanh(logits / cap) if cap else logits) + offset.double()[:, None, None]
    logits = logits.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf)
    if hidden:  # from the tokens after them; the two themselves, which no one attends to, are not compared
        logits[1, :, 2:, :2] = -torch.inf
        found, logits = found[:, :, 2:], logits[:, :, 2:]
    expected = (logits.softmax(dim=-1) @ v.double()).float()
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=2e-5)


def test_a_mask_or_none_is_the_same_attention_at_every_level(monkeypatch):
    monkeypatch.setattr(kernels, "_flash", flash_on_cpu)
    monkeypatch.setattr(kernels, "_fits_flash", lambda q: True)
    q, k, v = torch.randn(3, 4, 2, 5, 8)[:, :, :, :1], torch.randn(4, 2, 5, 8), torch.randn(4, 2, 5, 8)
    mask = torch.arange(5) < torch.tensor([5, 1, 3, 4])[:, None]
    for query in (q[0], k):
        plain = kernels.attend(query, k, v, mask)
        with kernels.kernels("fused"):
            torch.testing.assert_close(kernels.attend(query, k, v, mask), plain)
            torch.testing.assert_close(kernels.attend(query, k, v), F.scaled_dot_product_attention(query, k, v))
            added = kernels.attend(query, k, v, (~mask).float())
        torch.testing.assert_close(
            added, F.scaled_dot_product_attention(query, k, v, attn_mask=(~mask).float()[:, None, None])
        )


def test_the_operations_of_a_network_are_counted():
    """The formula of config/costs.yaml, but that the last layer computes one token of each cell."""
    batch, n, width, hidden, layers = 3, 20, 16, 24, 3
    network = ScGPT(50, width, hidden, layers, 4).requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_()
    network.fill_tables(torch.arange(51.0))
    # by products of matrices: PyTorch counts the attention kernels of GPUs, and not that of the CPU
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), device.Gpu.counting(None) as operations:
        network(torch.ones(batch, n, dtype=torch.int64), torch.ones(batch, n, dtype=torch.int64))
    projected, attended = 2 * (2 * width**2 + 2 * width * hidden), 4 * n * width
    whole = n * (projected + 4 * width**2 + attended)
    last = projected + n * 4 * width**2 + attended
    assert operations() == batch * ((layers - 1) * whole + last)


def test_flash_attention_is_for_gpus_and_half_precision():
    assert not kernels._fits_flash(torch.ones(1, 1, 1, 8, dtype=torch.bfloat16))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_mask_is_made_where_all_cells_of_a_batch_are_of_one_length(checkpoints, split, monkeypatch, family):
    masks = []
    attend = F.scaled_dot_product_attention

    def recorded(*arguments, attn_mask=None, **others):
        masks.append(attn_mask is not None)
        return attend(*arguments, attn_mask=attn_mask, **others)

    monkeypatch.setattr(onednn, "available", lambda: False)
    monkeypatch.setattr(F, "scaled_dot_product_attention", recorded)
    embedding(family, split, checkpoints[family], tokens_per_batch=1, **OPTIONS.get(family, {}))  # cell by cell
    assert not any(masks) and bool(masks) == (family != "transcriptformer")
    masks.clear()
    embedding(family, split, checkpoints[family], tokens_per_batch=10**6, **OPTIONS.get(family, {}))
    assert any(masks) == (family in ("scgpt", "uce", "geneformer"))


def test_cells_cut_to_one_length_fill_batches_without_masks(checkpoints, split, monkeypatch):
    """Most cells have more than 12 genes: of their mini-batches one at most has shorter cells too."""
    masked = []
    network_run = device.Network.run

    def recorded(self, batches):
        def seen():
            for batch in batches:
                masked.append((batch.width, len(batch.arrays) == 3))
                yield batch

        return network_run(self, seen())

    monkeypatch.setattr(device.Network, "run", recorded)
    embedding("scgpt", split, checkpoints["scgpt"], tokens_per_batch=120, max_length=12)
    longest = [mask for width, mask in masked if width == 12]
    assert len(longest) >= 5 and sum(longest) <= 1
