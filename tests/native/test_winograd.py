"""Convolutions by Winograd's way against PyTorch's in float64, and where they are left to PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fittingroom import native
from fittingroom.models.layers import Conv2d
from fittingroom.native import ops


@pytest.fixture(autouse=True)
def avx2() -> Iterator[None]:
    with native.enabled(level=ops.WINOGRAD_LEVEL):
        if native.kernels().level != ops.WINOGRAD_LEVEL:
            pytest.skip(f"no such kernels here ({native.description()})")
        yield


def make(inputs: int, outputs: int, kernel: Any = 3, padding: Any = 1, **rest: Any) -> Conv2d:
    torch.manual_seed(3)
    return Conv2d(inputs, outputs, kernel, padding=padding, **rest).to(memory_format=torch.channels_last)  # type: ignore[no-any-return]


def batch(inputs: int, height: int, width: int, images: int) -> Tensor:
    torch.manual_seed(4)
    return torch.randn(images, inputs, height, width).contiguous(memory_format=torch.channels_last)


def step(layer: nn.Module, x: Tensor, inputs_too: bool = True) -> dict[str, Tensor]:
    """Output and gradients of one forward and backward pass."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(inputs_too)
    layer.zero_grad()
    out = layer(x)
    torch.manual_seed(5)
    out.backward(torch.randn(out.shape).to(out.dtype))
    found = {"out": out.detach()} | ({"x": x.grad} if x.grad is not None else {})
    return found | {name: parameter.grad for name, parameter in layer.named_parameters() if parameter.grad is not None}


def by_winograd(layer: Conv2d, x: Tensor) -> bool:
    """Whether the layer takes that way for this batch."""
    out = layer(x)
    return out.grad_fn is not None and ops._WINOGRAD in getattr(out.grad_fn, "rest", ())


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "padding", "height", "width", "images"),
    [
        (64, 128, 3, 1, 14, 14, 5),
        (128, 256, 3, 1, 7, 7, 9),
        (32, 64, 3, 0, 13, 13, 7),
        (16, 16, 3, 1, 28, 28, 3),
        (192, 192, 3, 1, 6, 6, 8),
        (48, 128, 5, 2, 12, 12, 3),
        (32, 64, 5, 0, 12, 12, 4),
        (8, 72, 3, "same", 16, 12, 3),  # an image that is not square
        (24, 8, 3, 1, 15, 14, 6),  # outputs that leave half of a panel empty
        (16, 40, 5, 1, 17, 9, 6),  # less padding than would keep the size
        (40, 24, 3, (0, 1), 18, 12, 5),  # padding in one direction
        (16, 24, 3, 0, 6, 6, 41),  # one tile an image
    ],
)
def test_agrees_with_float64(inputs: int, outputs: int, kernel: int, padding: Any, height: int, width: int, images: int) -> None:
    bias = images % 2 > 0
    layer, x = make(inputs, outputs, kernel, padding, bias=bias), batch(inputs, height, width, images)
    assert by_winograd(layer, x)
    exact = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=bias).double()
    exact.load_state_dict(layer.state_dict())
    found, expected = step(layer, x), step(exact, x.double())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        error = float((found[name].double() - value).abs().max() / value.abs().max())
        assert error < (1e-6 if name == "bias" else 6e-5), (name, error)
        assert found[name].dim() < 4 or found[name].is_contiguous(memory_format=torch.channels_last)


def test_weights_may_lie_in_memory_in_any_order() -> None:
    layer, x = make(16, 24), batch(16, 12, 12, 4)
    other = make(16, 24)
    other.weight.data = other.weight.data.contiguous()
    assert other.weight.stride() != layer.weight.stride()
    for name, value in step(layer, x).items():
        assert torch.equal(value, step(other, x)[name]), name


def test_any_image_is_on_its_own() -> None:
    """Images do not disturb each other, whatever group their tiles come in, and evaluation gives what training gives."""
    layer, x = make(32, 16), batch(32, 10, 12, 24)
    together = layer(x).detach()
    with torch.inference_mode():
        assert torch.equal(layer.eval()(x), together)
        assert torch.equal(torch.cat([layer(x[i : i + 4]) for i in range(0, 24, 4)]), together)


def test_results_do_not_depend_on_the_number_of_threads(threads: None) -> None:
    layer, x = make(16, 32), batch(16, 14, 14, 37)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(step(layer, x))
    for name, value in results[0].items():
        assert all(torch.equal(value, other[name]) for other in results[1:]), name


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_only_what_is_wanted_gets_a_gradient(frozen: str) -> None:
    layer, x = make(16, 16), batch(16, 8, 8, 8)
    whole = step(layer, x)
    layer.get_parameter(frozen).requires_grad_(False)
    assert by_winograd(layer, x)
    part = step(layer, x, inputs_too=False)
    assert part.keys() == whole.keys() - {frozen, "x"}
    for name, value in part.items():
        assert torch.equal(value, whole[name]), name


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_number_does_not_go_unnoticed(value: float) -> None:
    layer, x = make(16, 16), batch(16, 12, 12, 6)
    x[2, 3, 4, 5] = value
    out = layer(x).detach()
    assert not bool(out[2].isfinite().all())
    assert bool(out[[0, 1, 3, 4, 5]].isfinite().all()), "one image's numbers have come into another's"


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (make(16, 16, stride=2), batch(16, 14, 14, 8)),
        (make(16, 16, dilation=2, padding=2), batch(16, 14, 14, 8)),
        (make(16, 16, groups=2), batch(16, 14, 14, 8)),
        (make(16, 16, padding_mode="circular"), batch(16, 14, 14, 8)),
        (make(16, 16, (3, 5), padding=(1, 2)), batch(16, 14, 14, 8)),
        (make(12, 16), batch(12, 14, 14, 8)),  # channels that do not fill vectors
        (make(16, 20), batch(16, 14, 14, 8)),
        (make(16, 16), batch(16, 5, 5, 64)),  # tiles reach far beyond the image
        (make(16, 16), batch(16, 8, 8, 2)),  # too few tiles for what the kernels cost
        (make(16, 16), torch.randn(8, 16, 14, 14)),  # another order in memory
    ],
)
def test_other_convolutions_are_left_to_pytorch(layer: Conv2d, x: Tensor) -> None:
    assert not by_winograd(layer, x)
    with native.enabled(False):
        plain = layer(x)
    assert torch.equal(layer(x), plain)


@pytest.mark.parametrize("level", [name for name in native.LEVELS if name != ops.WINOGRAD_LEVEL])
def test_only_where_it_pays(level: str) -> None:
    layer, x = make(16, 16), batch(16, 14, 14, 8)
    assert by_winograd(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not by_winograd(layer, x)
    with native.enabled(level=level):
        assert by_winograd(layer, x) == (native.kernels().level == ops.WINOGRAD_LEVEL)
    with native.enabled(False):
        assert not by_winograd(layer, x)
    assert not by_winograd(layer.double(), x.double())
