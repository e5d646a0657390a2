"""Optimisers and learning-rate schedules, as the recipe names them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fittingroom.recipe import Optim

__all__ = ["Adam", "Muon", "clip", "optimiser", "schedule", "set_rate"]

# The constants in which the two frameworks differ: Adam's and RMSprop's ε, RMSprop's decay.
EPSILON = {"torch": 1e-8, "keras": 1e-7}
RHO = {"torch": 0.99, "keras": 0.9}


def optimiser(model: nn.Module, settings: Optim, defaults: str) -> torch.optim.Optimizer:
    """Return the optimiser of ``settings`` over all parameters of ``model``; PyTorch's own wherever it has one."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    epsilon = settings.epsilon or EPSILON[defaults]
    decay = settings.weight_decay
    on_gpu = parameters[0].is_cuda
    # On a GPU a step is recorded and replayed: there the rate is read from memory, in which it can be changed.
    lr: Any = torch.tensor(settings.lr, device=parameters[0].device) if on_gpu else settings.lr
    if settings.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=lr, momentum=settings.momentum, nesterov=settings.nesterov, weight_decay=decay, fused=True
        )
    if settings.name == "rmsprop":
        rho = settings.rho or RHO[defaults]
        stepping = torch.optim.RMSprop(
            parameters, lr=lr, alpha=rho, eps=epsilon, momentum=settings.momentum, weight_decay=decay, foreach=True, capturable=on_gpu
        )
        stepping._warned_capturable_if_run_uncaptured = True  # the first steps are not replayed, as is meant
        return stepping
    if settings.name == "muon":
        return Muon(parameters, lr=lr, momentum=settings.momentum, weight_decay=decay)
    betas = (settings.beta1, settings.beta2)
    return Adam(parameters, lr=lr, betas=betas, eps=epsilon, weight_decay=decay, decoupled=settings.name == "adamw")


