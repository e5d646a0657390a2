"""The five studies are whole: every system, experiment, figure and statement of the reports has its line, and nothing is there unasked.

`CHECKLIST` is the list of what the reports hold, line by line, with what carries each line in the study: ``run:``, ``claim:``,
``assumption:``, ``factor:``, ``reading:``, ``protocol:`` or ``omitted:`` and its name.
"""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import fittingroom
from fittingroom import models
from fittingroom.audit import audit_table, read_tables
from fittingroom.audit.table import ReportTable, parse_figure
from fittingroom.study import groups
from fittingroom.study.checks import check_models
from fittingroom.study.file import load, shipped
from fittingroom.study.grid import cells, recipe_of, seeds_of, selected
from fittingroom.study.metrics import METRICS, metric_of, parse_claimed
from fittingroom.study.plan import plan
from fittingroom.study.results import Result, read_results
from fittingroom.study.schema import KINDS, Consistency, Count, Found, Number, Order, Shape, Study, selections_of
from fittingroom.study.searches import searches
from fittingroom.study.verdict import VERDICTS, judge
from tests.audit.tables import DIGITS, FASHION

CHECKLIST: dict[str, dict[str, str]] = {
    "custom-cnn": {
        # Protocol
        "48,000 training, 12,000 validation and 10,000 test images": "protocol:data",
        "50 epochs": "protocol:epochs",
        "Adam": "protocol:optimiser",
        "batch size not stated, but where it is varied": "protocol:batch assumption:batch-size",
        "learning rate not stated": "assumption:learning-rate",
        "mean 0.2860 and std 0.3530 on raw pixels, and on pixels of 0-1": "protocol:pixels reading:normalise assumption:normalisation",
        "no augmentation, Keras": "protocol:augmentation protocol:framework",
        "figures are of the final epoch": "assumption:final-epoch",
        # Systems and experiments
        "baseline CNN, with erratic validation curves": "run:baseline assumption:widths claim:baseline-is-erratic assumption:erratic",
        "L2 0.01: 0.9590 / 0.2225, 0.9072 / 0.3764": "run:l2 claim:l2-0-01 assumption:loss-with-penalty",
        "L2 0.1: 0.8888 / 0.4234, 0.8840 / 0.4489": "run:l2 claim:l2-0-1",
        "the baseline's curves are close together, its rate too high": (
            "claim:baseline-curves-are-close claim:baseline-rate-is-too-high assumption:close"
        ),
        "L2 0.1: smoother loss than with 0.01": "claim:more-l2-is-smoother",
        "L2 0.1: smaller loss than with 0.01": "claim:more-l2-has-the-smaller-loss claim:which-l2-has-the-smaller-loss",
        "L2 0.1: smoother loss than the baseline, no drastic overfitting": "claim:l2-steadies-the-loss claim:l2-prevents-overfitting",
        "L2 0.1: accuracy still erratic": "claim:accuracy-stays-erratic-with-l2",
        "deeper CNN, batch 16: 0.9013 / 0.2887, 0.9040 / 0.2971": "run:deeper claim:deeper-16 assumption:deeper-layers",
        "deeper CNN, batch 32: 0.9113 / 0.2512, 0.9115 / 0.2749, test 0.90": "run:deeper claim:final",
        "learning rate 0.006 or 0.0001-0.0006": "assumption:deeper-rate claim:final-at-0-0006 claim:which-rate",
        "batch 16 is smoother than 32": (
            "claim:batch-16-is-smoother claim:batch-16-is-smoother-at-0-0006 "
            "claim:batch-16-has-the-smoother-loss claim:batch-16-has-the-smoother-loss-at-0-0006"
        ),
        "batch 32 ends better, in accuracy and loss": "claim:batch-32-is-better claim:batch-32-has-lower-loss",
        "grid search: filters, kernel size, learning rate": "run:search run:search-found assumption:search-grid assumption:search-budget",
        "best of the search 0.8619 at 32, 64, 5x5, 0.001": (
            "run:search-best claim:search-best claim:search-finds-no-better"
            " claim:search-filters-1 claim:search-filters-2 claim:search-size claim:search-rate"
        ),
        "early stopping on loss: 0.8535 / 0.4039, 0.8593 / 0.4217": "run:early-stopping claim:stopped-on-loss",
        "early stopping on accuracy: 0.8697 / 0.3641, 0.8591 / 0.4805": "run:early-stopping claim:stopped-on-accuracy",
        "stops at epoch 15-18": "claim:stops-on-loss-at-15-to-18 claim:stops-on-accuracy-at-15-to-18",
        "the winner's curves are close, its loss unstable": "claim:search-curves-are-close claim:search-loss-stays-unstable",
        "stopped curves are less unstable, and close": "claim:stopped-curves-are-steadier claim:stopped-curves-are-close",
        "it suggests a patience of 10": "run:early-stopping claim:more-patience-is-better",
        "it suggests all 50 epochs with the best weights": "claim:all-epochs-are-better",
        "LeNet-5: test 0.86 (elsewhere 0.88)": "run:lenet5 claim:lenet5 claim:lenet5-elsewhere assumption:rivals",
        "AlexNet: test 0.89 (elsewhere 0.92)": "run:alexnet claim:alexnet claim:alexnet-elsewhere assumption:others-networks",
        "ResNet: test 0.88 (elsewhere 0.93)": "run:resnet claim:resnet claim:resnet-elsewhere assumption:which-resnet",
        "elsewhere ResNet beats AlexNet and LeNet-5": "claim:resnet-beats-its-elders-elsewhere",
        "table of the custom CNN": "claim:table-custom",
        "table of AlexNet": "claim:table-alexnet",
        "table of LeNet-5": "claim:table-lenet5",
        "table of ResNet": "claim:table-resnet",
        "gradient clipping": "run:clipping assumption:clipping",
        "other optimisers": "run:optimisers assumption:other-optimisers assumption:short-budget",
        "other learning rates": "run:rates",
        "activation functions": "omitted:activations",
        "smaller batches converge faster": "claim:batch-16-converges-faster claim:batch-16-converges-faster-at-0-0006",
        "dropout, filters, kernels and batches matter more": "omitted:what-matters-more",
        "the winner's accuracy settles, the stopped curves are similar": "omitted:looks-alike",
        "AlexNet with transfer learning": "omitted:transfer",
        "the rivals are called pre-trained, and are not": "claim:pre-trained",
        # Statements
        "the final model beats or matches all rivals": "claim:final-beats-rivals claim:final-beats-rivals-at-0-0006",
        "the final model outperforms all rivals, by the abstract": (
            "claim:final-outperforms-rivals claim:final-outperforms-rivals-at-0-0006"
        ),
        "in every class": (
            "claim:final-beats-rivals-on-average claim:final-beats-rivals-on-shirts claim:final-beats-rivals-on-coats "
            "claim:final-beats-rivals-on-pullovers claim:class-by-class assumption:class-by-class"
        ),
        "ResNet and AlexNet are the most erratic, LeNet smoother": (
            "claim:resnet-is-most-erratic claim:alexnet-is-most-erratic claim:lenet-is-smoother"
        ),
        "the rivals' curves lie further apart": "claim:final-overfits-least",
        "Adam is the best optimiser": "claim:adam-is-best",
        "0.0001-0.0006 is the best learning rate": "claim:small-rates-are-best claim:smallest-rate-is-best",
        "unnormalised pixels shift the result by more than 45 %": "run:normalisations claim:raw-pixels-cost-45-points assumption:percent",
        "mean and std are better than 255": "claim:mean-and-deviation-beat-255 claim:its-code-beats-255",
        "the slip explains the erratic curves and the low accuracies": (
            "claim:slip-costs-accuracy claim:slip-makes-accuracy-erratic claim:slip-makes-loss-erratic"
        ),
        "selection: highest validation accuracy with the least erratic curves": (
            "protocol:selection claim:final-has-highest-validation claim:final-is-least-erratic"
        ),
    },
    "three-block-cnn": {
        "80 / 20 split, 10,000 test images": "protocol:data",
        "pixels 0-1": "protocol:pixels",
        "rotation, shift, zoom": "protocol:augmentation",
        "batch 32": "protocol:batch",
        "Adam, at most 20 epochs, early stopping": "protocol:optimiser protocol:epochs assumption:learning-rate assumption:which-epoch",
        "Keras": "protocol:framework",
        "the network; padding not stated": "run:three-block assumption:padding",
        "curves, confusion matrix, precision, recall and F1": "protocol:shown",
        "run on both clothes and digits": "reading:data",
        "test accuracy 99.43 %": "claim:accuracy",
        "validation accuracy 99.4 %": "claim:validation",
        "the table, whose supports are MNIST's": "claim:table",
        "T-shirt 977 of 1,000": "claim:t-shirts-right claim:zeros-right claim:t-shirts-in-test",
        "Trouser 1,132 of 1,135": "claim:trousers-right claim:ones-right claim:trousers-in-test",
        "confusions are mainly Shirt / Pullover": "claim:shirt-and-pullover claim:six-and-two assumption:mainly",
        "Sandal as Dress": "claim:sandal-as-dress claim:five-as-three",
        "T-shirt as Pullover": "claim:t-shirt-as-pullover",
        "losses below 1.0 after epoch 5": "claim:losses-below-one",
        "minimal gap": "claim:minimal-gap assumption:minimal-gap",
        "augmentation helps": "run:without-augmentation claim:augmentation-helps",
        "MLP 87.1 % (MNIST 97.2)": "run:mlp claim:mlp-on-clothes claim:mlp-on-digits assumption:settings",
        "random forest 87.3 % (MNIST 97.0)": "run:forests claim:forest-on-clothes claim:forest-on-digits",
        "clothes are harder than digits": "claim:clothes-are-harder",
        "LeNet-5 98 %": "run:lenet5 claim:lenet5 claim:lenet5-beats-classical assumption:lenet",
        "CNN with batch norm and residual skips 92.4 %": "run:residual claim:residual assumption:residual",
        "CNN-C2 93.11 % against CNN-C1": (
            "run:without-augmentation run:plain claim:c2 claim:c2-beats-c1 claim:c2-overfits-less assumption:network-of-c2 "
            "omitted:loss-of-c2"
        ),
        "decision tree and extra trees": "run:forests",
        "Gaussian naive Bayes, SVC, logistic regression": "run:classical assumption:not-random",
        "state of the art": "claim:state-of-the-art claim:better-on-digits",
        "dropout is crucial, batch normalisation stabilises": "omitted:what-helped",
        "high precision, recall and F1 for all classes": "omitted:all-classes",
        "future work": "omitted:future-work",
    },
    "cnn-vs-svm": {
        "a validation part, size not stated": "protocol:data assumption:validation-size",
        "pixels not stated": "protocol:pixels assumption:pixels",
        "Adam; epochs, batch, rate not stated": "protocol:optimiser protocol:batch protocol:epochs assumption:batch-and-epochs",
        "no augmentation, Keras": "protocol:augmentation protocol:framework",
        "LeNet variant 91.98 %": "run:cnn claim:cnn assumption:which-accuracy",
        "also called three layers": "claim:how-many-layers claim:cnn-of-three",
        "one conv layer 92.7 %": "run:cnn claim:one-layer",
        "more conv layers: worse, overfit": (
            "run:cnn claim:a-third-layer-does-not-help claim:more-layers-overfit assumption:third-layer assumption:overfits"
        ),
        "validation loss rises": "claim:validation-loss-turns assumption:turns",
        "SVM 86 %, kernel not stated": "run:svm claim:svm-radial claim:svm-linear assumption:kernel",
        "SVM slower than the CNN": "claim:cnn-is-quicker-than-radial claim:cnn-is-quicker-than-linear",
        "search space, searched together": "run:search-found claim:search-finds-no-better assumption:search-together",
        "search space: number of filters": "run:search-filters claim:filters-are-best assumption:search-space",
        "search space: filter size": "run:search-size claim:filter-size-is-best",
        "search space: number of layers": "run:cnn",
        "search space: learning rate": "run:search-rate claim:rate-does-not-help",
        "search space: dropout rate": "run:search-dropout claim:dropout-is-best claim:dropout-prevents-overfitting",
        "search space: batch size": "run:search-batch claim:batch-size-does-not-help",
        "Adam is the best of the optimisers": "run:optimisers claim:adam-is-best assumption:optimiser-rates",
        "fewer conv layers do better": "claim:fewer-layers-do-better",
        "CNN beats SVM": "claim:cnn-beats-svm",
        "support-vector machines suit smaller sets": "omitted:smaller-sets",
        "future work: pre-trained ResNet": "omitted:pretrained",
        "future work: a more thorough search": "omitted:finer-search",
    },
    "lenet-ablation": {
        "60,000 / 10,000 in the CSV form": "protocol:data omitted:csv-form",
        "a validation part": "protocol:validation assumption:validation-size",
        "pixels not stated": "protocol:pixels assumption:pixels",
        "batch, learning rate, epochs not stated": (
            "protocol:batch protocol:epochs protocol:optimiser assumption:batch-and-epochs assumption:learning-rates"
        ),
        "PyTorch, TensorBoard curves": "protocol:framework omitted:figures",
        "smoothed losses 0.2704 and 0.3008": "omitted:smoothed",
        "activation, pooling, optimiser and dropout bring marked improvements": (
            "claim:activation-matters claim:pooling-matters claim:optimiser-matters claim:dropout-matters assumption:marked"
        ),
        "what augmentation does": "omitted:what-augmentation-does",
        "the best model generalises well": "claim:best-generalises assumption:generalises",
        "two layers of 6 output channels, against 6 and 16 filters": "claim:which-filters",
        "training duration and rate of convergence beside accuracy": "protocol:measures",
        "base model LeNet-5": "run:factorial",
        "experiment 1, activation": "factor:activation",
        "experiment 2, pooling": "factor:pooling",
        "experiment 3, optimiser": "factor:optimiser",
        "experiment 4, dropout": "factor:dropout assumption:dropout-place",
        "experiment 5, augmentation": "factor:augmentation assumption:augmentation protocol:augmentation",
        "best 0.93868 / 0.91822 / 0.90944": "claim:best claim:best-is-best assumption:best-without-dropout",
        "worst 0.78103 / 0.79422 / 0.77546": "claim:worst claim:worst-is-worst",
        "step 6 after 1.976 min, losses 0.2434 and 0.2915": "claim:best-at-step-6 claim:best-duration assumption:steps-are-epochs",
        "ReLU beats tanh": (
            "claim:relu-beats-tanh claim:relu-beats-tanh-by-13-points claim:relu-beats-tanh-throughout "
            "claim:relu-beats-tanh-at-any-rate run:sgd-rates"
        ),
        "because of vanishing gradients": "claim:tanh-converges-slower claim:tanh-converges-slower-throughout",
        "figures that cannot be of 10,000 images": "claim:accuracies-possible",
        "which optimisers it used": "claim:which-optimisers",
    },
    "shallow-vs-deep": {
        "60,000 for training, the test images as validation; and properly": "protocol:data reading:validation",
        "pixels / 255": "protocol:pixels",
        "Adam with defaults": "protocol:optimiser",
        "batch 32 (default)": "protocol:batch assumption:batch-size",
        "8 epochs (first 3)": "protocol:epochs assumption:three-epochs",
        "no augmentation, Keras": "protocol:augmentation protocol:framework",
        "basic: 90.30 %": "run:basic claim:basic-accuracy assumption:which-accuracy",
        "basic: 54k parameters": "claim:basic-parameters",
        "standard: 90.69 %": "run:standard claim:standard-accuracy",
        "standard: 121k parameters": "claim:standard-parameters",
        "accuracies of 10,000 images": "claim:accuracies-possible",
        "standard beats basic at 8 epochs": "claim:standard-beats-basic claim:standard-has-lower-loss",
        "basic beats standard at 3": "claim:basic-beats-standard-at-3",
        "a gap opens after epoch 3": "claim:basic-gap-opens claim:standard-gap-opens assumption:opens",
        "loss about 0.34 after the first epoch": "claim:basic-first-loss claim:standard-first-loss assumption:which-loss",
        "epochs 3-4 are the optimum": (
            "claim:basic-optimum claim:standard-optimum claim:basic-optimum-accuracy claim:standard-optimum-accuracy assumption:optimal"
        ),
        "8 epochs stop before overfitting": "claim:where-to-stop",
        "anything more brings diminishing gains": "claim:basic-gains-diminish claim:standard-gains-diminish assumption:diminishing",
        "the small model is the better value": (
            "claim:basic-is-as-good claim:basic-is-cheaper claim:basic-trains-faster assumption:practically-the-same"
        ),
        "half as computationally expensive": "claim:basic-computes-half claim:basic-trains-in-half assumption:half",
        "real-world uses": "omitted:uses",
        "future work": "omitted:future-work",
    },
}

