"""What is minimised: cross-entropy or focal loss, with label smoothing and class weights; and the L2 penalty of Keras."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from fittingroom.recipe import Loss

__all__ = ["LossFunction", "balanced_weights", "loss_function", "penalised_kernels"]

LEAST_DOUBT = 1e-12

LossFunction = Callable[[Tensor, Tensor], Tensor]


def loss_function(settings: Loss, labels: Tensor, classes: int) -> LossFunction:
    """Return the mean loss over a batch as a function of float32 logits ``[N, classes]`` and labels ``[N]``.

    Args:
        settings: the recipe's loss table.
        labels: all training labels, from which balanced class weights are counted.
        classes: how many classes there are.
    """
    weights = balanced_weights(labels, classes) if settings.class_weights == "balanced" else None
    smoothing = settings.label_smoothing

    def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
        if weights is None or not smoothing:
            return functional.cross_entropy(logits, target, weight=weights, label_smoothing=smoothing)
        # As PyTorch has it, whose own function waits for a GPU to tell how many targets count: then no graph can be recorded.
        log_probabilities = functional.log_softmax(logits, dim=1)
        plain = functional.nll_loss(log_probabilities, target, weight=weights)
        uniform = -(log_probabilities * weights).sum(1).sum() / weights[target].sum()
        return (1 - smoothing) * plain + smoothing / classes * uniform

    def focal(logits: Tensor, target: Tensor) -> Tensor:
        """FL = −w (1 − p)^γ log p (Lin et al., 2017), smoothed targets summed likewise."""
        log_probabilities = functional.log_softmax(logits, dim=1)
        # Kept off zero, where a power below one has no gradient and a sure image would make every weight NaN.
        doubt = -torch.expm1(log_probabilities)
        focused = -(doubt.clamp_min(LEAST_DOUBT) ** settings.focal_gamma) * log_probabilities
        targets = functional.one_hot(target, classes) * (1 - smoothing) + smoothing / classes
        losses = (focused * targets).sum(1)
        if weights is None:
            return losses.mean()
        return (losses * weights[target]).sum() / weights[target].sum()

    return focal if settings.name == "focal" else cross_entropy


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Return float32 ``[classes]``: count / (classes × count of the class); 0 for a class that does not occur."""
    counts = torch.bincount(labels, minlength=classes).float()
    return torch.where(counts > 0, len(labels) / (classes * counts.clamp_min(1)), 0.0)


def penalised_kernels(model: nn.Module, layers: str) -> list[nn.Parameter]:
    """Return the kernels that an L2 penalty holds for: of convolutions and dense layers (``all``), or of convolutions (``conv``)."""
    kinds: tuple[type[nn.Module], ...] = (nn.Conv2d,) if layers == "conv" else (nn.Conv2d, nn.Linear)
    return [module.weight for module in model.modules() if isinstance(module, kinds) and isinstance(module.weight, nn.Parameter)]
