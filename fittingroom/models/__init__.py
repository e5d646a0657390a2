"""The models: one explicit table from name to builder, and the few calls that all of them stand behind.

Importing this module imports neither torch nor scikit-learn, so that names can be listed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from fittingroom.errors import UsageError, nearest

if TYPE_CHECKING:
    import torch

    from fittingroom.models.arguments import Argument
    from fittingroom.models.classical import ClassicalModel
    from fittingroom.models.network import Network

__all__ = ["MODELS", "Description", "Entry", "arguments_of", "build", "build_classical", "check", "describe", "entry", "names"]

# More weights than this (4 GB) are taken for a slip in a width or an image size.
MOST_PARAMETERS = 1_000_000_000
NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Entry:
    """A model that can be asked for by name.

    Attributes:
        builder: ``module:function``, imported when the model is built.
        source: the report or paper it comes from.
        summary: what it is, in a line.
        kind: a `network`, trained by the loop, or `classical`, fitted by scikit-learn.
        assumptions: what its source leaves open and was chosen here.
    """

    builder: str
    source: str
    summary: str
    kind: Literal["network", "classical"] = "network"
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """What can be said of a model before it is trained.

    Attributes:
        name: its name.
        parameters: trainable numbers; None for a classical model, whose size follows from the data.
        multiply_adds: per image forward, in convolutions and dense layers; None for a classical model.
        source: the report or paper it comes from.
        summary: what it is, in a line.
        assumptions: what its source leaves open and was chosen here.
    """

    name: str
    parameters: int | None
    multiply_adds: int | None
    source: str
    summary: str
    assumptions: tuple[str, ...]


CUSTOM_CNN = "report custom-cnn: Developing a custom CNN for Image Classification using the Fashion MNIST Dataset"
THREE_BLOCK = "report three-block-cnn: a deep CNN to classify images from the Fashion MNIST dataset"
CNN_VS_SVM = "report cnn-vs-svm: CNN on Fashion MNIST"
LENET_ABLATION = "report lenet-ablation: Training a CNN on the Fashion-MNIST dataset using PyTorch"
SHALLOW_VS_DEEP = "report shallow-vs-deep: 2D CNN's for Fashion MNIST"

MODELS: Mapping[str, Entry] = MappingProxyType(
    {
        "compact": Entry(
            "fittingroom.models.compact:compact",
            "Fitting Room, in the manner of ResNet-9 (Page, How to Train Your ResNet, 2018)",
            "small residual network: the best accuracy for two CPU cores and two minutes",
        ),
        "basic": Entry(
            "fittingroom.models.plain:basic",
            SHALLOW_VS_DEEP,
            "conv 32 → max-pool → output",
        ),
        "standard": Entry(
            "fittingroom.models.plain:standard",
            SHALLOW_VS_DEEP,
            "conv 32 → max-pool → conv 64 → max-pool → dense 64 → output",
        ),
        "lenet5": Entry(
            "fittingroom.models.lenet:lenet5",
            f"LeCun et al., Gradient-based learning applied to document recognition, 1998; {LENET_ABLATION}",
            "LeNet-5: conv 6 and conv 16 of 5×5, pooling, dense 120 and 84",
            assumptions=("the report does not say where dropout stands: after each of the two dense layers",),
        ),
        "cnn-vs-svm": Entry(
            "fittingroom.models.plain:cnn_vs_svm",
            CNN_VS_SVM,
            "LeNet variant: one to three of conv → max-pool, then dense 128 with dropout",
            assumptions=(
                "padding is not stated: none, as Keras has it",
                "the third convolution is not described: 128 filters of 3×3 and max-pooling, continuing the first two",
            ),
        ),
        "custom-cnn": Entry(
            "fittingroom.models.plain:custom_cnn",
            CUSTOM_CNN,
            "baseline: two of conv → max-pool, one dense layer",
            assumptions=(
                "filters are not stated: 32 and 64, the pair that its grid search names",
                "kernel size is not stated: 3×3",
                "units of the dense layer are not stated: 128",
                "activation and padding are not stated: ReLU, and none as Keras has it",
            ),
        ),
        "custom-cnn-deep": Entry(
            "fittingroom.models.plain:custom_cnn_deep",
            CUSTOM_CNN,
            "final model: the baseline with a third convolution and three dropout layers",
            assumptions=(
                "filters are not stated: 32, 64 and 128",
                "kernel size is not stated: 3×3",
                "place of the third convolution is not stated: after the second max-pool, without a pool of its own",
                "places and rates of the dropout layers are not stated: 0.25 after each max-pool, 0.5 after the dense layer",
                "units of the dense layer are not stated: 128",
                "activation and padding are not stated: ReLU, and none as Keras has it",
            ),
        ),
        "three-block": Entry(
            "fittingroom.models.three_block:three_block",
            THREE_BLOCK,
            "three of conv → ReLU → batch norm → max-pool → dropout (64, 128, 256), then dense 128",
            assumptions=("padding is not stated: one pixel of zeros, so that convolutions keep the size",),
        ),
        "alexnet": Entry(
            "fittingroom.models.alexnet:alexnet",
            f"Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012; {CUSTOM_CNN}",
            "AlexNet for small images: five convolutions, three max-pools, two dense layers with dropout",
            assumptions=(
                "the report does not say how it was adapted: first convolution 5×5 with stride 1 in place of 11×11 with stride 4",
                "filters of one of the paper's two towers: 48, 128, 192, 192, 128",
                "2×2 max-pooling in place of 3×3 with stride 2; no local response normalisation",
                "dense layers of 1,024 units in place of 4,096",
            ),
        ),
        "resnet20": Entry(
            "fittingroom.models.resnet:resnet20",
            "He et al., Deep residual learning for image recognition, 2016, section 4.2",
            "ResNet-20 for small images: three stages of three residual blocks (16, 32, 64)",
            assumptions=("shortcuts that change the size take every second pixel and add channels of zeros (option A)",),
        ),
        "resnet18": Entry(
            "fittingroom.models.resnet:resnet18",
            "He et al., Deep residual learning for image recognition, 2016, table 1",
            "ResNet-18 with a stem for small images: four stages of two residual blocks (64 to 512)",
            assumptions=(
                "stem: 3×3 convolution with stride 1, no max-pool",
                "shortcuts that change the size are 1×1 convolutions with batch norm (option B)",
            ),
        ),
        "wide-resnet": Entry(
            "fittingroom.models.wide_resnet:wide_resnet",
            "Zagoruyko and Komodakis, Wide residual networks, 2016",
            "wide residual network WRN-16-4: three stages of two pre-activation blocks (64, 128, 256)",
        ),
        "mlp": Entry(
            "fittingroom.models.mlp:mlp",
            "multilayer perceptron; a baseline that report three-block-cnn quotes",
            "dense layers of 256 and 128 on the pixels",
            assumptions=("the quoted network's layers are not stated: 256 and 128 units with ReLU",),
        ),
        "svc-rbf": Entry(
            "fittingroom.models.classical:svc_rbf",
            f"Cortes and Vapnik, Support-vector networks, 1995; {CNN_VS_SVM}",
            "support-vector machine with a radial kernel",
            "classical",
            ("the report states neither kernel nor C: radial kernel, C = 10, gamma = 1 / (features × variance)",),
        ),
        "svc-linear": Entry(
            "fittingroom.models.classical:svc_linear",
            f"Fan et al., LIBLINEAR, 2008; {CNN_VS_SVM}",
            "linear support-vector machine, one class against the rest",
            "classical",
            ("the report states neither kernel nor C: linear kernel, squared hinge loss, C = 0.001",),
        ),
        "random-forest": Entry(
            "fittingroom.models.classical:random_forest",
            "Breiman, Random forests, 2001; a baseline that report three-block-cnn quotes",
            "random forest of 100 trees, at most 100 deep",
            "classical",
        ),
        "extra-trees": Entry(
            "fittingroom.models.classical:extra_trees",
            "Geurts et al., Extremely randomized trees, 2006; a baseline that report three-block-cnn names",
            "extremely randomised forest of 100 trees, at most 100 deep",
            "classical",
            ("the report states neither number nor depth of the trees: 100 and 100, as for the random forest",),
        ),
        "decision-tree": Entry(
            "fittingroom.models.classical:decision_tree",
            "Breiman et al., Classification and regression trees, 1984; a baseline that report three-block-cnn names",
            "one decision tree",
            "classical",
            ("the report does not state the depth: at most 10",),
        ),
        "logistic-regression": Entry(
            "fittingroom.models.classical:logistic_regression",
            "multinomial logistic regression; a baseline that report three-block-cnn names",
            "linear classifier fitted by maximum likelihood with an L2 penalty",
            "classical",
            ("the report states no settings: C = 1, at most 200 steps of L-BFGS, converged or not",),
        ),
        "gaussian-nb": Entry(
            "fittingroom.models.classical:gaussian_nb",
            "Gaussian naive Bayes; a baseline that report three-block-cnn names",
            "each pixel normally distributed within a class, independent of the others",
            "classical",
        ),
        "knn": Entry(
            "fittingroom.models.classical:knn",
            "Cover and Hart, Nearest neighbor pattern classification, 1967",
            "vote of the 5 nearest training images",
            "classical",
        ),
    }
)


def names() -> list[str]:
    """Return the names of all models."""
    return list(MODELS)


def entry(name: str) -> Entry:
    """Return what is known of a model.

    Raises:
        UsageError: no model has that name.
    """
    if name not in MODELS:
        raise UsageError(f"unknown model '{name}'{nearest(name, MODELS)}; `fittingroom models` lists them")
    return MODELS[name]


def arguments_of(name: str) -> dict[str, Argument]:
    """Return the arguments that a model takes, by name.

    Raises:
        UsageError: no model has that name.
    """
    from fittingroom.models.arguments import listed

    return listed(_builder(name))


def build(
    name: str,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    generator: torch.Generator,
    defaults: Literal["torch", "keras"] = "torch",
    arguments: Mapping[str, Any] = NO_ARGUMENTS,
) -> Network:
    """Return a network on the CPU in training mode, its weights drawn from ``generator``; global randomness is not touched.

    Args:
        name: of a network in `MODELS`.
        input_shape: ``(channels, height, width)`` of the images.
        classes: how many there are.
        generator: a CPU generator; equal seeds give equal weights.
        defaults: whose initialisation and batch-norm constants to take.
        arguments: those of the builder; `arguments_of` lists them.

    Raises:
        UsageError: the model or an argument is unknown, a value is not accepted, or the images are too small.
    """
    network = _outline(name, input_shape, classes, arguments)
    network.to_empty(device="cpu")
    network.initialise(generator, defaults)
    return network


def build_classical(name: str, *, classes: int, seed: int, arguments: Mapping[str, Any] = NO_ARGUMENTS) -> ClassicalModel:
    """Return a classical model, yet to be fitted or loaded.

    Args:
        name: of a classical model in `MODELS`.
        classes: how many there are.
        seed: of the randomness in fitting.
        arguments: those of the builder; `arguments_of` lists them.

    Raises:
        UsageError: the model or an argument is unknown, or a value is not accepted.
    """
    if entry(name).kind != "classical":
        raise UsageError(f"{name} is a network, not a classical model")
    builder, accepted = _accepted(name, arguments)
    model: ClassicalModel = builder(_checked_classes(classes), seed, **accepted)
    return model


def check(name: str, arguments: Mapping[str, Any] = NO_ARGUMENTS) -> None:
    """Find out whether a model of this name takes these arguments, before anything is loaded or written.

    Raises:
        UsageError: unknown model or argument, or a value that it does not accept.
    """
    _accepted(name, arguments)


def describe(
    name: str,
    input_shape: tuple[int, int, int] = (1, 28, 28),
    classes: int = 10,
    arguments: Mapping[str, Any] = NO_ARGUMENTS,
) -> Description:
    """Say what a model is and how large it is for images of ``(channels, height, width)``; no weights are made.

    Raises:
        UsageError: as for `build`.
    """
    known = entry(name)
    parameters = multiply_adds = None
    if known.kind == "network":
        from fittingroom.models.count import count

        size = count(_outline(name, input_shape, classes, arguments), input_shape)
        parameters, multiply_adds = size.parameters, size.multiply_adds
    else:
        _accepted(name, arguments)
    return Description(name, parameters, multiply_adds, known.source, known.summary, known.assumptions)


def _builder(name: str) -> Callable[..., Any]:
    module, function = entry(name).builder.split(":")
    builder: Callable[..., Any] = getattr(import_module(module), function)
    return builder


def _accepted(name: str, arguments: Mapping[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    from fittingroom.models.arguments import checked

    builder = _builder(name)
    return builder, checked(name, builder, arguments)


def _outline(name: str, input_shape: tuple[int, int, int], classes: int, arguments: Mapping[str, Any]) -> Network:
    """Return a network on the meta device: shapes without numbers, which take neither memory nor randomness."""
    import torch

    if entry(name).kind != "network":
        raise UsageError(f"{name} is a classical model, not a network")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise UsageError(f"the shape of images is (channels, height, width), each at least 1, not {input_shape}")
    builder, accepted = _accepted(name, arguments)
    with torch.device("meta"), _naming(name):
        network: Network = builder(input_shape, _checked_classes(classes), **accepted)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if parameters > MOST_PARAMETERS:
        raise UsageError(f"{name} would have {parameters:,} parameters for these arguments and images; the most is {MOST_PARAMETERS:,}")
    return network


def _checked_classes(classes: int) -> int:
    if classes < 1:
        raise UsageError(f"there must be at least 1 class, not {classes}")
    return classes


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Put the model's name before the message of a usage error."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None
