"""Names, arguments, descriptions: what can be asked of the models without training one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, get_args

import pytest
import torch

from fittingroom import models
from fittingroom.errors import UsageError
from fittingroom.models.arguments import ActivationName
from fittingroom.models.layers import ACTIVATIONS

NETWORKS = [name for name in models.names() if models.entry(name).kind == "network"]
CLASSICAL = [name for name in models.names() if models.entry(name).kind == "classical"]

PARAMETERS = {
    "compact": 103_466,
    "basic": 54_410,
    "standard": 121_930,
    "lenet5": 61_706,
    "cnn-vs-svm": 225_034,
    "custom-cnn": 225_034,
    "custom-cnn-deep": 241_546,
    "three-block": 667_146,
    "alexnet": 3_170_154,
    "resnet20": 269_434,
    "resnet18": 11_172_810,
    "wide-resnet": 2_748_602,
    "mlp": 235_146,
}

# By hand, from the last layer back: before a 2×2 pool twice as many, before a 3×3 convolution without padding two more.
SMALLEST = {
    "compact": 4,
    "basic": 4,
    "standard": 10,
    "lenet5": 12,
    "cnn-vs-svm": 10,
    "custom-cnn": 10,
    "custom-cnn-deep": 18,
    "three-block": 8,
    "alexnet": 12,
}


def describe(name: str, **arguments: Any) -> models.Description:
    return models.describe(name, arguments=arguments)


def test_importing_the_table_imports_neither_torch_nor_scikit_learn() -> None:
    code = "import sys, fittingroom.models as m; m.names(); print([n for n in ('torch', 'sklearn', 'numpy') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_parameters_of_every_network_on_fashion_mnist() -> None:
    assert {name: describe(name).parameters for name in NETWORKS} == PARAMETERS


@pytest.mark.parametrize(("layers", "parameters"), [(1, 693_962), (2, 225_034), (3, 110_474)])
def test_parameters_of_the_lenet_variant_by_its_layers(layers: int, parameters: int) -> None:
    assert describe("cnn-vs-svm", layers=layers).parameters == parameters


@pytest.mark.parametrize(
    ("name", "published"),
    [("resnet20", 269_722), ("resnet18", 11_173_962), ("wide-resnet", 2_748_890)],
)
def test_parameters_on_cifar_are_those_of_the_papers(name: str, published: int) -> None:
    assert models.describe(name, (3, 32, 32)).parameters == published


def test_multiply_adds_of_lenet5_by_hand() -> None:
    convolutions = 28 * 28 * 6 * (5 * 5) + 10 * 10 * 16 * (5 * 5 * 6)
    dense = 400 * 120 + 120 * 84 + 84 * 10
    assert describe("lenet5").multiply_adds == convolutions + dense == 416_520


def test_multiply_adds_of_standard_by_hand() -> None:
    convolutions = 26 * 26 * 32 * (3 * 3) + 11 * 11 * 64 * (3 * 3 * 32)
    dense = 1600 * 64 + 64 * 10
    assert describe("standard").multiply_adds == convolutions + dense == 2_528_000


def test_squeeze_excitation_costs_its_two_dense_layers_a_block() -> None:
    per_stage = [width * (width // 8) * 2 + width // 8 + width for width in (16, 32, 64)]
    plain, squeezed = describe("resnet20").parameters, describe("resnet20", squeeze_excite=True).parameters
    assert plain is not None
    assert squeezed == plain + 3 * sum(per_stage)


def test_alexnet_stays_affordable() -> None:
    cost = describe("alexnet").multiply_adds
    assert cost is not None
    assert cost < 60_000_000


def test_classical_models_have_no_size_before_they_are_fitted() -> None:
    for name in CLASSICAL:
        assert (describe(name).parameters, describe(name).multiply_adds) == (None, None)


def test_describing_leaves_global_randomness_alone() -> None:
    before = torch.get_rng_state()
    describe("compact")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", models.names())
def test_every_model_says_where_it_comes_from_and_what_its_arguments_mean(name: str) -> None:
    entry = models.entry(name)
    assert entry.source
    assert entry.summary
    for argument, known in models.arguments_of(name).items():
        assert known.description, argument
        assert known.accepts
        # A default must pass the check that it stands in for.
        describe(name, **{argument: known.default})


def test_arguments_are_read_from_the_builder() -> None:
    arguments = models.arguments_of("lenet5")
    assert list(arguments) == ["activation", "pooling", "dropout"]
    assert arguments["pooling"].choices == ("max", "average")
    assert arguments["pooling"].default == "average"
    assert arguments["pooling"].description == "after each convolution."
    assert arguments["dropout"].accepts == "a number at least 0 and below 1"
    assert models.arguments_of("basic") == {}


def test_every_activation_can_be_named() -> None:
    assert set(get_args(ActivationName)) == set(ACTIVATIONS)


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("lenet", {}, "did you mean 'lenet5'"),
        ("lenet5", {"poolin": "max"}, "did you mean 'pooling'"),
        ("lenet5", {"pooling": "averge"}, "did you mean 'average'"),
        ("lenet5", {"dropout": 1.0}, "below 1"),
        ("lenet5", {"dropout": float("nan")}, "dropout"),
        ("lenet5", {"dropout": "0.5"}, "a number"),
        ("basic", {"filters": 3}, "takes none"),
        ("cnn-vs-svm", {"layers": 4}, "from 1 to 3"),
        ("cnn-vs-svm", {"layers": True}, "from 1 to 3"),
        ("custom-cnn", {"filters1": -1}, "from 1 to 4096"),
        ("custom-cnn", {"filters1": 3.0}, "whole number"),
        ("custom-cnn-deep", {"kernel": 5}, "at least 32×32"),
        ("mlp", {"hidden": 3}, "a list"),
        ("mlp", {"hidden": [16, 0]}, "from 1 to 4096"),
        ("compact", {"stages": []}, "a list of 1 to 6"),
        ("resnet20", {"depth": 21}, "6 n + 2"),
        ("resnet20", {"squeeze_excite": 1}, "true or false"),
        ("wide-resnet", {"depth": 20}, "6 n + 4"),
        ("knn", {"neighbours": 0}, "from 1"),
        ("svc-rbf", {"c": 0.0}, "above 0"),
    ],
)
def test_what_cannot_be_accepted_is_named(name: str, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        describe(name, **arguments)
    message = str(caught.value)
    assert says in message
    assert name in message
    assert "\n" not in message


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_too_small_is_refused_and_the_size_that_would_do_is_right(name: str) -> None:
    smallest = SMALLEST.get(name, 1)
    assert models.describe(name, (1, smallest, smallest)).parameters
    assert models.describe(name, (1, smallest, smallest + 7)).parameters
    for height, width in ((smallest - 1, smallest), (smallest, smallest - 1)):
        if smallest > 1:
            with pytest.raises(UsageError, match=f"{name}: needs images of at least {smallest}×{smallest} pixels"):
                models.describe(name, (1, height, width))


def test_too_many_weights_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(UsageError, match="mlp would have 12,884,946,954 parameters"):
        models.describe("mlp", (3, 1024, 1024), arguments={"hidden": [4096]})


def test_kinds_are_not_confused() -> None:
    with pytest.raises(UsageError, match="not a network"):
        models.build("knn", input_shape=(1, 28, 28), classes=10, generator=torch.Generator())
    with pytest.raises(UsageError, match="not a classical model"):
        models.build_classical("lenet5", classes=10, seed=0)
    with pytest.raises(UsageError, match="at least 1 class"):
        models.describe("lenet5", classes=0)
    with pytest.raises(UsageError, match="shape of images"):
        models.describe("lenet5", (0, 28, 28))