# Every figure of the reports, by the study and the claim that hold it; what is claimed of several readings stands here once.
FIGURES: dict[str, str] = {
    "custom-cnn": """
        l2-0-01-training-accuracy 0.9590
        l2-0-01-training-loss 0.2225
        l2-0-01-validation-accuracy 0.9072
        l2-0-01-validation-loss 0.3764
        l2-0-1-training-accuracy 0.8888
        l2-0-1-training-loss 0.4234
        l2-0-1-validation-accuracy 0.8840
        l2-0-1-validation-loss 0.4489
        deeper-16-training-accuracy 0.9013
        deeper-16-training-loss 0.2887
        deeper-16-validation-accuracy 0.9040
        deeper-16-validation-loss 0.2971
        final-training-accuracy 0.9113
        final-training-loss 0.2512
        final-validation-accuracy 0.9115
        final-validation-loss 0.2749
        final-test-accuracy 0.90
        final-at-0-0006-training-accuracy 0.9113
        final-at-0-0006-training-loss 0.2512
        final-at-0-0006-validation-accuracy 0.9115
        final-at-0-0006-validation-loss 0.2749
        final-at-0-0006-test-accuracy 0.90
        search-best 0.8619
        stopped-on-loss-training-accuracy 0.8535
        stopped-on-loss-training-loss 0.4039
        stopped-on-loss-validation-accuracy 0.8593
        stopped-on-loss-validation-loss 0.4217
        stopped-on-accuracy-training-accuracy 0.8697
        stopped-on-accuracy-training-loss 0.3641
        stopped-on-accuracy-validation-accuracy 0.8591
        stopped-on-accuracy-validation-loss 0.4805
        lenet5 0.86
        alexnet 0.89
        resnet 0.88
        lenet5-elsewhere 88%
        alexnet-elsewhere 92%
        resnet-elsewhere 93%""",
    "three-block-cnn": """
        accuracy 99.43%
        validation 99.4%
        t-shirts-right 97.7%
        zeros-right 99.7%
        trousers-right 99.7%
        ones-right 99.7%
        mlp-on-clothes 87.1%
        mlp-on-digits 97.2%
        forest-on-clothes 87.3%
        forest-on-digits 97%
        lenet5 98%
        residual 92.4%
        c2 93.11%""",
    "cnn-vs-svm": """
        cnn-validation-accuracy 91.98%
        cnn-training-accuracy 91.98%
        cnn-test-accuracy 91.98%
        cnn-of-three-validation-accuracy 91.98%
        cnn-of-three-test-accuracy 91.98%
        one-layer 92.7%
        svm-radial 86%
        svm-linear 86%""",
    "lenet-ablation": """
        best-training-accuracy 0.93868
        best-validation-accuracy 0.91822
        best-test-accuracy 0.90944
        best-at-step-6-training-loss 0.2434
        best-at-step-6-validation-loss 0.2915
        worst-training-accuracy 0.78103
        worst-validation-accuracy 0.79422
        worst-test-accuracy 0.77546""",
    "shallow-vs-deep": """
        basic-parameters 54k
        standard-parameters 121k
        basic-accuracy 90.30%
        standard-accuracy 90.69%
        basic-first-loss 0.34
        standard-first-loss 0.34""",
}

