"""Linear layers and attention with oneDNN equal PyTorch's, which computes the cases that they do not cover."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from cellgauge.inference import onednn

pytestmark = pytest.mark.skipif(not onednn.available(), reason="this PyTorch has no oneDNN for linear layers")


@pytest.fixture
def products(monkeypatch):
    """Record the shapes of the products that oneDNN computes."""
    shapes, product = [], onednn._product
    monkeypatch.setattr(onednn, "_product", lambda x, *others: (shapes.append(tuple(x.shape)), product(x, *others))[1])
    return shapes


def both(function, *args, **kwargs):
    """Return a function's results within and without the context."""
    with torch.inference_mode():
        expected = function(*args, **kwargs)
        with onednn.onednn("cpu"):
            return function(*args, **kwargs), expected


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("bias", [None, draw(24)])
@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (draw(7, 32), draw(24, 32)),
        (draw(3, 5, 32), draw(24, 32)),
        (draw(3, 32, 5).transpose(1, 2), draw(24, 32)),
        (draw(3, 5, 64)[..., ::2], draw(72, 32)[24:48]),
        (draw(7, 32), draw(32, 24).t()),
    ],
)
def test_linear_layers(products, x, weight, bias):
    result, expected = both(F.linear, x, weight, bias)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    assert len(products) == 1


def test_modules_use_onednn_too(products):
    result, expected = both(torch.nn.Linear(32, 24), draw(7, 32))
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    assert len(products) == 1


def heads(batch, tokens, n_heads=3, width=16):
    """Return tensors like those of packed projections: views that are not contiguous."""
    packed = draw(batch, tokens, 3 * n_heads * width).chunk(3, dim=-1)
    return [part.unflatten(-1, (n_heads, width)).transpose(1, 2) for part in packed]


@pytest.mark.parametrize("at_once", [2**22, 5000, 1])
@pytest.mark.parametrize("lengths", [None, (150, 150), (150, 1), (60, 149)])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention(products, monkeypatch, at_once, lengths, scale):
    monkeypatch.setattr(onednn, "SCORES_AT_ONCE", at_once)
    mask = None if lengths is None else (torch.arange(150) < torch.tensor(lengths)[:, None])[:, None, None]
    result, expected = both(F.scaled_dot_product_attention, *heads(2, 150), attn_mask=mask, scale=scale)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=2e-6)
    blocks = [math.ceil(150 / max(1, at_once // n)) for n in lengths or (150, 150)]
    assert len(products) == 2 * 3 * sum(blocks)


def test_attention_of_some_tokens(products):
    q, k, v = heads(2, 300)
    result, expected = both(F.scaled_dot_product_attention, q[:, :, :120], k, v)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=2e-6)
    assert products


Q, K, V = heads(2, 150)
MASK = (torch.arange(150) < 100).expand(2, 1, 1, 150)


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (F.scaled_dot_product_attention, (Q, K, V, MASK, 0.0, False), {"scale": 0.3}),
        (
            F.scaled_dot_product_attention,
            (),
            {"query": Q, "key": K, "value": V, "attn_mask": MASK, "enable_gqa": False},
        ),
        (F.linear, (), {"input": draw(7, 32), "weight": draw(24, 32), "bias": draw(24)}),
    ],
)
def test_arguments_may_be_positional_or_named(products, function, args, kwargs):
    result, expected = both(function, *args, **kwargs)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    assert products


@pytest.mark.parametrize("options", [(None, 0.0, True), (None, 0.5), (None, 0.5, False)])
def test_causal_attention_and_positional_dropout_are_left_to_pytorch(products, options):
    torch.manual_seed(0)
    with torch.inference_mode():
        expected = F.scaled_dot_product_attention(*heads(2, 150), *options)
        torch.manual_seed(0)
        with onednn.onednn("cpu"):
            result = F.scaled_dot_product_attention(*heads(2, 150), *options)
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    assert not products


@pytest.mark.parametrize(
    "options",
    [
        {"is_causal": True},
        {"attn_mask": draw(150, 150)},
        {"attn_mask": torch.zeros(2, 1, 1, 150)},
        {"attn_mask": torch.ones(150, 150, dtype=torch.bool).tril()},
        {"attn_mask": torch.zeros(2, 1, 1, 150, dtype=torch.bool)},
    ],
)
def test_other_attention_is_left_to_pytorch(products, options):
    result, expected = both(F.scaled_dot_product_attention, *heads(2, 150), **options)
    torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)
    assert not products


def test_attention_to_very_many_keys_is_left_to_pytorch(products):
    q, k, v = heads(1, onednn.MAX_KEYS + 1, n_heads=1)
    both(F.scaled_dot_product_attention, q[:, :, :10], k, v)
    assert not products


def test_little_attention_other_types_and_gradients_are_left_to_pytorch(products):
    both(F.scaled_dot_product_attention, *heads(2, 20))
    both(F.linear, draw(7, 32).double(), draw(24, 32).double())
    with onednn.onednn("cpu"):
        weight = draw(24, 32).requires_grad_()
        F.linear(draw(7, 32), weight).sum().backward()
        assert weight.grad is not None
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            assert F.linear(draw(7, 32), draw(24, 32)).dtype == torch.bfloat16
    assert not products


def test_only_within_the_context_and_on_the_cpu(products):
    with torch.inference_mode():
        with onednn.onednn("cuda:0"):
            F.linear(draw(7, 32), draw(24, 32))
        F.linear(draw(7, 32), draw(24, 32))
    assert not products


def test_without_the_functions_pytorch_computes(products, monkeypatch):
    monkeypatch.setattr(onednn, "available", lambda: False)
    result, expected = both(F.linear, draw(7, 32), draw(24, 32))
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    assert not products
