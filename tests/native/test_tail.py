"""The native tail against the plain one, which runs in float64 as the reference."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from fittingroom import native
from fittingroom.models.layers import Tail, seed_dropout
from fittingroom.native import ops

pytestmark = pytest.mark.skipif(not native.available(), reason=f"no native kernels here ({native.description()})")

TYPES = (torch.float32, torch.bfloat16)
NORMS = (None, "before", "after")
POOLS = (None, "max", "average")


def make(channels: int, **settings: Any) -> Tail:
    """A tail in training mode whose norm has scales of both signs."""
    tail = Tail(channels, **settings).train()
    if tail.norm is not None:
        with torch.no_grad():
            tail.norm.weight.uniform_(-1, 1)
            tail.norm.bias.uniform_(-1, 1)
    seed_dropout(tail, 5)
    return tail


def batch(channels: int, height: int, width: int, dtype: torch.dtype, images: int = 5) -> Tensor:
    return (torch.randn(images, channels, height, width) * 2 + 0.5).to(dtype).to(memory_format=torch.channels_last)


def step(tail: Tail, x: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """Output, gradients and buffers after one forward and backward pass."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    tail.zero_grad()
    out = tail(x)
    out.backward(gradient)
    assert x.grad is not None
    found = {"out": out.detach(), "x": x.grad}
    found |= {f"gradient of {name}": parameter.grad for name, parameter in tail.named_parameters() if parameter.grad is not None}
    return found | dict(tail.named_buffers())


def compare(tail: Tail, x: Tensor, bound: float) -> None:
    torch.manual_seed(7)
    with torch.no_grad():
        shape = copy.deepcopy(tail)(x).shape
    gradient = torch.randn(shape).to(x.dtype)
    reference = copy.deepcopy(tail).double()
    fast = step(tail, x, gradient)
    with native.enabled(False):
        plain = step(reference, x.double(), gradient.double())
    assert fast["out"].dtype == x.dtype
    assert fast["out"].is_contiguous(memory_format=torch.channels_last)
    assert fast.keys() == plain.keys()
    for name, expected in plain.items():
        error = (fast[name].double() - expected).abs().max() / (expected.abs().max() + 1e-3)
        limit = bound if name in ("out", "x") else 3e-5
        assert error < limit, f"{name} is off by {error:.1e}"


@pytest.mark.parametrize("channels", [1, 3, 6, 16, 33, 64, 256])
@pytest.mark.parametrize("dtype", TYPES)
def test_agrees_with_the_plain_path(level: str, channels: int, dtype: torch.dtype) -> None:
    torch.manual_seed(channels)
    for (height, width), activation, norm, pool in itertools.product([(7, 10), (4, 5)], [None, "relu", "tanh", "sigmoid"], NORMS, POOLS):
        tail = make(channels, activation=activation, norm=norm, pool=pool)
        x = batch(channels, height, width, dtype, images=3)
        assert ops.tail(copy.deepcopy(tail), x) is not None, "the fast path was not taken"
        compare(tail, x, 2e-5 if dtype == torch.float32 else 4e-3)


@pytest.mark.parametrize("dtype", TYPES)
def test_gives_the_bits_of_the_plain_path_where_no_sum_is_rounded(level: str, dtype: torch.dtype) -> None:
    """ReLU and both poolings; a norm, tanh and sigmoid are rounded in other places."""
    torch.manual_seed(0)
    for channels, (height, width), activation, pool in itertools.product([6, 64], [(7, 10), (4, 5)], [None, "relu"], POOLS):
        tail, x = make(channels, activation=activation, norm=None, pool=pool), batch(channels, height, width, dtype)
        gradient = torch.randn(tail(x).shape).to(dtype)
        fast = step(tail, x, gradient)
        with native.enabled(False):
            plain = step(tail, x, gradient)
        assert all(torch.equal(fast[name], plain[name]) for name in plain), (channels, height, width, activation, pool)


@pytest.mark.parametrize("shape", [(1, 2048, 2, 2), (2, 1, 27, 27), (64, 6, 28, 28), (33, 64, 13, 3), (128, 100, 9, 9)])
def test_agrees_on_larger_and_odd_sizes(level: str, shape: tuple[int, int, int, int]) -> None:
    images, channels, height, width = shape
    torch.manual_seed(0)
    for norm, dtype in itertools.product(NORMS, TYPES):
        bound = 2e-5 if dtype == torch.float32 else 4e-3
        compare(make(channels, norm=norm, pool="max"), batch(channels, height, width, dtype, images), bound)