ROOT = Path(fittingroom.__file__).parent.parent
DOCS, RECORDS = ROOT / "docs", ROOT / "records" / "studies"

# Cells times seeds; a recipe that two runs share is trained once.
RUNS = {
    "cnn-vs-svm": "cnn 9 svm 6 optimisers 9 search-filters 9 search-size 6 search-rate 9 search-dropout 9 search-batch 12 search-found 3",
    "custom-cnn": """baseline 6 l2 12 deeper 18 search 144 search-best 6 search-found 6 early-stopping 24 lenet5 6 alexnet 2 resnet 2
        optimisers 18 rates 24 clipping 12 normalisations 12""",
    "lenet-ablation": "factorial 216 sgd-rates 18",
    "shallow-vs-deep": "basic 6 standard 6",
    "three-block-cnn": "three-block 6 without-augmentation 3 plain 3 residual 3 lenet5 6 mlp 6 forests 18 classical 24",
}

every_study = pytest.mark.parametrize("name", CHECKLIST)


@cache
def study(name: str) -> Study:
    """The study as if each of its searches had found what it began with."""
    loaded = load(name)
    nothing = {"params": {}, "trials": 1, "given_up": 0, "metric": "validation.accuracy", "best": 0.9, "scores": {"1": 0.9}}
    found = {one.key: Found(recipe=one.space.recipe({}).recipe.values, **nothing) for one in searches(loaded)}
    return loaded.model_copy(update={"found": found})


