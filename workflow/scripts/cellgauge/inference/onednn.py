"""Linear layers and attention on the CPU by oneDNN: the same numbers to rounding, in less time.

On x86, PyTorch multiplies float32 matrices with MKL, which on AMD processors is half as fast as oneDNN. PyTorch includes
oneDNN but uses it for other operations only. Within `onednn()`, `torch.nn.functional.linear` and
`scaled_dot_product_attention` use it for float32 on the CPU without gradients. Everything else is computed as without the
context, and so is everything if PyTorch lacks these functions.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

SCORES_AT_ONCE = 2**20  # attention scores computed together: 4 MB, about the size of the processor's caches
MAX_KEYS = 5000  # with more keys, too few queries fit at once, and PyTorch's tiled kernel is as fast
KERNELS = "16"
"""Number of compiled kernels that each of oneDNN's two caches holds. Each kernel is for one shape, and cells of many lengths
need thousands: with the default of 1024 a job grows by hundreds of megabytes. oneDNN reads it at its first computation."""
for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(name, KERNELS)

MIN_SCORES = 2**14  # per cell and head: with fewer, the calls cost more than they save


def available() -> bool:
    """Return whether this PyTorch has the functions. They are not public, so a release may lack them."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn(device: str) -> Any:
    """Return a context in which networks on `device` compute with oneDNN where possible."""
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


# parameters have the names and positions of those of the functions that these replace


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    """Return input weight^T + bias, or None if PyTorch must compute it."""
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
    """Return softmax(scale QK^T) V, shape (batch, heads, m, width), or None if PyTorch must compute it.

    Args:
        query: (batch, heads, m, width).
        key, value: (batch, heads, n, width).
        attn_mask: bool, (batch, 1, 1, n): False hides a key. PyTorch computes other masks.
        dropout_p, is_causal, others: PyTorch computes if one of them is set.
    """
    if dropout_p or is_causal or any(others.values()) or query.ndim != 4 or query.shape[:2] != key.shape[:2]:
        return None
    batch, heads, m, width = query.shape
    n = key.shape[2]
    if n > MAX_KEYS or m * n < MIN_SCORES or not _applies(query, key, value):
        return None
    if attn_mask is not None and not _hides_some_keys(attn_mask, key):
        return None
    attended = value.new_empty(batch, m, heads, value.shape[3])  # in this order, joining the heads copies nothing
    query = query * (1 / math.sqrt(width) if scale is None else scale)
    for cell in range(batch):
        visible = slice(None) if attn_mask is None else attn_mask[cell, 0, 0]
        for head in range(heads):
            k, v = key[cell, head, visible], value[cell, head, visible].t().contiguous()
            rows = max(1, SCORES_AT_ONCE // len(k))
            for start in range(0, m, rows):
                weights = _product(query[cell, head, start : start + rows], k).softmax(dim=-1)
                attended[cell, start : start + rows, head] = _product(weights, v)
    return attended.transpose(1, 2)


def _hides_some_keys(mask: Tensor, keys: Tensor) -> bool:
    """Return whether a mask hides keys only, the same for all heads and queries, and leaves each cell at least one."""
    return mask.dtype == torch.bool and mask.shape == (len(keys), 1, 1, keys.shape[2]) and bool(mask.any(dim=-1).all())


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    # a weight that is not contiguous, such as a view of one head, is a hundred times slower
    return torch.ops.mkldnn._linear_pointwise(x, weight.contiguous(), bias, "none", [], "")


def _applies(*tensors: Tensor) -> bool:
    has_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    plain = all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in tensors)
    return plain and not has_gradient and not torch.is_autocast_enabled("cpu")


FASTER = {F.linear: _linear, F.scaled_dot_product_attention: _attention}
