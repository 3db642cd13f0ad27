"""Kernels of NVIDIA GPUs: what the plain functions compute, to rounding, in less time.

Networks call `attend`, `capped_attention` and functions decorated by `compiled`. Within `kernels(level)` these choose:

    plain     PyTorch's ordinary functions; the reference, and all there is on a CPU
    fused     attention without a mask by cuDNN or flash, with padding by flash and lengths, with a cap by flex_attention
    compiled  as fused, and each layer of a network is compiled too, which joins its sums, norms and conversions

PyTorch says of no kernel beforehand whether it runs on a card, so a caller that gets an error goes one level down.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

P = ParamSpec("P")
R = TypeVar("R")
LEVELS = ("plain", "fused", "compiled")
BACKEND = "inductor"  # of torch.compile
BACKENDS = (
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
)
"""The order in which PyTorch is to try its kernels of attention, above level plain; it takes the first that can."""
FLASH_WIDTHS = range(8, 257, 8)  # widths of a head that flash attention takes

_level = "plain"


@contextmanager
def kernels(level: str, device: str = "cpu") -> Iterator[None]:
    """Compute with the kernels of a level, one of `LEVELS`."""
    global _level
    before, _level = _level, level
    ordered = level != "plain" and device.startswith("cuda")
    try:
        with sdpa_kernel(list(BACKENDS), set_priority=True) if ordered else nullcontext():
            yield
    finally:
        _level = before


def fused() -> bool:
    """Return whether the level is above plain."""
    return _level != "plain"


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function of a module and tensors that is to be compiled at level compiled, once for all shapes.

    It must not call `capped_attention`, which is compiled by itself: PyTorch's compiler does not take both at once.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        chosen = _compile(function, dynamic=True) if _level == "compiled" else function
        return chosen(*args, **kwargs)

    return call


@cache
def _compile(function: Callable[..., Any], *, dynamic: bool | None) -> Callable[..., Any]:
    torch._dynamo.config.specialize_float = True  # the cap is a constant of the kernel; shapes alone vary
    # fullgraph: more graphs than PyTorch allows are an error, and not the slow function itself without a word
    return torch.compile(function, backend=BACKEND, dynamic=dynamic, fullgraph=True)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(width)) v, shape (batch, heads, m, width).

    Args:
        q: (batch, heads, m, width).
        k, v: (batch, heads, n, width).
        mask: (batch, n): bool, True on a cell's tokens, which come first, and False on padding; or float, added to the
            logits of a key.
    """
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v)
    if fused() and mask.dtype == torch.bool and _fits_flash(q):
        return _attend_first(q, k, v, mask.sum(dim=1, dtype=torch.int32))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])


def _fits_flash(q: Tensor) -> bool:
    return q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] in FLASH_WIDTHS


def _attend_first(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
    """Return the attention to the first `lengths` (batch,), int32, keys of each cell, by flash attention.

    Its form for sequences of many lengths takes where each begins, here a multiple of the padded length, and how many of
    its keys are used. Nothing is copied, and a mask, for which flash attention has no place, is not needed.
    """
    batch, heads, m, width = q.shape
    n = k.shape[2]
    q, k, v = (x.transpose(1, 2).reshape(-1, heads, width) for x in (q, k, v))
    starts = torch.arange(batch + 1, dtype=torch.int32, device=q.device)
    attended = _flash(q, k, v, starts * m, starts * n, m, n, lengths)
    return attended.unflatten(0, (batch, m)).transpose(1, 2)


def _flash(
    q: Tensor, k: Tensor, v: Tensor, query_starts: Tensor, key_starts: Tensor, m: int, n: int, lengths: Tensor
) -> Tensor:
    """Return flash attention of sequences, one after the other: cell i has m queries and `lengths`[i] of n keys."""
    return torch.ops.aten._flash_attention_forward(
        q, k, v, query_starts, key_starts, m, n, 0.0, False, False, seqused_k=lengths
    )[0]


@lru_cache(maxsize=64)
def causal_blocks(n: int, device: torch.device) -> Any:
    """Return flex_attention's block mask of n tokens that attend to those before them and to themselves."""
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(_causal, None, None, n, n, device=str(device))


def capped_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, offset: Tensor, cap: float, blocks: Any) -> Tensor:
    """Return softmax(cap tanh((q k^T / sqrt(width) + bias) / cap) + offset) v over earlier tokens and the token itself.

    Args:
        q, k, v: (batch, heads, n, width).
        bias: of the keys, before the cap, (batch, n).
        offset: of the keys, after the cap, (batch, n).
        cap: 0 leaves the logits as they are.
        blocks: `causal_blocks` of n.
    """
    return _compile(_capped_attention, dynamic=None)(q, k, v, bias, offset, cap, blocks)


def _causal(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return query >= key


def _capped_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, offset: Tensor, cap: float, blocks: Any) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    def logit(product: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        biased = product + bias[batch, key]
        return (cap * torch.tanh(biased / cap) if cap > 0 else biased) + offset[batch, key]

    return flex_attention(q, k, v, score_mod=logit, block_mask=blocks)