@cache
def written(name: str) -> dict[str, Any]:
    """The study as its file has it, nothing written out."""
    return tomllib.loads(shipped()[name].read_text(encoding="utf-8"))


def carriers(name: str) -> Iterator[tuple[str, str]]:
    for line in CHECKLIST[name].values():
        for carrier in line.split():
            kind, _, what = carrier.partition(":")
            yield kind, what


def there(name: str) -> dict[str, set[str]]:
    values = written(name)
    return {
        "run": set(values["runs"]),
        "claim": {claim["id"] for claim in values["claims"]},
        "assumption": set(values["assumptions"]),
        "factor": set(values.get("factors", {})),
        "reading": set(values.get("readings", {})),
        "protocol": set(values["protocol"]),
        "omitted": set(values.get("omitted", {})),
    }


def test_the_five_studies_are_shipped() -> None:
    assert set(shipped()) == set(CHECKLIST) == set(RUNS) == set(FIGURES)


@every_study
def test_nothing_of_the_report_is_missing(name: str) -> None:
    known = there(name)
    assert [(kind, what) for kind, what in carriers(name) if what not in known[kind]] == []


@every_study
def test_nothing_is_there_unasked(name: str) -> None:
    listed = set(carriers(name))
    for kind, names in there(name).items():
        if kind != "factor":  # what a factor is for, the runs say
            assert {what for what in names if (kind, what) not in listed} == set(), kind


