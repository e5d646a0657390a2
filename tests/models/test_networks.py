"""The contract that every network keeps, and a few networks against an independent account of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fittingroom import models
from fittingroom.models.layers import Dropout, Tail, seed_dropout
from fittingroom.models.network import Network

NETWORKS = [name for name in models.names() if models.entry(name).kind == "network"]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in NETWORKS),
    ("cnn-vs-svm", {"layers": 1}),
    ("cnn-vs-svm", {"layers": 3}),
    ("lenet5", {"activation": "relu", "pooling": "max", "dropout": 0.5}),
    ("resnet20", {"depth": 8, "squeeze_excite": True}),
    ("wide-resnet", {"depth": 10, "width": 1, "dropout": 0.3}),
    ("mlp", {"hidden": [], "activation": "tanh"}),
    ("compact", {"stem": 8, "stages": [16], "residual": False, "dropout": 0.1}),
    ("compact", {"squeeze_excite": True}),
]
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64)]

every_variant = pytest.mark.parametrize(("name", "arguments"), VARIANTS, ids=str)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(
    name: str,
    arguments: dict[str, Any] | None = None,
    *,
    seed: int = 0,
    shape: tuple[int, int, int] = (1, 28, 28),
    defaults: Literal["torch", "keras"] = "torch",
) -> Network:
    generator = torch.Generator().manual_seed(seed)
    return models.build(name, input_shape=shape, classes=10, generator=generator, defaults=defaults, arguments=arguments or {})


@cache
def images(shape: tuple[int, int, int], count: int = 4) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


@every_variant
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_are_finite_for_any_shape_and_a_single_image(name: str, arguments: dict[str, Any], shape: tuple[int, int, int]) -> None:
    network = make(name, arguments, shape=shape).eval()
    with torch.no_grad():
        for count in (3, 1):
            logits = network(images(shape)[:count])
            assert logits.shape == (count, 10)
            assert logits.isfinite().all()


@every_variant
def test_gradients_reach_every_parameter(name: str, arguments: dict[str, Any]) -> None:
    network = make(name, arguments).train()
    seed_dropout(network, 0)
    functional.cross_entropy(network(images((1, 28, 28), 8)), torch.arange(8)).backward()  # type: ignore[no-untyped-call]
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@every_variant
def test_evaluation_is_deterministic_and_the_same_in_any_memory_order(name: str, arguments: dict[str, Any]) -> None:
    network = make(name, arguments).eval()
    x = images((1, 28, 28))
    with torch.no_grad():
        first = network(x)
        assert torch.equal(first, network(x))
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        torch.testing.assert_close(network(x.contiguous(memory_format=torch.channels_last)), first, rtol=1e-4, atol=1e-5)


@every_variant
@pytest.mark.parametrize("defaults", ["torch", "keras"])
def test_building_draws_everything_from_its_generator_alone(
    name: str, arguments: dict[str, Any], defaults: Literal["torch", "keras"]
) -> None:
    before = torch.get_rng_state()
    # In this mode torch fills fresh memory with NaN, so a number that nobody set would show.
    torch.use_deterministic_algorithms(True)
    try:
        first, second, other = (make(name, arguments, seed=seed, defaults=defaults) for seed in (0, 0, 1))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(before, torch.get_rng_state())
    assert first.training
    for key, value in first.state_dict().items():
        assert value.device.type == "cpu"
        assert value.isfinite().all(), key
        assert torch.equal(value, second.state_dict()[key]), key
    assert any(not torch.equal(value, other.state_dict()[key]) for key, value in first.state_dict().items())


@every_variant
def test_weights_survive_a_round_trip(name: str, arguments: dict[str, Any]) -> None:
    first, second = make(name, arguments, seed=0).eval(), make(name, arguments, seed=1).eval()
    second.load_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    with torch.no_grad():
        assert torch.equal(first(images((1, 28, 28))), second(images((1, 28, 28))))


@every_variant
def test_every_convolution_is_finished_by_the_shared_layer(name: str, arguments: dict[str, Any]) -> None:
    network = make(name, arguments)
    inside = {id(module) for tail in network.modules() if isinstance(tail, Tail) for module in tail.modules()}
    for module in network.features.modules():
        if isinstance(module, nn.BatchNorm2d | nn.MaxPool2d | nn.AvgPool2d):
            assert id(module) in inside
        assert not isinstance(module, nn.Dropout | nn.Dropout2d)


def test_keras_defaults_have_no_kaiming_refinement() -> None:
    for name in ("resnet20", "wide-resnet", "compact"):
        for module in make(name, defaults="keras").modules():
            if isinstance(module, nn.Conv2d):
                outputs, inputs, height, width = module.weight.shape
                assert module.weight.abs().max() <= (6 / ((inputs + outputs) * height * width)) ** 0.5


def test_residual_convolutions_start_with_variance_two_over_fan_out() -> None:
    weight = make("resnet18").features.get_submodule("8").get_parameter("second.0.weight")
    assert weight.shape == (512, 512, 3, 3)
    assert weight.var().item() == pytest.approx(2 / (512 * 9), rel=0.01)


def test_lenet5_computes_what_its_definition_says() -> None:
    network = make("lenet5").eval()
    x = images((1, 28, 28))
    w = list(network.state_dict().values())
    a = functional.avg_pool2d(torch.tanh(functional.conv2d(x, w[0], w[1], padding=2)), 2)
    b = functional.avg_pool2d(torch.tanh(functional.conv2d(a, w[2], w[3])), 2)
    c = torch.tanh(b.reshape(len(x), 400) @ w[4].T + w[5])
    d = torch.tanh(c @ w[6].T + w[7])
    with torch.no_grad():
        torch.testing.assert_close(network(x), d @ w[8].T + w[9])


def test_three_block_orders_its_layers_as_the_report_does() -> None:
    network = make("three-block").eval()
    s = network.state_dict()
    a = images((1, 28, 28))
    for index in (0, 2, 4):
        a = functional.conv2d(a, s[f"features.{index}.weight"], s[f"features.{index}.bias"], padding=1).relu()
        norm = f"features.{index + 1}.norm."
        a = functional.batch_norm(a, s[norm + "running_mean"], s[norm + "running_var"], s[norm + "weight"], s[norm + "bias"])
        a = functional.max_pool2d(a, 2)
    a = functional.linear(a.flatten(1), s["head.1.weight"], s["head.1.bias"]).relu()
    a = functional.batch_norm(a, s["head.3.running_mean"], s["head.3.running_var"], s["head.3.weight"], s["head.3.bias"])
    with torch.no_grad():
        torch.testing.assert_close(network(images((1, 28, 28))), functional.linear(a, s["head.5.weight"], s["head.5.bias"]))


def test_a_padded_shortcut_keeps_every_second_pixel_and_adds_zeros() -> None:
    block = make("resnet20").features.get_submodule("5")
    x = images((16, 7, 7))
    shortcut = block.get_submodule("shortcut")(x)
    assert shortcut.shape == (4, 32, 4, 4)
    assert torch.equal(shortcut[:, :16], x[:, :, ::2, ::2])
    assert not shortcut[:, 16:].any()
    assert block(x).shape == shortcut.shape


def test_dropout_rates_of_the_reports() -> None:
    def rates(network: nn.Module) -> list[float]:
        return [module.rate for module in network.modules() if isinstance(module, Dropout) and module.rate]

    assert rates(make("three-block")) == [0.2, 0.3, 0.4, 0.5]
    assert rates(make("cnn-vs-svm")) == [0.2]
    assert len(rates(make("custom-cnn-deep"))) == 3
    assert rates(make("lenet5", {"dropout": 0.5})) == [0.5, 0.5]


def test_a_network_can_learn() -> None:
    """Two classes that differ in brightness: a few steps are enough for each network to tell them apart."""
    x = images((1, 28, 28), 16) + torch.tensor([-1.0, 1.0]).repeat(8)[:, None, None, None]
    y = torch.arange(16) % 2
    for name in ("basic", "compact", "resnet20", "mlp", "alexnet"):
        network = make(name).train()
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        for step in range(12):
            seed_dropout(network, step)
            optimizer.zero_grad()
            functional.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        assert (network(x).argmax(1) == y).float().mean() > 0.9, name
