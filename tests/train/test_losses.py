"""Losses against their formulas written out, and against scikit-learn's class weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from fittingroom.recipe import Loss
from fittingroom.train.loop import penalty
from fittingroom.train.losses import balanced_weights, loss_function, penalised_kernels

COUNT, CLASSES = 20, 4


def example(seed: int = 0, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(COUNT, CLASSES, generator=generator), torch.randint(0, CLASSES, (COUNT,), generator=generator)


def by_hand(logits: Tensor, labels: Tensor, smoothing: float = 0.0, gamma: float = 0.0, weights: list[float] | None = None) -> float:
    """Weighted mean over images of Σ_c target_c · −(1 − p_c)^γ log p_c, number by number."""
    total = norm = 0.0
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        exponentials = [math.exp(value - max(row)) for value in row]
        probabilities = [value / sum(exponentials) for value in exponentials]
        targets = [smoothing / CLASSES + (1 - smoothing) * (place == label) for place in range(CLASSES)]
        weight = 1.0 if weights is None else weights[label]
        total += weight * sum(t * -((1 - p) ** gamma) * math.log(p) for t, p in zip(targets, probabilities, strict=True))
        norm += weight
    return total / norm


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("balanced", [False, True])
def test_focal_loss_by_hand(smoothing: float, gamma: float, balanced: bool) -> None:
    logits, labels = example()
    settings = Loss(name="focal", label_smoothing=smoothing, focal_gamma=gamma, class_weights="balanced" if balanced else "none")
    weights = balanced_weights(labels, CLASSES).tolist() if balanced else None
    found = float(loss_function(settings, labels, CLASSES)(logits, labels))
    assert found == pytest.approx(by_hand(logits, labels, smoothing, gamma, weights), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_by_hand(smoothing: float) -> None:
    logits, labels = example()
    found = float(loss_function(Loss(label_smoothing=smoothing), labels, CLASSES)(logits, labels))
    assert found == pytest.approx(by_hand(logits, labels, smoothing), rel=1e-5)


def test_weighted_cross_entropy_by_hand() -> None:
    logits, labels = example()
    found = float(loss_function(Loss(class_weights="balanced"), labels, CLASSES)(logits, labels))
    assert found == pytest.approx(by_hand(logits, labels, weights=balanced_weights(labels, CLASSES).tolist()), rel=1e-5)


@given(st.integers(0, 50), st.floats(0, 0.9))
def test_focal_loss_with_gamma_zero_is_cross_entropy(seed: int, smoothing: float) -> None:
    logits, labels = example(seed)
    focal = loss_function(Loss(name="focal", focal_gamma=0, label_smoothing=smoothing), labels, CLASSES)
    plain = loss_function(Loss(label_smoothing=smoothing), labels, CLASSES)
    gradients = [torch.autograd.grad(loss(leaf, labels), leaf)[0] for loss in (focal, plain) for leaf in [logits.clone().requires_grad_()]]
    assert torch.allclose(focal(logits, labels), plain(logits, labels), atol=1e-5)
    assert torch.allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize("settings", [{"focal_gamma": gamma, "label_smoothing": s} for gamma in (0, 0.3, 1, 2) for s in (0, 0.1)])
def test_focal_loss_of_sure_images_has_a_gradient(settings: dict[str, Any]) -> None:
    """1 − p is 0 in float32 for these; a power below one has no slope there."""
    logits = torch.tensor([[50.0, 0, 0, 0], [0, 50.0, 0, 0], [90.0, 0, 0, 0]], requires_grad=True)
    loss = loss_function(Loss(name="focal", **settings), torch.tensor([0, 0, 0]), CLASSES)(logits, torch.tensor([0, 0, 0]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_weights_with_smoothing_are_those_of_pytorch() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 0, 0, 1, 2, 2, 3, 0])
    weights = balanced_weights(labels, CLASSES)
    settings = Loss(class_weights="balanced", label_smoothing=0.2)
    ours, theirs = (torch.randn(8, CLASSES, generator=generator.manual_seed(1), requires_grad=True) for _ in range(2))
    found = loss_function(settings, labels, CLASSES)(ours, labels)
    expected = torch.nn.functional.cross_entropy(theirs, labels, weight=weights, label_smoothing=0.2)
    found.backward()  # type: ignore[no-untyped-call]
    expected.backward()  # type: ignore[no-untyped-call]
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-7)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_balanced_weights_are_those_of_scikit_learn(labels: list[int]) -> None:
    present = np.unique(labels)
    expected = compute_class_weight("balanced", classes=present, y=np.array(labels))
    found = balanced_weights(torch.tensor(labels), 5)
    # scikit-learn counts the classes that occur; a class that does not has no weight here, and the others keep their proportions.
    assert found[torch.from_numpy(present)].numpy() * 5 / len(present) == pytest.approx(expected, rel=1e-6)
    assert float(found.sum()) == pytest.approx(float(found[torch.from_numpy(present)].sum()))


def test_the_penalty_is_that_of_keras() -> None:
    """λ·Σw² without a half, of kernels alone: its gradient is 2λw."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))
    kernels = penalised_kernels(model, "all")
    (0.25 * penalty(kernels)).backward()  # type: ignore[no-untyped-call]
    for module in (model[0], model[3]):
        assert isinstance(module, nn.Conv2d | nn.Linear)
        assert module.weight.grad is not None
        assert torch.allclose(module.weight.grad, 2 * 0.25 * module.weight.detach())
        assert module.bias is not None
        assert module.bias.grad is None
    assert all(parameter.grad is None for parameter in model[1].parameters())
    (only,) = penalised_kernels(model, "conv")
    assert only is model[0].weight