@every_study
def test_every_assumption_is_made_somewhere(name: str) -> None:
    loaded = study(name)
    made = {one for table in (*loaded.runs.values(), *loaded.claims) for one in table.assumes}
    assert set(loaded.assumptions) == made


@every_study
def test_every_figure_is_claimed_where_it_belongs(name: str) -> None:
    claimed = {
        (claim.id.removesuffix("".join(f"-{value}" for value in claim.reading.values())), claim.claimed.replace(" ", ""))
        for claim in study(name).claims
        if isinstance(claim, Number | Count)
    }
    assert claimed == {tuple(line.split()) for line in FIGURES[name].strip().splitlines()}


@every_study
def test_run_counts(name: str) -> None:
    loaded = study(name)
    counts = {run: sum(len(seeds_of(loaded, run, cell)) for cell in cells(loaded, run)) for run in loaded.runs}
    assert " ".join(f"{run} {count}" for run, count in counts.items()) == " ".join(RUNS[name].split())


@every_study
def test_models_take_what_they_are_given(name: str) -> None:
    check_models(study(name))


@every_study
def test_every_factor_is_used(name: str) -> None:
    loaded = study(name)
    assert set(loaded.factors) == {factor for runs in loaded.runs.values() for factor in runs.grid}


@every_study
def test_every_claim_about_runs_means_some(name: str) -> None:
    loaded = study(name)
    assert all(selected(loaded, selection) for claim in loaded.claims for selection in selections_of(claim))


