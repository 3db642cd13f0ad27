"""Linear layers and attention on the CPU by oneDNN: the same numbers to rounding, in less time.

PyTorch multiplies float32 matrices on x86 with MKL, which on AMD's processors reaches half of the speed of oneDNN; PyTorch
brings that along too, but takes it for other things only. Inside of `onednn()` whatever network computes,
`torch.nn.functional.linear` and `scaled_dot_product_attention` go that way where it applies: float32 on the CPU, nothing to
differentiate. Everything else, and a PyTorch without these functions, computes as ever.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

SCORES_AT_ONCE = 2**20  # of attention: 4 MB, about what stays in the processor's caches
MOST_KEYS = 5000  # with more, so few queries fit at once that PyTorch's own kernel, which goes by tiles, is as fast
KERNELS = "16"
"""How many compiled kernels oneDNN keeps. Each is for one shape, and cells of many lengths make thousands of them: with the
default of 1024 a job grows by hundreds of megabytes. Read when it first computes; two layers of it keep as many each."""
for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(name, KERNELS)

FEWEST_SCORES = 2**14  # of a cell and head: below that the calls cost more than they gain


def available() -> bool:
    """Return whether this PyTorch has the functions; they are not public, so one that lacks them is no fault."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn(device: str) -> Any:
    """Return a context in which networks on `device` compute by oneDNN, where that is possible."""
    return _OneDNN() if device == "cpu" and available() else nullcontext()


class _OneDNN(TorchFunctionMode):
    def __torch_function__(
        self,
        function: Callable,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        faster = FASTER.get(function)
        result = faster(*args, **(kwargs or {})) if faster else None
        return function(*args, **(kwargs or {})) if result is None else result


# parameters have the names and the places of the functions that these stand for


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    """Return input weight^T + bias, or None where it must be computed otherwise."""
    if not (input.numel() and weight.ndim == 2 and _applies(input, weight)):
        return None
    return _product(input, weight, bias)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    **others: Any,
) -> Tensor | None:
    """Return softmax(scale QK^T) V, shape (batch, heads, m, width), or None where it must be computed otherwise.

    Args:
        query: (batch, heads, m, width).
        key, value: (batch, heads, n, width).
        attn_mask: bool, (batch, 1, 1, n): False hides a key. Other masks are left alone.
        dropout_p, is_causal, others: where one is set it is left alone.
    """
    if dropout_p or is_causal or any(others.values()) or query.ndim != 4 or query.shape[:2] != key.shape[:2]:
        return None
    batch, heads, m, width = query.shape
    n = key.shape[2]
    if n > MOST_KEYS or m * n < FEWEST_SCORES or not _applies(query, key, value):
        return None
    if attn_mask is not None and not _hides_some_keys(attn_mask, key):
        return None
    attended = value.new_empty(batch, m, heads, value.shape[3])  # so that putting heads side by side copies nothing
    query = query * (1 / math.sqrt(width) if scale is None else scale)
    for cell in range(batch):
        seen = slice(None) if attn_mask is None else attn_mask[cell, 0, 0]
        for head in range(heads):
            k, v = key[cell, head, seen], value[cell, head, seen].t().contiguous()
            rows = max(1, SCORES_AT_ONCE // len(k))
            for start in range(0, m, rows):
                weights = _product(query[cell, head, start : start + rows], k).softmax(dim=-1)
                attended[cell, start : start + rows, head] = _product(weights, v)
    return attended.transpose(1, 2)


def _hides_some_keys(mask: Tensor, keys: Tensor) -> bool:
    """Return whether a mask is of keys alone, and leaves each cell one."""
    return mask.dtype == torch.bool and mask.shape == (len(keys), 1, 1, keys.shape[2]) and bool(mask.any(dim=-1).all())


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    # with a weight that is not contiguous, as a view of one head is, it takes a path that is a hundred times slower
    return torch.ops.mkldnn._linear_pointwise(x, weight.contiguous(), bias, "none", [], "")


def _applies(*tensors: Tensor) -> bool:
    differentiates = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    plain = all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in tensors)
    return plain and not differentiates and not torch.is_autocast_enabled("cpu")


FASTER = {F.linear: _linear, F.scaled_dot_product_attention: _attention}