def schedule(settings: Optim, total: int, steps_per_epoch: int) -> Callable[[int], float]:
    """Return the learning rate as a function of the step, ``0 … total - 1``.

    `step` drops by ``step_factor`` every ``step_every`` epochs; `cosine` falls along half a cosine (Loshchilov and Hutter,
    2017); `one-cycle` rises linearly over ``warmup`` and falls linearly after it (Smith, 2018; the triangle, not PyTorch's
    cosine form). The first two and `constant` also rise linearly over ``warmup`` where it is above 0.
    """
    rising = settings.warmup * total

    def rate(step: int) -> float:
        if step + 1 < rising:
            return settings.lr * (step + 1) / rising
        progress = (step - rising) / max(1.0, total - rising)
        if settings.schedule == "step":
            return settings.lr * float(settings.step_factor ** (step // (steps_per_epoch * settings.step_every)))
        if settings.schedule == "cosine":
            return settings.lr * (settings.final + (1 - settings.final) * (1 + math.cos(math.pi * max(0.0, progress))) / 2)
        if settings.schedule == "one-cycle":
            return settings.lr * (1 - (1 - settings.final) * max(0.0, progress))
        return settings.lr

    return rate


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step, in the memory in which it lies or as the number that it is."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def clip(parameters: Iterable[nn.Parameter], settings: Optim) -> None:
    """Clip gradients in place, by value first, then by their global norm."""
    kept = list(parameters)
    if settings.clip_value:
        nn.utils.clip_grad_value_(kept, settings.clip_value)
    if settings.clip_norm:
        nn.utils.clip_grad_norm_(kept, settings.clip_norm)


class Adam(torch.optim.Optimizer):
    """Adam (Kingma and Ba, 2015) by PyTorch's fused kernel, to the bits of `torch.optim.Adam` with ``fused=True``.

    That class checks, groups and counts every parameter at every step, which for a small network takes twice as long as the kernel.

    Args:
        parameters: what to train, all on one device and float32; each has a gradient at every step.
        lr: learning rate.
        betas: decay of the gradients' mean and of their squares' mean.
        eps: what keeps the quotient finite.
        weight_decay: strength.
        decoupled: decay the weights themselves (AdamW: Loshchilov and Hutter, 2019) instead of adding to the gradients.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], eps: float, weight_decay: float, decoupled: bool
    ) -> None:
        super().__init__(list(parameters), {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._update = torch._fused_adamw_ if decoupled else torch._fused_adam_

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter."""
        (group,) = self.param_groups
        parameters = group["params"]
        if not self.state:
            self._begin(parameters)
        states = [self.state[parameter] for parameter in parameters]
        self._counts.add_(1)
        means, squares = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
        self._update(
            [_in_order(parameter) for parameter in parameters],
            [_in_order(parameter.grad) for parameter in parameters],
            [_in_order(mean) for mean in means],
            [_in_order(square) for square in squares],
            [],
            [state["step"] for state in states],
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    step.hooked = True  # type: ignore[attr-defined]  # PyTorch would wrap it for its profiler, which takes as long as all of the above

    def _begin(self, parameters: list[nn.Parameter]) -> None:
        for parameter in parameters:
            zero = torch.zeros((), device=parameter.device)
            self.state[parameter] = {"step": zero, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
        self._count_together()

    def _count_together(self) -> None:
        """Have the parameters' counts of steps lie side by side, where one addition reaches them all."""
        states = list(self.state.values())
        # Where they are wanted: what was read from a file lies on the CPU.
        self._counts = torch.stack([state["step"] for state in states]).to(next(iter(self.state)).device)
        for state, count in zip(states, self._counts.unbind(), strict=True):
            state["step"] = count

    def load_state_dict(self, state_dict: Any) -> None:
        """Go on from a state."""
        super().load_state_dict(state_dict)
        if self.state:
            self._count_together()


def _in_order(tensor: Any) -> Tensor:
    """The same numbers in the order in which they lie: PyTorch's fused kernel copies gradients that lie otherwise, for nothing."""
    if tensor.is_contiguous() or not tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor  # type: ignore[no-any-return]
    return tensor.permute(0, 2, 3, 1)  # type: ignore[no-any-return]


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by a Newton–Schulz iteration (Jordan et al., 2024), for kernels; Nesterov SGD for vectors.

    Kernels are flattened to ``[out, rest]``; their update has all singular values near 1 and is scaled by
    √max(1, out / rest). Vectors (biases, batch norm) move by plain Nesterov momentum at the same rate.

    Args:
        parameters: what to train.
        lr: learning rate, both kinds.
        momentum: momentum, both kinds.
        weight_decay: decoupled, kernels only.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float = 0.0) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter."""
        (group,) = self.param_groups
        parameters, rate, momentum = group["params"], group["lr"], group["momentum"]
        if not self.state:
            for parameter in parameters:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters]
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        updates = list(torch._foreach_add(gradients, buffers, alpha=momentum))
        kernels = [place for place, parameter in enumerate(parameters) if parameter.ndim > 1]
        for place in kernels:
            updates[place] = orthogonalised(updates[place].reshape(len(updates[place]), -1)).view_as(updates[place])
        if kernels:
            torch._foreach_mul_([parameters[place] for place in kernels], 1 - rate * group["weight_decay"])
        torch._foreach_mul_(updates, rate)
        torch._foreach_sub_(parameters, updates)


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return ``matrix`` with its singular values brought near 1 by a quintic Newton–Schulz iteration.

    The iteration x ← (a + b·xxᵀ + c·(xxᵀ)²) x multiplies by polynomials of the first xxᵀ. They are multiplied with each other, as the small
    square matrices that they are, and with ``matrix`` once, at the end.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    whole: Tensor | None = None
    for step in range(steps):
        factor = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        factor.diagonal().add_(3.4445)
        whole = factor if whole is None else factor @ whole
        if step + 1 < steps:
            gram = factor @ gram @ factor
    scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
    x = x if whole is None else whole @ x
    result: Tensor = (x.T if tall else x) * scale
    return result
