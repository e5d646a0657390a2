"""The native convolution of few channels against PyTorch's in float64."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fittingroom import native
from fittingroom.models.layers import Conv2d
from fittingroom.native import ops

pytestmark = pytest.mark.skipif(not native.available(), reason=f"no native kernels here ({native.description()})")

FP32, BF16 = torch.float32, torch.bfloat16
BOUNDS = {FP32: 3e-6, BF16: 1.5e-2}


def make(inputs: int, outputs: int, kernel: int | tuple[int, int], padding: Any = 0, bias: bool = True) -> Conv2d:
    torch.manual_seed(3)
    return Conv2d(inputs, outputs, kernel, padding=padding, bias=bias).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def batch(inputs: int, height: int, width: int, images: int = 3, dtype: torch.dtype = FP32) -> Tensor:
    torch.manual_seed(4)
    return torch.randn(images, inputs, height, width).to(dtype).contiguous(memory_format=torch.channels_last)


def step(layer: nn.Module, x: Tensor, gradient: Tensor | None = None, autocast: bool = False, inputs_too: bool = True) -> dict[str, Tensor]:
    """Output and gradients of one forward and backward pass."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(inputs_too)
    layer.zero_grad()
    with torch.autocast("cpu", BF16, enabled=autocast):
        out = layer(x)
    torch.manual_seed(5)
    out.backward(torch.randn(out.shape).to(BF16).to(out.dtype) if gradient is None else gradient)
    found = {"out": out.detach()} | ({"x": x.grad} if x.grad is not None else {})
    return found | {name: parameter.grad for name, parameter in layer.named_parameters() if parameter.grad is not None}


def reference(layer: Conv2d, x: Tensor, autocast: bool) -> dict[str, Tensor]:
    """The same in float64 by PyTorch, from inputs and weights rounded where the kernels multiply bfloat16."""
    few = layer.out_channels <= 8 and layer.out_channels % 2 == 0  # these multiply float32
    rounds = autocast and native.kernels().level == "avx512-bf16" and not few

    def rounded(tensor: Tensor) -> Tensor:
        return (tensor.detach().to(BF16) if rounds else tensor.detach()).double()

    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    ).double()
    plain.load_state_dict({name: rounded(value) if name == "weight" else value.double() for name, value in layer.state_dict().items()})
    return step(plain, rounded(x))


def compare(layer: Conv2d, x: Tensor, autocast: bool) -> None:
    assert ops.convolution(layer, x.detach()) is not None or autocast
    found, expected = step(layer, x, autocast=autocast), reference(layer, x, autocast)
    assert found["out"].dtype == (BF16 if autocast else FP32)
    assert found["out"].is_contiguous(memory_format=torch.channels_last)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        kept_exact = name in ("weight", "bias")  # sums of exact products in float32
        bound = BOUNDS[FP32 if kept_exact else found["out"].dtype]
        error = float((found[name].double() - value).abs().max() / (value.abs().max() + 1e-6))
        assert error < bound, (name, error)


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_agrees_with_float64(level: str, kernel: int, autocast: bool) -> None:
    shapes = itertools.product((1, 2, 3, 6, 8), (1, 2, 6, 7, 16, 33), (0, (kernel - 1) // 2))
    for number, (inputs, outputs, padding) in enumerate(shapes):
        height, width, images = 5 + number % 4, 9 - number % 3, 1 + number % 3
        compare(make(inputs, outputs, kernel, padding, bias=number % 5 > 0), batch(inputs, height, width, images), autocast)


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "padding", "side", "images"),
    [
        (1, 6, 5, 2, 28, 20),
        (6, 16, 5, 0, 14, 33),
        (1, 64, 3, 1, 28, 7),
        (3, 64, 3, "same", 17, 18),
        (3, 9, (4, 1), (1, 0), 7, 2),
        (7, 5, 5, 0, 5, 1),
        (1, 6, 5, 2, 45, 2),
        (2, 8, 3, 1, 33, 18),
        (8, 2, 4, 0, 20, 3),
        (1, 1, 3, 1, 16, 2),
    ],
)
@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
def test_agrees_on_the_shapes_of_our_networks(
    level: str, inputs: int, outputs: int, kernel: Any, padding: Any, side: int, images: int, autocast: bool
) -> None:
    compare(make(inputs, outputs, kernel, padding), batch(inputs, side, side, images), autocast)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_even_kernels_are_padded_on_the_side_that_pytorch_pads(level: str) -> None:
    compare(make(2, 5, (2, 4), "same"), batch(2, 6, 7), autocast=False)


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_autocast_takes_either_type(level: str, dtype: torch.dtype) -> None:
    layer, x = make(3, 6, 3, 1), batch(3, 8, 8, dtype=dtype)
    found = step(layer, x, autocast=True)
    assert found["x"].dtype == dtype
    assert found["weight"].dtype == found["bias"].dtype == FP32
    with native.enabled(False):
        plain = step(layer, x, autocast=True)
    for name in ("out", "x", "weight", "bias"):
        torch.testing.assert_close(found[name].double(), plain[name].double(), rtol=2e-2, atol=2e-2 * float(plain[name].abs().max()))


