"""A network that several processes train together, each on its rows of every batch, with the numbers of one process.

To the training loop it looks like the network itself: every process draws the same batch, hands in all of it, and gets the logits of
all of it; in between, each has computed its own rows. So the loss, its class weights, the early stopping and the record are the same
in all of them, and the loop knows nothing of it. Whatever looks across a batch looks across all of it here too: batch norm takes its
statistics from every process' rows (Ioffe and Szegedy, 2015; synchronised as by Zhang et al., 2018), and dropout draws the mask of the
whole batch and takes its rows. What is left of the number of processes is the order in which sums are rounded.

Gradients are averaged by PyTorch's `DistributedDataParallel`. Each process' loss is that of the whole batch, and a sum across the
processes hands back the sum of its gradients; so the average over processes of the gradients of their rows is the gradient of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from fittingroom.models.layers import Dropout

__all__ = ["Together", "rows_of"]


def rows_of(count: int, rank: int, size: int) -> slice:
    """Return the rows of a batch of ``count`` that are those of process ``rank`` of ``size``: in order, sizes at most one apart."""
    return slice(count * rank // size, count * (rank + 1) // size)


class Together(DistributedDataParallel):
    """A network whose batches are shared out among the processes of the default group.

    In training and in evaluation it maps images ``[N, C, H, W]``, the same in every process, to logits ``[N, classes]``, float32, the
    same in every process. Its state is that of the network, under the same names. A process may have no rows, of a small last batch.

    Args:
        network: the same in every process; it is changed in place, and the first process' weights hold.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.broadcast_buffers = False  # at each step: every process moves the running statistics alike
        self.share = _Share(dist.get_rank(), dist.get_world_size())
        _look_across(network, self.share)

    def forward(self, images: Tensor) -> Tensor:
        """Map all images of a batch to their logits, computing one's own."""
        self.share.count = count = len(images)
        rows = self.share.rows
        own = images[rows]
        logits = super().forward(own) if self.training else self.module(own)  # type: ignore[no-untyped-call]
        return _across(functional.pad(logits.float(), (0, 0, rows.start, count - rows.stop)))

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        """Return the network's own state."""
        return self.module.state_dict(*arguments, **options)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Put a state of the network in place; every process the same."""
        return self.module.load_state_dict(state_dict, strict, assign)

    def __deepcopy__(self, memo: dict[int, Any]) -> Together:
        return Together(deepcopy(self.module, memo))


class _Share:
    """Which rows of the batch under way are this process'."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self.count = 0

    @property
    def rows(self) -> slice:
        return rows_of(self.count, self.rank, self.size)

    @property
    def everyones(self) -> list[slice]:
        return [rows_of(self.count, rank, self.size) for rank in range(self.size)]


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient, too, is summed over all of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(x: Tensor) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _across(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total


class _Norm(torch.autograd.Function):
    """Batch norm over the rows of all processes: each sends the sums of its own, once on the way there and once on the way back.

    Means and variances of the parts are put together as by Chan, Golub and LeVeque (1979), the same in every process; the gradient is
    that of Ioffe and Szegedy (2015). Returns the output, with the mean and the variance (biased) of the whole batch.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, share: _Share) -> tuple[Tensor, Tensor, Tensor]:
        places = math.prod(x.shape[2:])
        parts = torch.zeros(share.size, 2, x.shape[1], device=x.device)
        if len(x):
            parts[share.rank, 0], parts[share.rank, 1] = torch.batch_norm_update_stats(x.float(), None, None, 0.0)
        dist.all_reduce(parts)
        counts = torch.tensor([rows.stop - rows.start for rows in share.everyones], device=x.device).mul_(places).view(-1, 1)
        means, variances = parts.unbind(1)
        count = share.count * places
        mean = (means * counts).sum(0) / count
        variance = ((variances + (means - mean).square()) * counts).sum(0) / count
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.count = eps, count
        ctx.mark_non_differentiable(mean, variance)
        return functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, variance = ctx.saved_tensors
        gradient, values, scale = gradients[0].float(), x.float(), (variance + ctx.eps).rsqrt()
        own = torch.zeros(2, len(mean), device=x.device)
        if len(x):
            _, own[0], own[1] = torch.ops.aten.native_batch_norm_backward(
                gradient, values, None, None, None, mean, scale, True, ctx.eps, [False, True, True]
            )
        of_weight, of_bias = _summed(own) / ctx.count
        slope = weight * scale
        # What comes back is slope · (gradient − normal · of_weight − of_bias), where normal is x as batch norm leaves it.
        rest = functional.batch_norm(values, mean, variance, -slope * of_weight, -slope * of_bias, training=False, eps=ctx.eps)
        back = rest.addcmul_(gradient, slope.view([1, -1] + [1] * (x.dim() - 2)))
        return back.to(x.dtype), own[0], own[1], None, None


class _WholeNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose statistics are those of the whole batch, of which this process has some rows."""

    share: _Share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        y, mean, variance = _Norm.apply(x, self.weight, self.bias, self.eps, self.share)  # type: ignore[no-untyped-call]
        count = self.share.count * math.prod(x.shape[2:])
        self._move(mean, variance * (count / max(count - 1, 1)))
        normed: Tensor = y
        return normed

    def _move(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept what the layer that this one was made of accepted."""


class _WholeDropout(Dropout):
    """Dropout whose mask is that of the whole batch, of which this process has some rows."""

    share: _Share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        # Rows are outermost in memory, so with the strides of some rows, the numbers fall where they fall for all of them.
        whole = torch.empty_strided((self.share.count, *x.shape[1:]), x.stride(), dtype=x.dtype, device=x.device)
        keep = whole.bernoulli_(1 - self.rate, generator=self.generator)[self.share.rows]
        return x * keep.mul_(1 / (1 - self.rate))


def _look_across(network: nn.Module, share: _Share) -> None:
    """Have the layers of a network that look across a batch look across that of all processes."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.__class__ = _WholeNorm
        elif isinstance(module, Dropout):
            module.__class__ = _WholeDropout
            module.register_forward_pre_hook(_by_pytorch)
        else:
            continue
        vars(module)["share"] = share


def _by_pytorch(module: nn.Module, inputs: Any) -> None:
    """A hook that does nothing, but that the native kernels leave a layer alone for: they would draw the mask of one's own rows."""
