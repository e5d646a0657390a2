"""The native kernels as PyTorch operations with gradients. Each returns None where the plain path has to be taken."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fittingroom import native

__all__ = ["convolution", "dense", "dropout", "tail"]

NONE, MAX, AVERAGE = 0, 1, 2
RELU = 1
ACTIVATIONS: dict[type[Any], int] = {type(None): NONE, nn.ReLU: RELU, nn.Tanh: 2, nn.Sigmoid: 3}
POOLS: dict[type[Any], int] = {type(None): NONE, nn.MaxPool2d: MAX, nn.AvgPool2d: AVERAGE}
AFTER, BEFORE = 1, 2
WIDE = {torch.float32: 1, torch.bfloat16: 0}

# struct call of kernels.c: 14 pointers, 4 sizes, 6 switches, seed and counter, epsilon, momentum and rate.
pack = struct.Struct("=14Q10q2Q3d").pack
# struct convolution_call: 8 pointers, 18 sizes and switches.
pack_convolution = struct.Struct("=8Q18q").pack
# Parts of one piece of memory start at multiples of this many bytes.
_ALIGN = 64
# Convolutions up to these sizes take 0.45 to 1.0 of PyTorch's time on one Zen 4 core, forward and back, at batches of 32 to 512, under
# autocast and in float32; the fewer the input channels, the more is won.
LARGEST_KERNEL, MOST_INPUTS, MOST_OUTPUTS = 5, 8, 64
# Where float32 is multiplied eight at a time (one Zen 3 core), convolutions of more channels take 0.4 to 0.9 of PyTorch's time by
# Winograd's way, forward and back, if it saves so much: products as they are defined over those left to do. The kernels are transformed
# for each batch, which pays from so many tiles on.
LEAST_SAVING, FEWEST_TILES = 1.7, 24
WINOGRAD_KERNELS, WINOGRAD_CHANNELS, WINOGRAD_LEVEL = ((3, 3), (5, 5)), 8, "avx2"
# One Zen 4 core: a pass forward and back through a dense layer takes 0.4 (84 → 10) to 0.8 (400 → 120) of PyTorch's time under autocast
# at batch 32, 1.6 of it for 400 → 120 at batch 128; in float32 there is nothing to gain.
MOST_PRODUCTS = 1_600_000

# At small batches the step is bound by what Python does per layer, so this file looks modules and parameters up in the dictionaries
# in which nn.Module keeps them, allocates little, and enters autograd below the checks for function transforms, made here already.


class DropoutLike(Protocol):
    """What is needed of a dropout layer; ``calls`` counts its masks since it was seeded."""

    rate: float
    seed: int | None
    calls: int


class Plan(NamedTuple):
    """What a tail computes on one batch, in the numbers that the kernels know."""

    activation: int
    norm: int
    pool: int
    wide: int
    training: bool
    rate: float
    seed: int
    counter: int


def tail(module: Any, x: Tensor) -> Tensor | None:
    """Activation, norm, pooling and dropout of ``x`` in one operation, in training and (without gradients) in evaluation.

    Args:
        module: a `fittingroom.models.layers.Tail`; the running statistics of its norm move, and its dropout's count of calls.
        x: ``[N, C, H, W]``; taken in channels-last memory, float32 or bfloat16, on the CPU.
    """
    if not readable(x) or x.dim() != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        return None
    layers, training = module._modules, module.training
    activation, norm, pool, drop = map(layers.get, ("activation", "norm", "pool", "dropout"))
    activation_code, pool_code = ACTIVATIONS.get(type(activation)), POOLS.get(type(pool))
    if activation_code is None or pool_code is None or not (training or not torch.is_grad_enabled()):
        return None
    for layer in layers.values():
        if layer is not None and (layer.training != training or hooked(layer)):
            return None
    shape = x.shape
    if norm is not None and not _plain_norm(norm, shape, training):
        return None
    if 0 in shape or (pool_code and not (two_by_two(pool) and shape[2] > 1 and shape[3] > 1)):
        return None
    rate, seed, counter = 0.0, 0, 0
    if drop is not None and training:
        if drop.seed is None:
            return None
        rate, seed, counter = drop.rate, drop.seed, drop.calls
        drop.calls = counter + 1
    norm_code = NONE if norm is None else BEFORE if module.norm_first else AFTER
    plan = Plan(activation_code, norm_code, pool_code, WIDE[x.dtype], training, rate, seed, counter)
    if not training:
        return _forward(x, plan, norm)[0]
    if norm is None:
        return _apply_tail(x, None, None, plan, None)  # type: ignore[no-any-return]
    parameters = norm._parameters
    return _apply_tail(x, parameters["weight"], parameters["bias"], plan, norm)  # type: ignore[no-any-return]


def dropout(module: DropoutLike, x: Tensor) -> Tensor | None:
    """Dropout of a tensor of any shape; the mask follows from the layer's seed, its count of calls, and the place in memory."""
    if module.seed is None or not readable(x) or not x.numel():
        return None
    if x.is_contiguous():
        layout = torch.contiguous_format
    elif x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        layout = torch.channels_last
    else:
        return None
    plan = Plan(NONE, NONE, NONE, WIDE[x.dtype], True, module.rate, module.seed, module.calls)
    module.calls += 1
    return _apply_dropout(x, plan, layout)  # type: ignore[no-any-return]


