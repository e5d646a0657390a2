"""Forward and backward pass of a whole small network in one call each.

With LeNet-5 and a batch of 32, half of a step went into handing nine layers to the kernels one by one, forward and back, through
Python and autograd. Here the calls of all layers are written into one piece of memory and carried out together. The kernels are
those of `fittingroom.native.ops`, and so are the numbers, but for activations between dense layers, which PyTorch would compute there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fittingroom import native
from fittingroom.native import ops

__all__ = ["run"]

# One Xeon core: dense layers of more products than this are faster by PyTorch's own, though they cost a call each.
MOST_PRODUCTS = 8_000_000

# Kinds of calls, and their arguments, as fittingroom_program of kernels.c knows them; see ops.py for those.
FORWARD, BACKWARD, DROPOUT, TRANSPOSE, CONVOLVE, CONVOLVE_BACK, DENSE, DENSE_BACK = range(8)
_pack_call = struct.Struct("=q14Q10q2Q3d").pack
_pack_layer = struct.Struct("=q8Q18q").pack
_pack_count = struct.Struct("=q").pack
_ALIGN = 64
# Where addresses stand in the table of a call: none, the images, the logits, their gradient; then parameters, their gradients, and what
# lies in between.
NOTHING, IMAGES, LOGITS, GRADIENT, FIRST = range(5)


Places = tuple[int, ...]


class Values(NamedTuple):
    """What flows between two layers.

    Attributes:
        at: its place in the table of addresses.
        gradient: the same for its gradient.
        channels, height, width: of an image; flat values have height and width 1.
        wide: whether float32.
    """

    at: int
    gradient: int
    channels: int
    height: int
    width: int
    wide: int

    @property
    def numbers(self) -> int:
        """Of an image."""
        return self.channels * self.height * self.width


class Call(NamedTuple):
    """A call to be.

    Attributes:
        kind: of FORWARD and so on.
        addresses: their places in the table; in the finished program what gets them from there.
        numbers: its sizes and switches; a dropout's seed and count are put in when it is made.
        drops: which of the program's dropouts draws in it.
    """

    kind: int
    addresses: Any
    numbers: tuple[Any, ...]
    drops: int | None = None


@dataclass(frozen=True, eq=False)
class Program:
    """What to call for a network and a shape of batch.

    Attributes:
        layers: the layers it was made of.
        forward, backward: the calls, in order.
        dropouts: layers that draw masks.
        kept, passing: bytes of what the backward pass needs, and of what only flows through it.
        kept_offsets, passing_offsets: where the parts lie therein.
        classes: of the logits.
        dtype: of the logits.
    """

    layers: list[nn.Module]
    forward: list[Call]
    backward: list[Call]
    dropouts: list[Any]
    kept: int
    kept_offsets: list[int]
    passing: int
    passing_offsets: list[int]
    classes: int
    dtype: torch.dtype


class Unsupported(Exception):
    """The network holds something that is left to the layers themselves."""


def run(network: Any, images: Tensor) -> Tensor | None:
    """Return the logits ``[N, classes]`` of a training step, ready for `backward`; None where the layers have to do it themselves.

    Args:
        network: a `fittingroom.models.network.Network`; its layers are looked at anew each time, their settings once.
        images: ``[N, C, H, W]``, float32, in channels-last memory.
    """
    if not (network.training and torch.is_grad_enabled() and ops.readable(images)) or images.requires_grad or images.dim() != 4:
        return None
    dtype = ops.output_dtype(images)
    if dtype is None or not len(images) or not images.is_contiguous(memory_format=torch.channels_last):
        return None
    layers = [*_leaves(network._modules["features"]), *_leaves(network._modules["head"])]
    parameters = [parameter for layer in layers for parameter in layer._parameters.values() if parameter is not None]
    # Where weights lie is written into the program, and changes where a network is brought into another memory format.
    key = (images.shape, images.dtype, dtype, torch.get_num_threads(), *((parameter.shape, parameter.stride()) for parameter in parameters))
    known = _programs.setdefault(network, {})
    program = known.get(key)
    if key not in known or (program is not None and program.layers != layers):
        program = known[key] = _program(layers, images, dtype)
    if program is None or not all(layer.training for layer in layers) or _hooked(network):
        return None
    if any(layer.seed is None for layer in program.dropouts):
        return None
    if not all(parameter.requires_grad and ops.plain_parameters(parameter, None) for parameter in parameters):
        return None
    return _apply(images, program, *parameters)  # type: ignore[no-any-return]


_programs: WeakKeyDictionary[nn.Module, dict[Any, Program | None]] = WeakKeyDictionary()


def _leaves(module: Any) -> Iterator[nn.Module]:
    """The layers of nested sequences, in order."""
    if type(module) is nn.Sequential:
        for child in module._modules.values():
            yield from _leaves(child)
    else:
        yield module


def _hooked(module: nn.Module) -> bool:
    """Whether anything wants to hear of a call of this module, or of one within it."""
    return ops.hooked(module) or any(_hooked(child) for child in module._modules.values() if child is not None)


def _program(layers: list[nn.Module], images: Tensor, dtype: torch.dtype) -> Program | None:
    """Write the program of a network, or None where one of its layers is not known here."""
    try:
        return _Writer(layers, images, dtype).written()
    except Unsupported:
        return None


class _Writer:
    """Goes through the layers once and writes down the calls."""

    def __init__(self, layers: list[nn.Module], images: Tensor, dtype: torch.dtype) -> None:
        self.layers = layers
        self.batch, channels, height, width = images.shape
        self.dtype = dtype
        self.wide = ops.WIDE[dtype]
        self.threads = torch.get_num_threads()
        self.count = sum(parameter is not None for layer in layers for parameter in layer._parameters.values())
        self.parameters = 0
        self.forward: list[Call] = []
        self.backward: list[Call] = []
        self.dropouts: list[Any] = []
        self.sizes: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        self.places = FIRST + 2 * self.count
        self.values = Values(IMAGES, NOTHING, channels, height, width, ops.WIDE[images.dtype])

    def written(self) -> Program:
        """Return the program.

        Raises:
            Unsupported: there is a layer that is not known here.
        """
        for layer in self.layers:
            self.write(layer)
        if not self.forward or self.values.height * self.values.width != 1 or self.values.wide != self.wide:
            raise Unsupported
        # The last values are the logits, and their gradient comes from outside.
        last, gradient = self.values.at, self.values.gradient
        moved = {last: LOGITS, gradient: GRADIENT}
        (kept, kept_offsets), (passing, passing_offsets) = self.laid_out(True), self.laid_out(False)
        order = [place for kept in (True, False) for place, _ in self.sizes[kept]]
        table = {place: FIRST + 2 * self.count + index for index, place in enumerate(order)}
        return Program(
            self.layers,
            [self.settled(call, table | moved) for call in self.forward],
            [self.settled(call, table | moved) for call in reversed(self.backward)],
            self.dropouts,
            kept,
            kept_offsets,
            passing,
            passing_offsets,
            self.values.channels,
            self.dtype,
        )

    def laid_out(self, kept: bool) -> tuple[int, list[int]]:
        """Bytes of all parts together, and where each begins."""
        offsets, end = [], 0
        for _, size in self.sizes[kept]:
            offsets.append(end)
            end += -(-size // _ALIGN) * _ALIGN
        return end, offsets

    def settled(self, call: Call, table: dict[int, int]) -> Call:
        """The call with addresses that are found in one go."""
        return call._replace(addresses=itemgetter(*(table.get(place, place) for place in call.addresses)))

    def part(self, size: int, kept: bool = True) -> int:
        """Have room for `size` bytes; return its place in the table, NOTHING for no bytes."""
        if not size:
            return NOTHING
        place = self.places
        self.places += 1
        self.sizes[kept].append((place, size))
        return place

    def new(self, channels: int, height: int, width: int, wide: int) -> Values:
        """Room for what flows on, and for its gradient."""
        size = self.batch * channels * height * width * (4 if wide else 2)
        return Values(self.part(size), self.part(size, kept=False), channels, height, width, wide)

    def add(self, forward: tuple[int, Places], backward: tuple[int, Places], numbers: tuple[Any, ...], drops: int | None = None) -> None:
        """Write down what is called forward and back."""
        self.forward.append(Call(*forward, numbers, drops))
        if self.values.gradient != NOTHING or backward[0] in (CONVOLVE_BACK, DENSE_BACK):  # nobody asks for the gradient of the images
            self.backward.append(Call(*backward, numbers, drops))

    def write(self, layer: nn.Module) -> None:
        """Write down the calls of a layer."""
        kind = type(layer)
        if kind is nn.Identity:
            return
        if kind is nn.Flatten:
            self.flatten(layer)
        elif kind in ops.ACTIVATIONS:
            self.tail(ops.ACTIVATIONS[kind], ops.NONE, None)
        elif isinstance(layer, nn.Conv2d):
            self.convolution(layer)
        elif isinstance(layer, nn.Linear):
            self.dense(layer)
        elif isinstance(getattr(layer, "rate", None), float):
            self.dropout(layer)
        elif hasattr(layer, "norm_first"):
            self.whole_tail(layer)
        else:
            raise Unsupported

    def weights(self, layer: nn.Module) -> tuple[int, int, int, int]:
        """Places of weights and bias, and of their gradients."""
        first = FIRST + self.parameters
        biased = layer._parameters["bias"] is not None
        self.parameters += 1 + biased
        bias = first + 1 if biased else NOTHING
        return first, bias, first + self.count, bias + self.count if biased else NOTHING

    def layer(self, kinds: tuple[int, int], layer: nn.Module, out: Values, sizes: tuple[int, ...]) -> None:
        """Write down a layer with weights."""
        before, (weight, bias, grad_weight, grad_bias) = self.values, self.weights(layer)
        self.add(
            (kinds[0], (before.at, out.at, NOTHING, NOTHING, weight, bias, NOTHING, NOTHING)),
            (kinds[1], (before.at, NOTHING, out.gradient, before.gradient, weight, NOTHING, grad_weight, grad_bias)),
            (*sizes, before.wide, self.wide, self.threads),
        )
        self.values = out

    def convolution(self, layer: nn.Conv2d) -> None:
        """A convolution of few channels."""
        weight, bias = layer._parameters["weight"], layer._parameters["bias"]
        before = self.values
        if weight is None or not (ops.plain_convolution(layer, weight, bias) and ops.few_channels(layer)):
            raise Unsupported
        if weight.shape[1] != before.channels:
            raise Unsupported
        outputs, _, kernel_height, kernel_width = weight.shape
        left, right, top, bottom = layer._reversed_padding_repeated_twice
        height, width = before.height + top + bottom - kernel_height + 1, before.width + left + right - kernel_width + 1
        if height < 1 or width < 1:
            raise Unsupported
        sizes = (self.batch, before.channels, before.height, before.width, outputs, height, width, kernel_height, kernel_width, top, left)
        self.layer((CONVOLVE, CONVOLVE_BACK), layer, self.new(outputs, height, width, self.wide), (*sizes, *weight.stride()))

    def dense(self, layer: nn.Linear) -> None:
        """A small dense layer."""
        weight, bias = layer._parameters["weight"], layer._parameters["bias"]
        if weight is None or not ops.plain_parameters(weight, bias) or not weight.is_contiguous():
            raise Unsupported
        outputs, inputs = weight.shape
        if inputs != self.values.channels or self.values.numbers != inputs or self.batch * inputs * outputs > MOST_PRODUCTS:
            raise Unsupported
        sizes = (self.batch, inputs, 1, 1, outputs, 1, 1, 1, 1, 0, 0, inputs, 1, 1, 1)
        self.layer((DENSE, DENSE_BACK), layer, self.new(outputs, 1, 1, self.wide), sizes)

    def whole_tail(self, layer: nn.Module) -> None:
        """What follows a convolution, without a norm."""
        parts = layer._modules
        activation, norm, pool, drop = map(parts.get, ("activation", "norm", "pool", "dropout"))
        codes = ops.ACTIVATIONS.get(type(activation)), ops.POOLS.get(type(pool))
        if norm is not None or codes[0] is None or codes[1] is None:
            raise Unsupported
        if pool is not None and not (ops.two_by_two(pool) and self.values.height > 1 and self.values.width > 1):
            raise Unsupported
        self.tail(codes[0], codes[1], drop)

    def tail(self, activation: int, pool: int, drop: Any) -> None:
        """Activation, pooling and dropout."""
        before = self.values
        rate = drop.rate if drop is not None else 0.0
        height, width = (before.height // 2, before.width // 2) if pool else (before.height, before.width)
        out = self.new(before.channels, height, width, before.wide)
        count = self.batch * out.numbers
        plan = ops.Plan(activation, ops.NONE, pool, before.wide, True, rate, 0, 0)
        if pool == ops.AVERAGE and before.wide and not rate and self.forward[-1:] and self.forward[-1].kind == CONVOLVE:
            # Nobody else reads a convolution's sums: the activations take their place, and need not be computed again on the way back.
            self.averaged(before, out, activation)
            return
        picks = pool == ops.MAX and not ops.output_tells(plan)
        picked = self.part(count * (4 if before.wide else 2)) if picks else NOTHING
        code = self.part(count) if pool == ops.MAX or rate else NOTHING
        inputs = NOTHING if pool == ops.MAX else before.at
        tells = out.at if pool == ops.MAX and not picks else picked
        none = (NOTHING,) * 6
        sizes = (self.batch, before.channels, before.height, before.width, activation, ops.NONE, pool, before.wide, True, self.threads)
        self.add(
            (FORWARD, (before.at, out.at, code, picked, *none, NOTHING, NOTHING, NOTHING, NOTHING)),
            (BACKWARD, (inputs, NOTHING, code, tells, *none, out.gradient, before.gradient, NOTHING, NOTHING)),
            (*sizes, 0, 0, 0.0, 0.0, rate),
            self.drawing(drop) if rate else None,
        )
        self.values = out

    def averaged(self, before: Values, out: Values, activation: int) -> None:
        """Activation and average-pooling, where the activations are kept."""
        rest = (NOTHING,) * 6
        switches = (activation, ops.NONE, ops.AVERAGE, before.wide, True, self.threads)
        self.add(
            (FORWARD, (before.at, out.at, NOTHING, before.at, *rest, NOTHING, NOTHING, NOTHING, NOTHING)),
            (BACKWARD, (NOTHING, NOTHING, NOTHING, before.at, *rest, out.gradient, before.gradient, NOTHING, NOTHING)),
            (self.batch, before.channels, before.height, before.width, *switches, 0, 0, 0.0, 0.0, 0.0),
        )
        self.values = out

    def drawing(self, layer: Any) -> int:
        """Note a layer that draws masks."""
        self.dropouts.append(layer)
        return len(self.dropouts) - 1

    def dropout(self, layer: Any) -> None:
        """Dropout on its own."""
        if layer.rate:
            before = self.values
            out = self.new(*before[2:])
            rest = (NOTHING,) * 12
            numbers = (1, 1, 1, self.batch * before.numbers, *(ops.NONE,) * 3, before.wide, True, self.threads, 0, 0, 0.0, 0.0, layer.rate)
            self.add((DROPOUT, (before.at, out.at, *rest)), (DROPOUT, (out.gradient, before.gradient, *rest)), numbers, self.drawing(layer))
            self.values = out

    def flatten(self, layer: Any) -> None:
        """Channels-last memory in the order of PyTorch's: channel by channel."""
        before = self.values
        if layer.start_dim != 1 or layer.end_dim != -1:
            raise Unsupported
        places = before.height * before.width
        if places == 1 or before.channels == 1:
            self.values = before._replace(channels=before.numbers, height=1, width=1)
            return
        out = self.new(before.numbers, 1, 1, before.wide)
        rest, numbers = (NOTHING,) * 12, (0, 0, 0, before.wide, True, self.threads, 0, 0, 0.0, 0.0, 0.0)
        self.forward.append(Call(TRANSPOSE, (before.at, out.at, *rest), (self.batch, 1, places, before.channels, *numbers)))
        if before.gradient != NOTHING:
            turned = (self.batch, 1, before.channels, places, *numbers)
            self.backward.append(Call(TRANSPOSE, (out.gradient, before.gradient, *rest), turned))
        self.values = out