@every_study
def test_no_order_is_of_a_metric_that_is_better_when_lower(name: str) -> None:
    assert all(metric_of(claim.metric).higher_is_better for claim in study(name).claims if isinstance(claim, Order))


@every_study
def test_orders_can_be_paired(name: str) -> None:
    """Above and below share a seed, or there is nothing to pair."""
    loaded = study(name)
    for claim in loaded.claims:
        if isinstance(claim, Order):
            above = {seed for run, cell in selected(loaded, claim.above) for seed in seeds_of(loaded, run, cell)}
            for below in claim.below:
                assert above & {seed for run, cell in selected(loaded, below) for seed in seeds_of(loaded, run, cell)}, claim.id


# No claim is decided by its wording: each can come out either way.

# The least and the largest value of a metric, by its unit; of epochs, the largest is what the runs train.
REACH = {"share": (0.0, 1.0), "nats": (0.0, 5.0), "s": (1.0, 1000.0), "images": (0.0, 1000.0)}


def reach_of(loaded: Study, claim: Any) -> tuple[float, float]:
    if claim.metric == "gap":
        return -1.0, 1.0
    if claim.metric.startswith("confusion-rank"):
        return 1.0, 45.0
    unit = metric_of(claim.metric).unit
    if unit in ("epoch", "epochs"):
        cells_of = [run for selection in selections_of(claim) for run in selected(loaded, selection)]
        return 1.0, min(recipe_of(loaded, run, cell, 0).recipe.train.epochs for run, cell in cells_of)
    return REACH.get(unit, (1e4, 1e7))


def made_up(loaded: Study, run: str, cell: Any, seed: int, value: float) -> Result:
    """A run of which nothing is known but its model, its epochs and the value of one metric."""
    planned = recipe_of(loaded, run, cell, seed).recipe
    known = {"model": {"name": planned.model.name}, "train": {"epochs": planned.train.epochs}}
    recipe = {"run": run, "cell": dict(cell), "seed": seed, **known}
    return Result(loaded.name, run, cell, seed, recipe, [{"value": value}], {}, {}, {}, "made up")


def is_network(loaded: Study, run: str, cell: Any) -> bool:
    return models.entry(recipe_of(loaded, run, cell, 0).recipe.model.name).kind == "network"


def verdict_where(loaded: Study, claim: Any, first: float, others: float) -> str:
    """The verdict on a claim where the seeds of the first of its groups have one value, or nearly, and those of the others another."""
    results: dict[object, Result] = {}
    for number, selection in enumerate(selections_of(claim)):
        for run, cell in selected(loaded, selection):
            for seed in seeds_of(loaded, run, cell):
                results.setdefault((run, str(cell), seed), made_up(loaded, run, cell, seed, (others if number else first) + 1e-6 * seed))
    # What one seed says is judged by the spread of other networks, of which there are some in every study.
    several = ((run, cell) for run in loaded.runs for cell in cells(loaded, run) if len(seeds_of(loaded, run, cell)) > 1)
    run, cell = next((run, cell) for run, cell in several if is_network(loaded, run, cell))
    for seed in seeds_of(loaded, run, cell):
        results.setdefault((run, str(cell), seed), made_up(loaded, run, cell, seed, others + 1e-6 * seed))
    (found,) = judge(loaded.model_copy(update={"claims": [claim]}), list(results.values()))
    return found.verdict