def convolution(module: Any, x: Tensor) -> Tensor | None:
    """Convolution of few channels, float32 inside whatever goes in and out; or, in float32 alone, of many by Winograd's way.

    Args:
        module: an `nn.Conv2d`; its parameters are float32.
        x: ``[N, C, H, W]``; taken in channels-last memory, float32 or (under autocast) bfloat16, on the CPU.
    """
    if not readable(x) or x.dim() != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        return None
    weight, bias = map(module._parameters.get, ("weight", "bias"))
    if not plain_convolution(module, weight, bias):
        return None
    few, dtype = few_channels(module), output_dtype(x)
    batch, inputs, height, width = x.shape
    outputs, weight_inputs, kernel_height, kernel_width = weight.shape
    left, right, top, bottom = module._reversed_padding_repeated_twice
    out_height, out_width = height + top + bottom - kernel_height + 1, width + left + right - kernel_width + 1
    if dtype is None or inputs != weight_inputs or out_height < 1 or out_width < 1 or not batch:
        return None
    if not few and not (x.dtype is dtype is torch.float32 and _winograd_saves(module, batch, out_height, out_width)):
        return None
    threads = torch.get_num_threads()
    sizes = (batch, inputs, height, width, outputs, out_height, out_width, kernel_height, kernel_width, top, left)
    numbers = (*sizes, *weight.stride(), WIDE[x.dtype], WIDE[dtype], threads)
    return _apply_or_compute(x, weight, bias, dtype, numbers, _CONVOLUTION if few else _WINOGRAD)


def _winograd_saves(module: Any, batch: int, out_height: int, out_width: int) -> bool:
    """Whether the kernels of winograd.h compute such a convolution here, and faster than PyTorch does."""
    if module.kernel_size not in WINOGRAD_KERNELS or module.in_channels % WINOGRAD_CHANNELS or module.out_channels % WINOGRAD_CHANNELS:
        return False
    side: int = module.kernel_size[0]
    tiles = -(-out_height // (7 - side)) * -(-out_width // (7 - side))  # six points in each direction, whatever the kernel
    saving = out_height * out_width * side**2 / (36 * tiles)
    return saving >= LEAST_SAVING and batch * tiles >= FEWEST_TILES and native.kernels().level == WINOGRAD_LEVEL


# Names of the calls, forward and back.
_CONVOLUTION, _DENSE = ("fittingroom_convolve", "fittingroom_convolve_back"), ("fittingroom_dense", "fittingroom_dense_back")
_WINOGRAD = ("fittingroom_winograd", "fittingroom_winograd_back")


def _apply_or_compute(
    x: Tensor, weight: Any, bias: Tensor | None, dtype: torch.dtype, numbers: tuple[int, ...], calls: tuple[str, str]
) -> Tensor:
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)):
        return _apply_convolution(x, weight, bias, dtype, numbers, calls)  # type: ignore[no-any-return]
    return _convolve(x, weight, bias, dtype, numbers, calls)