def test_statistics_survive_a_mean_far_from_zero(level: str) -> None:
    torch.manual_seed(0)
    x = (torch.randn(64, 8, 16, 16) + 3000).to(memory_format=torch.channels_last)
    tail = make(8, norm="before")
    tail(x)
    assert tail.norm is not None
    assert tail.norm.running_var is not None
    expected = x.double().var((0, 2, 3)) * 0.1 + 0.9
    torch.testing.assert_close(tail.norm.running_var.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("channels", [5, 64])
def test_dropout_mask_is_the_same_forward_and_backward(level: str, norm: Any, pool: Any, channels: int) -> None:
    """The same tail without dropout, given the masked gradient, must send down the same."""
    torch.manual_seed(1)
    tail = make(channels, activation=None, norm=norm, pool=pool, dropout=0.4)
    dry = copy.deepcopy(tail)
    dry.dropout = None
    x = batch(channels, 9, 8, torch.float32)
    without = step(copy.deepcopy(dry), x, torch.ones_like(dry(x)))["out"]
    gradient = torch.randn_like(without)
    wet = step(tail, x, gradient)
    kept = wet["out"] != 0
    torch.testing.assert_close(wet["out"], without * kept / 0.6, rtol=1e-4, atol=1e-4)
    expected = step(dry, x, gradient * kept / 0.6)
    torch.testing.assert_close(wet["x"], expected["x"], rtol=1e-4, atol=1e-4)


def test_levels_drop_the_same_entries() -> None:
    x = batch(50, 8, 8, torch.bfloat16)
    masks = []
    for name in native.LEVELS:
        tail = Tail(50, activation=None, pool="max", dropout=0.3).train()
        seed_dropout(tail, 9)
        with native.enabled(level=name):
            masks.append(tail(x) == 0)
    assert all(torch.equal(mask, masks[0]) for mask in masks)


def test_thread_count_changes_no_bit(level: str, threads: None) -> None:
    torch.manual_seed(0)
    for dtype, channels in itertools.product(TYPES, (6, 64)):
        x, gradient = batch(channels, 28, 28, dtype, 16), torch.randn(16, channels, 14, 14).to(dtype)
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            torch.manual_seed(3)
            results.append(step(make(channels, norm="after", pool="max", dropout=0.2), x, gradient))
        for other in results[1:]:
            assert all(torch.equal(results[0][name], other[name]) for name in results[0])


def test_evaluation_agrees(level: str) -> None:
    torch.manual_seed(0)
    for norm, pool, dtype in itertools.product(NORMS, POOLS, TYPES):
        tail = make(20, norm=norm, pool=pool, dropout=0.5)
        x = batch(20, 7, 6, dtype)
        tail(x)
        tail.eval()
        with torch.inference_mode():
            fast = tail(x)
            with native.enabled(False):
                plain = tail.double()(x.double())
        torch.testing.assert_close(fast.double(), plain, rtol=1e-5 if dtype == torch.float32 else 8e-3, atol=1e-5)


def test_not_a_number_is_not_hidden(level: str) -> None:
    for norm, channels, sign, dtype in itertools.product(NORMS, (4, 64), (1, -1), TYPES):
        x = batch(channels, 4, 4, dtype)
        x[0, 0, 1, 1] = float("nan") * sign
        assert make(channels, norm=norm, pool="max")(x).isnan().any()


def changed(tail: Tail, part: Any, **values: Any) -> Tail:
    for name, value in values.items():
        setattr(part, name, value)
    return tail


@pytest.mark.parametrize(
    "change",
    [
        lambda tail, x: (tail.double(), x.double()),
        lambda tail, x: (tail, x.contiguous()),
        lambda tail, x: (tail, x[:0]),
        lambda tail, x: (tail.eval(), x),
        lambda tail, x: (tail.norm.eval() and tail, x),
        lambda tail, x: (tail.norm.register_forward_hook(lambda *_: None) and tail, x),
        lambda tail, x: (changed(tail, tail.norm, momentum=None), x),
        lambda tail, x: (changed(tail, tail.pool, ceil_mode=True), x),
        lambda tail, x: (changed(tail, tail, activation=torch.nn.GELU()), x),
        lambda tail, x: (tail, x.to("meta")),
    ],
    ids=["double", "nchw", "empty", "eval with gradients", "frozen norm", "hook", "cumulative", "ceil", "gelu", "meta"],
)
def test_leaves_other_cases_to_the_plain_path(change: Any) -> None:
    tail, x = change(make(4, norm="after", pool="max"), batch(4, 6, 6, torch.float32))
    assert ops.tail(tail, x) is None


def test_switch_takes_the_plain_path() -> None:
    tail, x = make(4, norm="after", pool="max"), batch(4, 6, 6, torch.float32).requires_grad_()
    assert "Tail" in type(tail(x).grad_fn).__name__
    with native.enabled(False):
        assert "Tail" not in type(tail(x).grad_fn).__name__
        assert native.description().startswith("none: ")
    assert native.description() in native.LEVELS


def test_one_value_per_channel_is_refused_as_torch_does() -> None:
    with pytest.raises(ValueError, match="more than 1 value"):
        make(4, norm="after")(torch.randn(1, 4, 1, 1))


def test_compiled_and_exported_models_take_the_plain_path() -> None:
    tail = make(4, norm="after", pool="max").eval()
    x = batch(4, 6, 6, torch.float32)
    exported = torch.export.export(tail, (x,))
    assert "batch_norm" in exported.graph_module.code
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(x), tail(x), rtol=1e-5, atol=1e-5)


def test_keeps_less_for_the_backward_pass() -> None:
    kept: dict[bool, int] = {}
    for fast in (True, False):
        sizes: dict[int, int] = {}

        def note(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        x = batch(64, 14, 14, torch.bfloat16).requires_grad_()
        with native.enabled(fast), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            out = make(64, norm="after", pool="max", dropout=0.2)(x)
        codes = out.numel() if fast else 0
        kept[fast] = sum(sizes.values()) + codes
    assert kept[True] < 0.6 * kept[False]


def test_the_default_device_does_not_matter() -> None:
    """Buffers are made where the input is: under another default device they once had no address, and the process died."""
    tail = Tail(8, norm="after", pool="max")
    x = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last).requires_grad_()
    with torch.device("meta"):
        tail(x).sum().backward()
    assert x.grad is not None
    assert not x.grad.is_meta