def _carry_out(calls: list[Call], table: list[int], drawn: list[tuple[int, int]]) -> None:
    """Make the calls, all in one."""
    parts = [_pack_count(len(calls))]
    for kind, addresses, numbers, drops in calls:
        if drops is not None:
            numbers = (*numbers[:10], *drawn[drops], *numbers[12:])
        pack = _pack_call if kind < CONVOLVE else _pack_layer
        parts.append(pack(kind, *addresses(table), *numbers))
    ops.check(native.kernels().call.fittingroom_program(b"".join(parts)))  # type: ignore[union-attr]


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    images, *parameters = ctx.saved_tensors
    program, kept, drawn = ctx.rest
    grad_out = grad_out.contiguous()
    gradients = [torch.empty_like(parameter) for parameter in parameters]
    passing = torch.empty(program.passing, dtype=torch.uint8, device="cpu")
    table = [0, images.data_ptr(), 0, grad_out.data_ptr()]
    table += [tensor.data_ptr() for tensor in parameters] + [tensor.data_ptr() for tensor in gradients]
    at = kept.data_ptr()
    table += [at + offset for offset in program.kept_offsets]
    at = passing.data_ptr()
    table += [at + offset for offset in program.passing_offsets]
    _carry_out(program.backward, table, drawn)
    return None, None, *gradients


_backward_once = once_differentiable(_backward)


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, program: Program, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(images, *parameters)
        kept = torch.empty(program.kept, dtype=torch.uint8, device="cpu")
        logits = torch.empty((len(images), program.classes), dtype=program.dtype, device="cpu")
        drawn = []
        for layer in program.dropouts:
            drawn.append((layer.seed, layer.calls))
            layer.calls += 1
        ctx.rest = program, kept, drawn
        table = [0, images.data_ptr(), logits.data_ptr(), 0]
        table += [tensor.data_ptr() for tensor in parameters] + [0] * len(parameters)
        at = kept.data_ptr()
        table += [at + offset for offset in program.kept_offsets]
        _carry_out(program.forward, table, drawn)
        return logits

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _backward_once(ctx, grad_out)
        return _backward(ctx, grad_out)


_apply: Any = super(torch.autograd.Function, _Run).apply