def plain_convolution(module: Any, weight: Tensor | None, bias: Tensor | None) -> bool:
    """Whether this is a convolution of the kind that the kernels compute."""
    return (
        plain_parameters(weight, bias)
        and module.groups == 1
        and module.stride == (1, 1)
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and _same_or_less(module)
    )


def few_channels(module: Any) -> bool:
    """Whether a convolution is so small that the kernels compute it as it is defined faster than PyTorch does."""
    return bool(
        module.in_channels <= MOST_INPUTS
        and module.out_channels <= MOST_OUTPUTS
        and max(module.kernel_size) <= LARGEST_KERNEL
    )


def dense(module: Any, x: Tensor) -> Tensor | None:
    """A dense layer at a small batch under autocast to bfloat16, float32 inside.

    Args:
        module: an `nn.Linear`; its parameters are float32.
        x: ``[N, inputs]``, contiguous, float32 or bfloat16, on the CPU.
    """
    if not readable(x) or x.dim() != 2 or not x.is_contiguous():
        return None
    weight, bias = map(module._parameters.get, ("weight", "bias"))
    dtype = output_dtype(x)
    if dtype is not torch.bfloat16 or not plain_parameters(weight, bias) or not weight.is_contiguous():
        return None
    batch, inputs = x.shape
    outputs, weight_inputs = weight.shape
    if inputs != weight_inputs or not 0 < batch * inputs * outputs <= MOST_PRODUCTS:
        return None
    sizes = (batch, inputs, 1, 1, outputs, 1, 1, 1, 1, 0, 0, inputs, 1, 1, 1)
    return _apply_or_compute(x, weight, bias, dtype, (*sizes, WIDE[x.dtype], WIDE[dtype], torch.get_num_threads()), _DENSE)


_PLAIN = (nn.Parameter, Tensor)


def output_dtype(x: Tensor) -> torch.dtype | None:
    """The type of a layer's output; None where the kernels or PyTorch do not go together with it."""
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        return dtype if dtype in WIDE else None
    return torch.float32 if x.dtype is torch.float32 else None


def plain_parameters(weight: Tensor | None, bias: Tensor | None) -> bool:
    return (
        type(weight) in _PLAIN
        and weight.dtype is torch.float32  # type: ignore[union-attr]
        and weight.is_cpu  # type: ignore[union-attr]
        and (bias is None or (type(bias) in _PLAIN and bias.dtype is torch.float32 and bias.is_cpu and bias.is_contiguous()))
    )


def _same_or_less(module: Any) -> bool:
    left, right, top, bottom = module._reversed_padding_repeated_twice
    height, width = module.kernel_size
    return left + right < width and top + bottom < height  # type: ignore[no-any-return]


def readable(x: Tensor) -> bool:
    """Whether ``x`` is a plain CPU tensor of a known type, outside of tracing and of function transforms."""
    return (
        type(x) is Tensor
        and x.is_cpu
        and x.dtype in WIDE
        and torch._C._get_tracing_state() is None
        and not torch._C._are_functorch_transforms_active()
    )