@every_study
def test_every_claim_can_be_supported_and_refuted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "measure", lambda result, metric: result.history[0]["value"])
    loaded = study(name)
    for claim in loaded.claims:
        # Of several readings one will do: they differ in their runs alone.
        one_of_many = any(value != loaded.readings[factor][0] for factor, value in claim.reading.items())
        if one_of_many or not isinstance(claim, Number | Count | Order | Shape):
            continue
        low, high = reach_of(loaded, claim)
        stated = [parse_claimed(claim.claimed).value] if isinstance(claim, Number | Count) else getattr(claim, "claimed", [])
        amid = [sum(stated) / len(stated)] if stated else []
        outcomes = [(high, low), (low, high)] if len(selections_of(claim)) > 1 else [(value, low) for value in (*stated, *amid, low, high)]
        found = {verdict_where(loaded, claim, first, others) for first, others in outcomes}
        assert found & {"supported", "reproduced"}, (claim.id, found)
        assert found & {"not supported", "higher than claimed", "lower than claimed"}, (claim.id, found)


# What must be run in more than one way.


def test_every_experiment_of_custom_cnn_is_run_in_both_readings() -> None:
    loaded = study("custom-cnn")
    for run in loaded.runs:
        found: dict[tuple[object, ...], set[str]] = {}
        for cell in cells(loaded, run):
            others = tuple(value for factor, value in cell.items() if factor != "normalise")
            found.setdefault(others, set()).add(recipe_of(loaded, run, cell, 0).recipe.data.normalise.kind)
        assert all({"raw-mean-std", "given"} <= kinds for kinds in found.values()), run


def test_the_two_readings_differ_in_nothing_else() -> None:
    loaded = study("custom-cnn")
    for run in loaded.runs:
        first, second = (
            recipe_of(loaded, run, cell, 0).recipe.values for cell in cells(loaded, run) if _first_of_all_but_reading(loaded, run, cell)
        )
        assert first["data"].pop("normalise") == "raw-mean-std"
        assert second["data"].pop("normalise") == {"mean": [0.2860], "std": [0.3530]}
        assert first == second


def _first_of_all_but_reading(loaded: Study, run: str, cell: dict[str, Any]) -> bool:
    grid = loaded.runs[run].grid
    return cell["normalise"] in ("as-written", "as-intended") and all(
        cell[factor] == values[0] for factor, values in grid.items() if factor != "normalise"
    )


def test_the_network_of_three_blocks_is_run_on_clothes_and_digits() -> None:
    loaded = study("three-block-cnn")
    for run in ("three-block", "mlp", "forests", "classical", "lenet5"):
        assert {recipe_of(loaded, run, cell, 0).recipe.data.name for cell in cells(loaded, run)} == {"fashion-mnist", "mnist"}
    named = {recipe_of(loaded, run, cell, 0).recipe.model.name for run in loaded.runs for cell in cells(loaded, run)}
    baselines = {"decision-tree", "extra-trees", "gaussian-nb", "svc-rbf", "svc-linear", "logistic-regression", "random-forest", "mlp"}
    assert baselines <= named <= set(models.names())


def test_shallow_vs_deep_validates_on_test_images_and_properly() -> None:
    loaded = study("shallow-vs-deep")
    for run in loaded.runs:
        assert [recipe_of(loaded, run, cell, 0).recipe.data.validation for cell in cells(loaded, run)] == ["test", 0.2]


def test_the_factorial_is_whole_with_three_seeds() -> None:
    loaded = study("lenet-ablation")
    factorial = cells(loaded, "factorial")
    assert len(factorial) == 3 * 2 * 3 * 2 * 2
    assert len({recipe_of(loaded, "factorial", cell, 0).recipe.hash for cell in factorial}) == 72
    assert all(seeds_of(loaded, "factorial", cell) == [0, 1, 2] for cell in factorial)


def test_a_mean_over_batches_of_32_can_be_the_accuracies_that_no_count_gives() -> None:
    """312 whole batches and one of sixteen, whose images count twice: a mean over 313 batches is a number of 10,016ths."""
    for claimed in (0.90944, 0.77546):
        assert not any(round(right / 10_000, 5) == claimed for right in range(10_001))
        assert any(round(right / 10_016, 5) == claimed for right in range(10_017))


def test_only_sigmoid_ends_below_82_percent() -> None:
    loaded = study("lenet-ablation")
    results = [one for one in read_results(RECORDS / "lenet-ablation", loaded, print) if one.run == "factorial"]
    assert {one.cell["activation"] for one in results if one.evaluation["test"]["accuracy"] < 0.82} == {"sigmoid"}