def test_any_image_is_on_its_own(level: str) -> None:
    """Images do not disturb each other, whatever block they come in, and evaluation gives what training gives."""
    layer, x = make(3, 10, 3, 1), batch(3, 9, 8, images=21)
    together = layer(x).detach()
    with torch.inference_mode():
        assert torch.equal(layer.eval()(x), together)
        assert torch.equal(torch.cat([layer(x[i : i + 1]) for i in range(len(x))]), together)


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
def test_results_do_not_depend_on_the_number_of_threads(level: str, threads: None, autocast: bool) -> None:
    layer, x = make(6, 16, 5), batch(6, 14, 14, images=37)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(step(layer, x, autocast=autocast))
    for name, value in results[0].items():
        assert all(torch.equal(value, other[name]) for other in results[1:]), name


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_only_what_is_wanted_gets_a_gradient(level: str, frozen: str) -> None:
    layer, x = make(2, 6, 3, 1), batch(2, 6, 6)
    whole = step(layer, x)
    layer.get_parameter(frozen).requires_grad_(False)
    part = step(layer, x, inputs_too=False)
    assert part.keys() == whole.keys() - {frozen, "x"}
    assert all(torch.equal(value, whole[name]) for name, value in part.items())
    layer.requires_grad_(False)
    assert torch.equal(step(layer, x)["x"], whole["x"])


def test_weights_in_any_memory_order(level: str) -> None:
    layer, x = make(6, 8, 3, 1), batch(6, 7, 7)
    other = Conv2d(6, 8, 3, padding=1)
    other.load_state_dict(layer.state_dict())
    first, second = step(layer, x), step(other, x)
    assert first["weight"].stride() != second["weight"].stride()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_gradient_in_another_layout(level: str) -> None:
    layer, x = make(3, 6, 3, 1), batch(3, 6, 6)
    gradient = torch.randn(3, 6, 6, 6)
    first = step(layer, x, gradient)
    second = step(layer, x, gradient.contiguous(memory_format=torch.channels_last))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_not_a_number_is_not_hidden(level: str) -> None:
    for autocast in (False, True):
        x = batch(3, 6, 6)
        x[1, 2, 3, 3] = float("nan")
        found = step(make(3, 6, 3, 1), x, autocast=autocast)
        assert found["out"][1, :, 2:5, 2:5].isnan().all()
        assert found["weight"][:, 2].isnan().all()


@pytest.mark.parametrize(
    "change",
    [
        lambda layer, x: (layer.double(), x.double()),
        lambda layer, x: (layer, x.contiguous()),
        lambda layer, x: (layer, x[:0]),
        lambda layer, x: (layer, x[0]),
        lambda layer, x: (layer, x.to("meta")),
        lambda layer, x: (layer, x.bfloat16()),
        lambda layer, x: (Conv2d(4, 6, 3, stride=2), x),
        lambda layer, x: (Conv2d(4, 6, 3, dilation=2), x),
        lambda layer, x: (Conv2d(4, 6, 3, groups=2), x),
        lambda layer, x: (Conv2d(4, 6, 3, padding=2), x),
        lambda layer, x: (Conv2d(4, 6, 3, padding=1, padding_mode="circular"), x),
        lambda layer, x: (Conv2d(4, 65, 3), x),
        lambda layer, x: (Conv2d(4, 6, 6), x),
        lambda layer, x: (nn.utils.parametrizations.weight_norm(layer), x),
    ],
    ids=[
        "double",
        "nchw",
        "empty",
        "unbatched",
        "meta",
        "bf16",
        "stride",
        "dilation",
        "groups",
        "padding",
        "circular",
        "wide",
        "large",
        "normed",
    ],
)
def test_leaves_other_cases_to_the_plain_path(change: Any) -> None:
    layer, x = change(make(4, 6, 3), batch(4, 6, 6))
    assert ops.convolution(layer, x) is None


def test_what_pytorch_refuses_is_refused_with_its_message() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        make(4, 6, 3)(batch(3, 6, 6))
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        make(4, 6, 5)(batch(4, 3, 6))


def test_switch_takes_the_plain_path() -> None:
    layer, x = make(1, 6, 5, 2), batch(1, 8, 8)
    assert "_Convolution" in type(layer(x).grad_fn).__name__
    with native.enabled(False):
        assert "_Convolution" not in type(layer(x).grad_fn).__name__


def test_is_pytorchs_layer_otherwise() -> None:
    ours = make(3, 6, 5, 2)
    torch.manual_seed(3)
    theirs = nn.Conv2d(3, 6, 5, padding=2)
    assert isinstance(ours, nn.Conv2d)
    assert repr(ours) == repr(theirs)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_exported_models_take_the_plain_path() -> None:
    layer, x = make(1, 6, 5, 2).eval(), batch(1, 8, 8)
    exported = torch.export.export(layer, (x,))
    assert "conv2d" in exported.graph_module.code
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(x), layer(x), rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_refused() -> None:
    layer, x = make(2, 6, 3), batch(2, 6, 6).requires_grad_()
    (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()  # type: ignore[no-untyped-call]