def hooked(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def _plain_norm(norm: nn.Module, shape: torch.Size, training: bool) -> bool:
    """Whether the norm is one that the kernels compute, and the batch one that it accepts (of more than one place)."""
    weight, mean = norm._parameters.get("weight"), norm._buffers.get("running_mean")
    return (
        type(norm) is nn.BatchNorm2d
        and weight is not None
        and weight.dtype is torch.float32
        and weight.is_cpu
        and mean is not None
        and norm.momentum is not None
        and norm.num_features == shape[1]
        and not (training and shape[0] == shape[2] == shape[3] == 1)
    )


def two_by_two(pool: Any) -> bool:
    return pool.kernel_size == 2 and pool.stride == 2 and pool.padding == 0 and not pool.ceil_mode and getattr(pool, "dilation", 1) == 1


def check(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for what the native kernels keep during a call")


class _Kept(NamedTuple):
    """What the backward pass needs beside tensors.

    Attributes:
        memory: holds, one after the other: statistics, chosen inputs, codes.
        stats, picked, code: addresses therein; 0 where there is none.
        numbers: the call's sizes, switches and so on.
        shape: of the input.
    """

    memory: Tensor
    stats: int
    picked: int
    code: int
    numbers: tuple[float, ...]
    shape: torch.Size


def _forward(x: Tensor, plan: Plan, norm: nn.Module | None) -> tuple[Tensor, _Kept]:
    activation, norm_code, pool, wide, training, rate, seed, counter = plan
    shape = x.shape
    batch, channels, height, width = shape
    out_height, out_width = (height // 2, width // 2) if pool else (height, width)
    out = torch.empty((batch, channels, out_height, out_width), dtype=x.dtype, memory_format=torch.channels_last, device="cpu")
    places = batch * channels * out_height * out_width if training else 0
    stats_size = 16 * channels if norm_code else 0
    picked_size = places * (4 if wide else 2) if pool == MAX and not output_tells(plan) else 0
    code_size = places if pool == MAX or rate else 0
    picked_from = -(-stats_size // _ALIGN) * _ALIGN
    code_from = picked_from + -(-picked_size // _ALIGN) * _ALIGN
    memory = torch.empty(code_from + code_size, dtype=torch.uint8, device="cpu")
    at = memory.data_ptr()
    stats, picked, code = (at if stats_size else 0), (at + picked_from if picked_size else 0), (at + code_from if code_size else 0)
    gamma = beta = mean = variance = tracked = 0
    epsilon = momentum = 0.0
    if norm is not None:
        parameters, buffers = norm._parameters, norm._buffers
        gamma, beta = parameters["weight"].data_ptr(), parameters["bias"].data_ptr()  # type: ignore[union-attr]
        mean, variance, tracked = (buffers[name].data_ptr() for name in _BUFFERS)  # type: ignore[union-attr]
        epsilon, momentum = norm.eps, norm.momentum  # type: ignore[assignment]
    threads = torch.get_num_threads()
    numbers = (batch, channels, height, width, activation, norm_code, pool, wide, training, threads, seed, counter, epsilon, momentum, rate)
    arguments = pack(x.data_ptr(), out.data_ptr(), code, picked, stats, gamma, beta, mean, variance, tracked, 0, 0, 0, 0, *numbers)
    check(native.kernels().call.fittingroom_forward(arguments))  # type: ignore[union-attr]
    return out, _Kept(memory, stats, picked, code, numbers, shape)


_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def output_tells(plan: Plan) -> bool:
    """Whether the output alone tells the slope of the activation at the chosen inputs: a ReLU (or nothing) and a pooling."""
    return plan.norm == NONE and not plan.rate and plan.activation <= RELU


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    x, out = ctx.saved_tensors
    _, stats, picked, code, numbers, shape = ctx.kept
    grad_out = grad_out.contiguous(memory_format=torch.channels_last)
    grad_x = torch.empty(shape, dtype=grad_out.dtype, memory_format=torch.channels_last, device="cpu") if ctx.needs_input_grad[0] else None
    grad_gamma = grad_beta = None
    if stats:
        grad_gamma, grad_beta = (torch.empty(shape[1], dtype=torch.float32, device="cpu") for _ in range(2))
    arguments = pack(
        0 if x is None else x.data_ptr(),
        0,
        code,
        picked if out is None else out.data_ptr(),
        *(stats, 0, 0, 0, 0, 0),
        grad_out.data_ptr(),
        0 if grad_x is None else grad_x.data_ptr(),
        0 if grad_gamma is None else grad_gamma.data_ptr(),
        0 if grad_beta is None else grad_beta.data_ptr(),
        *numbers,
    )
    check(native.kernels().call.fittingroom_backward(arguments))  # type: ignore[union-attr]
    return grad_x, grad_gamma, grad_beta, None, None


_backward_once = once_differentiable(_backward)


class _Tail(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, plan: Plan, norm: nn.Module | None) -> Tensor:
        out, kept = _forward(x, plan, norm)
        pooled = plan.pool == MAX
        ctx.save_for_backward(x if plan.norm or not pooled else None, out if pooled and not kept.picked else None)
        ctx.kept = kept
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # somebody wants second derivatives, which are refused with a clear message if they are taken
            return _backward_once(ctx, grad_out)
        return _backward(ctx, grad_out)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Plan, layout: torch.memory_format) -> Tensor:
        ctx.rest = (plan, layout)
        return _drop(x, plan, layout)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        plan, layout = ctx.rest
        return _apply_dropout(grad_out.contiguous(memory_format=layout), plan, layout), None, None


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, numbers: tuple[int, ...], calls: tuple[str, str]
) -> Tensor:
    batch, _, _, _, outputs, out_height, out_width, *_ = numbers
    if calls is _DENSE:
        out = torch.empty((batch, outputs), dtype=dtype, device="cpu")
    else:
        out = torch.empty((batch, outputs, out_height, out_width), dtype=dtype, memory_format=torch.channels_last, device="cpu")
    pointers = (x.data_ptr(), out.data_ptr(), 0, 0, weight.data_ptr(), 0 if bias is None else bias.data_ptr(), 0, 0)
    check(getattr(native.kernels().call, calls[0])(pack_convolution(*pointers, *numbers)))
    return out


def _convolve_back(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    numbers, calls = ctx.rest
    layout = torch.contiguous_format if calls is _DENSE else torch.channels_last
    wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
    grad_out = grad_out.contiguous(memory_format=layout)
    grad_x = torch.empty_like(x, memory_format=layout) if wants_x else None
    grad_weight = torch.empty_like(weight) if wants_weight or wants_bias else None
    grad_bias = torch.empty(weight.shape[0], dtype=torch.float32, device="cpu") if wants_bias else None
    pointers = (
        x.data_ptr(),
        0,
        grad_out.data_ptr(),
        0 if grad_x is None else grad_x.data_ptr(),
        *(weight.data_ptr(), 0),
        0 if grad_weight is None else grad_weight.data_ptr(),
        0 if grad_bias is None else grad_bias.data_ptr(),
    )
    check(getattr(native.kernels().call, calls[1])(pack_convolution(*pointers, *numbers)))
    return grad_x, grad_weight if wants_weight else None, grad_bias, None, None, None


_convolve_back_once = once_differentiable(_convolve_back)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        numbers: tuple[int, ...],
        calls: tuple[str, str],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.rest = numbers, calls
        return _convolve(x, weight, bias, dtype, numbers, calls)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _convolve_back_once(ctx, grad_out)
        return _convolve_back(ctx, grad_out)


_apply_convolution: Any = super(torch.autograd.Function, _Convolution).apply
_apply_tail: Any = super(torch.autograd.Function, _Tail).apply
_apply_dropout: Any = super(torch.autograd.Function, _Dropout).apply


def _drop(x: Tensor, plan: Plan, layout: torch.memory_format) -> Tensor:
    out = torch.empty_like(x, memory_format=layout)
    numbers = (1, 1, 1, x.numel(), NONE, NONE, NONE, plan.wide, True, torch.get_num_threads(), plan.seed, plan.counter, 0.0, 0.0, plan.rate)
    arguments = pack(x.data_ptr(), out.data_ptr(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, *numbers)
    check(native.kernels().call.fittingroom_dropout(arguments))  # type: ignore[union-attr]
    return out