def test_parameters_are_those_of_the_models() -> None:
    loaded = study("shallow-vs-deep")
    for claim in loaded.claims:
        if isinstance(claim, Count):
            ((run, cell), *_) = selected(loaded, claim.of)
            parameters = models.describe(recipe_of(loaded, run, cell, 0).recipe.model.name).parameters
            assert parameters == {"54k": 54_410, "121k": 121_930}[claim.claimed]
            claimed = parse_claimed(claim.claimed)
            assert parameters is not None
            assert abs(parameters - claimed.value) < 2 * claimed.resolution  # the report cut the last digits off


# The tables.


@pytest.mark.parametrize(
    ("name", "claim", "report", "fails"),
    [
        ("custom-cnn", "table-custom", FASHION["custom"], set()),
        ("custom-cnn", "table-alexnet", FASHION["alexnet"], set()),
        ("custom-cnn", "table-lenet5", FASHION["lenet"], set()),
        ("custom-cnn", "table-resnet", FASHION["resnet"], set()),
        (
            "three-block-cnn",
            "table",
            DIGITS.replace("8\t1.00\t0.99\t0.99", "8\t1.00\t0.99\t1.00"),
            {"supports", "quoted accuracy against table"},
        ),
    ],
)
def test_published_tables_stand_in_the_studies(name: str, claim: str, report: str, fails: set[str]) -> None:
    found = next(one for one in study(name).claims if one.id == claim)
    assert isinstance(found, Consistency)
    assert found.table is not None
    (table,), (original,) = read_tables(found.table), read_tables(report)
    assert isinstance(table, ReportTable)
    assert isinstance(original, ReportTable)
    assert _figures(table) == _figures(original)
    audit = audit_table(table, found.data, [parse_figure(figure) for figure in found.accuracy])
    assert {finding.check for finding in audit.findings if finding.verdict == "fails"} == fails


def _figures(table: Any) -> list[object]:
    rows = [*table.classes, *table.averages.values()]
    return [
        table.accuracy.text,
        *((row.name, row.support, {column: figure.text for column, figure in row.figures.items()}) for row in rows),
    ]


@pytest.mark.slow
def test_the_five_studies_are_planned_and_judged_from_their_records_in_ten_seconds() -> None:
    began = time.process_time()
    for name in shipped():
        loaded = load(name)
        plan(loaded)
        judge(loaded, read_results(RECORDS / name, loaded))
    assert time.process_time() - began < 10


# The page about studies, and the sixth.

with_docs = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is not installed with the package")


@with_docs
def test_a_sixth_report_is_one_file() -> None:
    sixth = load(DOCS / "examples" / "sixth-report.toml")
    check_models(sixth)
    assert {claim.kind for claim in sixth.claims} == set(KINDS)
    assert sum(len(seeds_of(sixth, run, cell)) for run in sixth.runs for cell in cells(sixth, run)) == 15
    assert {recipe_of(sixth, run, cell, 0).recipe.data.name for run in sixth.runs for cell in cells(sixth, run)} == {"digits"}
    perceptron = next(claim for claim in sixth.claims if isinstance(claim, Count))
    assert models.describe("mlp", (1, 8, 8)).parameters == pytest.approx(parse_claimed(perceptron.claimed).value, abs=500)


@with_docs
def test_the_page_shows_the_sixth_report_as_it_is() -> None:
    page, sixth = ((DOCS / name).read_text(encoding="utf-8") for name in ("studies.md", "examples/sixth-report.toml"))
    shown = re.findall(r"^```TOML\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert [block for block in shown if block not in sixth] == []
    # Every line of it is shown, but for the remark at its head.
    assert "".join(shown).replace("\n", "") == sixth.partition("\n")[2].replace("\n", "")


@with_docs
def test_the_page_has_every_metric_verdict_and_study() -> None:
    page = (DOCS / "studies.md").read_text(encoding="utf-8")
    better = {True: "higher", False: "lower", None: ""}
    rows = [
        f"| `{name.replace('|', chr(92) + '|')}` | {metric.description} | {metric.unit} | {better[metric.higher_is_better]} |"
        for name, metric in METRICS.items()
    ]
    assert "\n".join(["| metric | what it is | unit | better |", "| --- | --- | --- | --- |", *rows]) in page
    assert [verdict for verdict in VERDICTS if f"\n| {verdict} |" not in page] == []
    assert [kind for kind in KINDS if f"**{kind}**" not in page] == []
    assert [name for name in shipped() if load(name).readings and f"`{name}`" not in page] == []
