"""The native dense layer against PyTorch's in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fittingroom import native
from fittingroom.models.layers import Linear
from fittingroom.native import ops

pytestmark = pytest.mark.skipif(not native.available(), reason=f"no native kernels here ({native.description()})")

BF16 = torch.bfloat16


def make(inputs: int, outputs: int, bias: bool = True) -> Linear:
    torch.manual_seed(3)
    return Linear(inputs, outputs, bias=bias)


def batch(images: int, inputs: int, dtype: torch.dtype = BF16) -> Tensor:
    torch.manual_seed(4)
    return torch.randn(images, inputs).to(dtype)


def step(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Output and gradients of one forward and backward pass, under autocast where the layer is float32."""
    x = x.detach().clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", BF16, enabled=x.dtype != torch.float64):
        out = layer(x)
    torch.manual_seed(5)
    out.backward(torch.randn(out.shape).to(BF16).to(out.dtype))
    assert x.grad is not None
    return {"out": out.detach(), "x": x.grad} | {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
@pytest.mark.parametrize(
    ("images", "inputs", "outputs"),
    [(32, 400, 120), (32, 120, 84), (32, 84, 10), (1, 1, 1), (7, 17, 33), (9, 5, 2), (13, 64, 1), (1, 31, 9)],
)
def test_agrees_with_float64(level: str, images: int, inputs: int, outputs: int, dtype: torch.dtype) -> None:
    for bias in (True, False):
        layer, x = make(inputs, outputs, bias), batch(images, inputs, dtype)
        plain = nn.Linear(inputs, outputs, bias=bias).double()
        plain.load_state_dict(layer.state_dict())
        found, expected = step(layer, x), step(plain, x.double())
        assert found["out"].dtype == BF16
        assert found["x"].dtype == dtype
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            error = float((found[name].double() - value).abs().max() / (value.abs().max() + 1e-6))
            assert error < (5e-3 if found[name].dtype == BF16 else 3e-6), (name, error)


def test_results_do_not_depend_on_the_number_of_threads(level: str, threads: None) -> None:
    layer, x = make(300, 50), batch(32, 300)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(step(layer, x))
    for name, value in results[0].items():
        assert all(torch.equal(value, other[name]) for other in results[1:]), name


def test_evaluation_gives_what_training_gives(level: str) -> None:
    layer, x = make(20, 10), batch(6, 20)
    with torch.autocast("cpu", BF16):
        trained = layer(x).detach()
        with torch.inference_mode():
            assert torch.equal(layer.eval()(x), trained)


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_only_what_is_wanted_gets_a_gradient(level: str, frozen: str) -> None:
    layer, x = make(20, 10), batch(6, 20)
    whole = step(layer, x)
    layer.get_parameter(frozen).requires_grad_(False)
    part = step(layer, x)
    assert part.keys() == whole.keys() - {frozen}
    assert all(torch.equal(value, whole[name]) for name, value in part.items())


@pytest.mark.parametrize(
    "change",
    [
        lambda layer, x: (layer.double(), x.double()),
        lambda layer, x: (layer, x.t().contiguous().t()),
        lambda layer, x: (layer, x[:0]),
        lambda layer, x: (layer, x[0]),
        lambda layer, x: (layer, x[None]),
        lambda layer, x: (layer, x.to("meta")),
        lambda layer, x: (Linear(20, 16000), x),
        lambda layer, x: (layer, torch.cat([x, x], 1)),
        lambda layer, x: (nn.utils.parametrizations.weight_norm(layer), x),
    ],
    ids=["double", "transposed", "empty", "unbatched", "three axes", "meta", "large", "other inputs", "normed"],
)
def test_leaves_other_cases_to_the_plain_path(change: Any) -> None:
    layer, x = change(make(20, 10), batch(6, 20))
    with torch.autocast("cpu", BF16):
        assert ops.dense(layer, x) is None


def test_float32_and_the_switch_take_the_plain_path() -> None:
    layer, x = make(20, 10), batch(6, 20, torch.float32)
    assert ops.dense(layer, x) is None
    with torch.autocast("cpu", BF16):
        assert ops.dense(layer, x) is not None
        with native.enabled(False):
            assert "Addmm" in type(layer(x).grad_fn).__name__


def test_is_pytorchs_layer_otherwise() -> None:
    ours = make(20, 10)
    torch.manual_seed(3)
    theirs = nn.Linear(20, 10)
    assert isinstance(ours, nn.Linear)
    assert repr(ours) == repr(theirs)
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
