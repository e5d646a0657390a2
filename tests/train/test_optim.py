"""Optimisers against their update rules written out, schedules against closed forms, Muon against a singular-value decomposition."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from fittingroom.recipe import Optim
from fittingroom.train.optim import Muon, clip, optimiser, orthogonalised, schedule, set_rate

Array = NDArray[np.float64]
LR, STEPS = 0.1, 6


def gradients() -> list[Array]:
    generator = np.random.default_rng(3)
    return [generator.normal(size=5) for _ in range(STEPS)]


def moved(settings: dict[str, Any], defaults: str = "torch") -> Array:
    """Where five weights of one come to by the fixed gradients."""
    model = nn.Module()
    model.weight = nn.Parameter(torch.ones(5))
    stepping = optimiser(model, Optim(**{"lr": LR, **settings}), defaults)
    for gradient in gradients():
        model.weight.grad = torch.tensor(gradient, dtype=torch.float32)
        stepping.step()
    return model.weight.detach().double().numpy()


def sgd(momentum: float = 0.0, nesterov: bool = False, decay: float = 0.0) -> Array:
    w, v = np.ones(5), np.zeros(5)
    for gradient in gradients():
        g = gradient + decay * w
        v = momentum * v + g
        w = w - LR * (g + momentum * v if nesterov else v)
    return w


def adam(epsilon: float, beta1: float = 0.9, beta2: float = 0.999, coupled: float = 0.0, decoupled: float = 0.0) -> Array:
    w, m, v = np.ones(5), np.zeros(5), np.zeros(5)
    for t, gradient in enumerate(gradients(), 1):
        w = w * (1 - LR * decoupled)
        g = gradient + coupled * w
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        w = w - LR * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
    return w


def rmsprop(rho: float, epsilon: float, momentum: float = 0.0) -> Array:
    w, v, b = np.ones(5), np.zeros(5), np.zeros(5)
    for g in gradients():
        v = rho * v + (1 - rho) * g**2
        b = momentum * b + g / (np.sqrt(v) + epsilon)
        w = w - LR * b
    return w


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"name": "sgd"}, lambda: sgd()),
        ({"name": "sgd", "momentum": 0.9}, lambda: sgd(0.9)),
        ({"name": "sgd", "momentum": 0.9, "nesterov": True}, lambda: sgd(0.9, True)),
        ({"name": "sgd", "momentum": 0.9, "weight_decay": 0.5}, lambda: sgd(0.9, decay=0.5)),
        ({"name": "adam"}, lambda: adam(1e-8)),
        ({"name": "adam", "epsilon": 0.5, "beta1": 0.5, "beta2": 0.7}, lambda: adam(0.5, 0.5, 0.7)),
        ({"name": "adam", "weight_decay": 0.5}, lambda: adam(1e-8, coupled=0.5)),
        ({"name": "adamw", "weight_decay": 0.5}, lambda: adam(1e-8, decoupled=0.5)),
        ({"name": "rmsprop"}, lambda: rmsprop(0.99, 1e-8)),
        ({"name": "rmsprop", "rho": 0.5, "epsilon": 0.1, "momentum": 0.9}, lambda: rmsprop(0.5, 0.1, 0.9)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_updates_by_hand(settings: dict[str, Any], expected: Callable[[], Array]) -> None:
    assert moved(settings) == pytest.approx(expected(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "defaults", "constants"),
    [
        ("adam", "torch", {"eps": 1e-8, "betas": (0.9, 0.999), "weight_decay": 0}),
        ("adam", "keras", {"eps": 1e-7, "betas": (0.9, 0.999), "weight_decay": 0}),
        ("adamw", "keras", {"eps": 1e-7, "weight_decay": 0}),
        ("rmsprop", "torch", {"eps": 1e-8, "alpha": 0.99}),
        ("rmsprop", "keras", {"eps": 1e-7, "alpha": 0.9}),
        ("sgd", "torch", {"momentum": 0, "dampening": 0, "nesterov": False, "weight_decay": 0}),
    ],
)
def test_defaults_of_both_frameworks(name: Any, defaults: str, constants: dict[str, Any]) -> None:
    (group,) = optimiser(nn.Linear(2, 2), Optim(name=name), defaults).param_groups
    assert {key: group[key] for key in constants} == constants


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    (group,) = optimiser(model, Optim(), "torch").param_groups
    assert [parameter is model.weight for parameter in group["params"]] == [True]


def rates(epochs: int = 4, steps: int = 25, **settings: Any) -> list[float]:
    rate = schedule(Optim(**{"lr": 0.5, **settings}), epochs * steps, steps)
    return [rate(step) for step in range(epochs * steps)]


def test_constant_schedule() -> None:
    assert rates() == [0.5] * 100


def test_step_schedule() -> None:
    assert rates(schedule="step", step_every=2, step_factor=0.1) == pytest.approx([0.5] * 50 + [0.05] * 50)


def test_cosine_schedule() -> None:
    expected = [0.05 + 0.45 * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)]
    assert rates(schedule="cosine", final=0.1) == pytest.approx(expected)


def test_one_cycle_schedule() -> None:
    found = rates(schedule="one-cycle", warmup=0.2, final=0.1)
    corners = np.interp(range(100), [-1, 19, 20, 100], [0, 0.5, 0.5, 0.05])
    assert found == pytest.approx(corners)


@given(
    st.sampled_from(["constant", "step", "cosine", "one-cycle"]),
    st.floats(0, 0.9),
    st.floats(0, 0.9),
    st.integers(1, 8),
    st.integers(1, 30),
)
def test_every_schedule_stays_above_zero_and_rises_before_it_falls(name: str, warmup: float, final: float, epochs: int, steps: int) -> None:
    found = rates(epochs, steps, schedule=name, warmup=warmup, final=final)
    assert all(0 < rate <= 0.5 for rate in found)
    peak = found.index(max(found))
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert warmup > 0 or peak == 0


def test_clipping_by_value_then_by_norm() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([30.0, -2.0]), torch.tensor([4.0])
    clip(parameters, Optim(clip_value=3.0))
    assert parameters[0].grad.tolist() == [3, -2]
    assert parameters[1].grad.tolist() == [3]
    clip(parameters, Optim(clip_norm=1.0))
    norm = math.sqrt(9 + 4 + 9)
    assert parameters[0].grad.tolist() == pytest.approx([3 / norm, -2 / norm], rel=1e-5)
    assert parameters[1].grad.tolist() == pytest.approx([3 / norm], rel=1e-5)
    before = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    clip(parameters, Optim(clip_norm=5.0, clip_value=5.0))
    assert all(
        parameter.grad is not None and torch.allclose(parameter.grad, old) for parameter, old in zip(parameters, before, strict=True)
    )


@pytest.mark.parametrize("shape", [(8, 8), (16, 5), (5, 16), (3, 40), (40, 1)])
def test_orthogonalised_has_singular_values_near_one_and_the_same_directions(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    assert values[0] / values[-1] < 200
    scale = max(1.0, shape[0] / shape[1]) ** 0.5
    inner = left.T @ (orthogonalised(matrix) / scale) @ right.T  # diagonal, if the directions are kept
    assert torch.allclose(inner, inner.diagonal().diag(), atol=1e-3)
    assert (inner.diagonal() > 0.6).all()
    assert (inner.diagonal() < 1.3).all()


def test_muon_by_hand() -> None:
    kernel, vector = nn.Parameter(torch.ones(4, 2, 3, 3)), nn.Parameter(torch.ones(4))
    stepping = Muon([kernel, vector], lr=0.1, momentum=0.5, weight_decay=0.2)
    generator = torch.Generator().manual_seed(0)
    buffers = [torch.zeros(4, 2, 3, 3), torch.zeros(4)]
    expected = [torch.ones(4, 2, 3, 3), torch.ones(4)]
    for _ in range(3):
        kernel.grad, vector.grad = torch.randn(4, 2, 3, 3, generator=generator), torch.randn(4, generator=generator)
        stepping.step()
        buffers = [0.5 * old + gradient for old, gradient in zip(buffers, [kernel.grad, vector.grad], strict=True)]
        updates = [gradient + 0.5 * buffer for buffer, gradient in zip(buffers, [kernel.grad, vector.grad], strict=True)]
        turned = orthogonalised(updates[0].reshape(4, 18)).reshape(4, 2, 3, 3)
        expected = [expected[0] * (1 - 0.1 * 0.2) - 0.1 * turned, expected[1] - 0.1 * updates[1]]
    assert torch.allclose(kernel, expected[0], atol=1e-6)
    assert torch.allclose(vector, expected[1], atol=1e-6)


def test_muon_of_a_gradient_of_zeros_is_finite() -> None:
    kernel = nn.Parameter(torch.ones(4, 3))
    kernel.grad = torch.zeros(4, 3)
    Muon([kernel], lr=0.1, momentum=0.9).step()
    assert torch.equal(kernel, torch.ones(4, 3))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon"])
def test_a_rate_that_lies_in_memory_is_followed_like_a_number(name: str) -> None:
    """On a GPU rates are tensors, which a recorded step reads anew each time."""
    settings = Optim(name=name, lr=0.1, momentum=0.9, weight_decay=0.01)  # type: ignore[arg-type]
    ends = []
    for in_memory in (False, True):
        generator = torch.Generator().manual_seed(0)
        layer = nn.Linear(6, 4)
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
        stepping = optimiser(layer, settings, "torch")
        if in_memory:
            stepping.param_groups[0]["lr"] = torch.tensor(0.1)
        for rate in (0.1, 0.02, 0.3):
            for parameter in layer.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            set_rate(stepping, rate)
            stepping.step()
        ends.append(layer.weight.detach())
    assert torch.allclose(*ends, atol=1e-6)
    assert not torch.allclose(ends[0], torch.ones(4, 6), atol=1e-2)


@pytest.mark.parametrize("shape", [(64, 576), (10, 128), (12, 12), (40, 9)])
def test_orthogonalised_is_the_iteration_as_it_is_defined(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    x = (matrix.T if shape[0] > shape[1] else matrix).double()
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    expected = (x.T if shape[0] > shape[1] else x) * max(1.0, shape[0] / shape[1]) ** 0.5
    assert torch.allclose(orthogonalised(matrix).double(), expected, atol=1e-4)
