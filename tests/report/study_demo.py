"""Made-up results of studies that look like real ones, for the tests and for eyes: ``python -m tests.report.study_demo FOLDER``."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fittingroom.report.study_page import StudyView, render
from fittingroom.study.file import load
from fittingroom.study.grid import cells, recipe_of, seeds_of
from fittingroom.study.results import Result
from fittingroom.study.schema import Study
from fittingroom.study.verdict import VERDICTS, Verdict, judge
from tests.report.demo import CLOTHES, evaluation

TABLE = """              precision  recall  f1-score  support
0  0.99  1.00  0.99   980
1  1.00  1.00  1.00  1135
2  0.99  0.99  0.99  1032
3  0.99  1.00  0.99  1010
4  1.00  0.99  0.99   982
5  0.99  0.99  0.99   892
6  1.00  0.99  0.99   958
7  0.99  0.99  0.99  1028
8  0.99  0.99  0.99   974
9  0.99  0.99  0.99  1009
accuracy  0.99  10000
"""
RECORDS = Path(__file__).parents[2] / "records" / "protocols"


def record(name: str, run: str, seed: int, cell: dict[str, Any] | None = None) -> Result:
    """A committed run of one seed as if it were a study's; other seeds than 0 differ a little."""
    kept = copy.deepcopy(json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8")))
    generator = np.random.default_rng([seed, len(name)])
    for line in kept["history"] if seed else []:
        for part in ("train", "validation"):
            if "accuracy" in line.get(part, {}):
                shift = generator.normal(0, 0.004)
                line[part]["accuracy"] = min(1.0, line[part]["accuracy"] + shift)
                line[part]["loss"] = max(0.0, line[part]["loss"] * (1 - 3 * shift))
    for part in kept["evaluation"].values() if seed else []:
        part["accuracy"] = round(part["accuracy"] + generator.normal(0, 0.002), 4)
    return Result("demo", run, cell or {}, seed, kept["recipe"], kept["history"], kept["evaluation"], {}, kept["environment"], "c0ffee12")


def shallow_study() -> Study:
    return Study.model_validate(
        {
            "name": "shallow-vs-deep",
            "title": "Shallow against deep networks on Fashion-MNIST",
            "source": "004.pdf",
            "about": "Two convolutional networks, one of one convolutional layer and one of two, are trained for 8 epochs.",
            "protocol": {"optimiser": "Adam with defaults", "batch size": "not stated", "validation": "the 10,000 test images"},
            "base": "lenet5",
            "assumptions": {
                "batch-size": "Not stated; 32, the default of the framework that the report used.",
                "svm-kernel": "Not stated; both the radial and the linear kernel are run.",
            },
            "runs": {
                "basic": {"base": "basic", "about": "one convolutional layer of 32 filters", "assumes": ["batch-size"]},
                "standard": {"base": "standard", "about": "two convolutional layers of 32 and 64 filters", "assumes": ["batch-size"]},
                "three-block": {"base": "three-block", "about": "three blocks with batch normalisation and dropout"},
                "deep": {"base": "custom-cnn", "about": "a deeper network"},
                "lenet5": {"about": "LeNet-5"},
                "svc-rbf": {"base": "svc", "about": "support vector machine", "seeds": [0], "assumes": ["svm-kernel"]},
                "random-forest": {"base": "random-forest", "seeds": [0]},
                "logistic-regression": {"base": "logistic-regression", "seeds": [0]},
            },
            "claims": [
                number("standard-test", "standard", "The standard network reaches 90.69 %.", "test.accuracy", "90.69 %"),
                number("basic-test", "basic", "The basic network reaches 90.30 %.", "test.accuracy", "90.30 %"),
                number("deep-train", "deep", "The deeper network ends at a training accuracy of 0.959.", "train.accuracy@last", "0.9590"),
                number("deep-validation", "deep", "Its validation accuracy ends at 0.9072.", "validation.accuracy@last", "0.9072"),
                number("deep-loss", "deep", "Its validation loss ends at 0.3764.", "validation.loss@last", "0.3764"),
                {
                    "id": "standard-beats-basic",
                    "kind": "order",
                    "text": "At 8 epochs the standard network beats the basic one.",
                    "source": "results, table 2",
                    "metric": "test.accuracy",
                    "above": {"run": "standard"},
                    "below": [{"run": "basic"}],
                },
                {
                    "id": "gap-opens",
                    "kind": "shape",
                    "text": "A gap between training and validation opens after epoch 3.",
                    "source": "figure 3",
                    "of": {"run": "standard"},
                    "metric": "gap_opens",
                    "relation": "between",
                    "claimed": [3, 5],
                },
                {
                    "id": "smoother",
                    "kind": "shape",
                    "text": "Its loss curves are smoother than those of the deeper network.",
                    "source": "figure 4",
                    "of": {"run": "standard"},
                    "than": [{"run": "deep"}],
                    "metric": "erraticness.loss",
                    "relation": "less",
                },
                {
                    "id": "parameters",
                    "kind": "count",
                    "text": "The basic network has 54k parameters.",
                    "source": "table 1",
                    "of": {"run": "basic"},
                    "metric": "parameters",
                    "claimed": "54k",
                },
                {
                    "id": "table-is-mnist",
                    "kind": "consistency",
                    "text": "The table of results is of Fashion-MNIST.",
                    "source": "table 4",
                    "table": TABLE,
                    "accuracy": ["99.43 %"],
                    "data": "fashion-mnist",
                },
                {
                    "id": "human-like",
                    "kind": "not testable",
                    "text": "People would find the mistakes understandable.",
                    "source": "discussion",
                    "because": "nobody was asked",
                },
            ],
            "omitted": {"transfer learning": "named as future work; nothing was measured"},
        }
    )


def number(identity: str, run: str, text: str, metric: str, claimed: str) -> dict[str, Any]:
    return {
        "id": identity,
        "kind": "number",
        "text": text,
        "source": "results, table 2",
        "of": {"run": run},
        "metric": metric,
        "claimed": claimed,
        "assumes": ["batch-size"],
    }


KEPT = {
    "basic": "basic",
    "standard": "standard",
    "three-block": "three-block",
    "deep": "custom-cnn-deep",
    "lenet5": "lenet5",
    "svc-rbf": "svc-rbf",
    "random-forest": "random-forest",
    "logistic-regression": "logistic-regression",
}


def shallow() -> StudyView:
    study = shallow_study()
    return judged(study, [record(KEPT[run], run, seed) for run in study.runs for seed in seeds_of(study, run, {})])


def judged(study: Study, results: list[Result]) -> StudyView:
    return StudyView(study.name, study, results, judge(study, results))


FACTORS = {
    "activation": ["tanh", "sigmoid", "relu"],
    "pooling": ["average", "max"],
    "optimiser": ["sgd", "adam", "rmsprop"],
    "dropout": [0.0, 0.5],
    "augmentation": ["without", "with"],
}


def factorial(seeds: int = 2, epochs: int = 10) -> StudyView:
    """All 72 cells of a factorial of made-up effects: the optimiser matters, most of all with a sigmoid."""
    study = Study.model_validate(
        {
            "name": "lenet-ablation",
            "title": "Training a CNN on the Fashion-MNIST dataset",
            "source": "003.pdf",
            "base": "lenet5",
            "seeds": list(range(seeds)),
            "factors": {
                "activation": "model.activation",
                "pooling": "model.pooling",
                "optimiser": "optim.name",
                "dropout": "model.dropout",
                "augmentation": {"without": {}, "with": {"augment.rotate": 10}},
            },
            "runs": {"factorial": {"about": "all combinations", "grid": FACTORS}},
            "claims": [
                {
                    "id": "relu-beats-tanh",
                    "kind": "order",
                    "text": "ReLU beats tanh.",
                    "source": "experiment 1",
                    "metric": "test.accuracy",
                    "above": {"run": "factorial", "where": {"activation": "relu"}},
                    "below": [{"run": "factorial", "where": {"activation": "tanh"}}],
                },
                {
                    **number("best", "factorial", "The best combination reaches 0.90944.", "test.accuracy", "0.90944"),
                    "assumes": [],
                    "of": {
                        "run": "factorial",
                        "where": {"activation": "relu", "pooling": "max", "optimiser": "sgd", "dropout": 0.0, "augmentation": "with"},
                    },
                },
            ],
        }
    )
    results = [made_up(study, cell, seed, epochs) for cell in cells(study, "factorial") for seed in seeds_of(study, "factorial", cell)]
    return judged(study, results)


def made_up(study: Study, cell: dict[str, Any], seed: int, epochs: int) -> Result:
    generator = np.random.default_rng([seed, *(FACTORS[factor].index(level) for factor, level in cell.items())])
    goal = 0.87 + {"tanh": 0.0, "sigmoid": -0.015, "relu": 0.01}[cell["activation"]] + 0.004 * (cell["pooling"] == "max")
    goal -= (0.03 + 0.25 * (cell["activation"] == "sigmoid")) * (cell["optimiser"] == "sgd") + 0.02 * cell["dropout"]
    goal += float(generator.normal(0, 0.002))
    way = 1 - np.exp(-np.arange(1, epochs + 1) / (6.0 if cell["optimiser"] == "sgd" else 2.0))
    seconds = 3 + 2 * (cell["augmentation"] == "with")
    history = [
        {
            "epoch": epoch + 1,
            "train": {"accuracy": 0.1 + (goal - 0.08) * part, "loss": 2.3 - 2.0 * part * goal, "seconds": seconds},
            "validation": {"accuracy": 0.1 + (goal - 0.1) * part + generator.normal(0, 0.003), "loss": 2.3 - 1.95 * part * goal},
        }
        for epoch, part in enumerate(way.tolist())
    ]
    recipe = {"model": {"name": "lenet5", **cell}, "data": {"name": "fashion-mnist"}, "train": {"epochs": epochs, "stop": None}}
    environment = {"python": "3.11.9", "device": "cpu", "threads": 1, "model": {"parameters": 61_706, "multiply_adds": 416_520}}
    evaluation = {"test": {**EVALUATION, "accuracy": goal}}
    return Result(study.name, "factorial", cell, seed, recipe, history, evaluation, {}, environment, "c0ffee12")


EVALUATION = evaluation(10_000, CLOTHES, 1).to_json()


def nothing_run() -> StudyView:
    return judged(shallow_study(), [])


def reduced() -> StudyView:
    """Some of the runs, of two epochs in place of eight, one of them twice, the second time on another machine with other code."""
    results = [result for result in shallow().results if result.seed == 0][:5]
    short = [replace(result, reduced=("epochs 2 of 8",), history=result.history[:2]) for result in results]
    short.append(replace(short[0], seed=1, environment={**short[0].environment, "threads": 2}, code="deadbeef"))
    return judged(shallow_study(), short)


def hostile() -> StudyView:
    """Markup wherever a text can come from outside."""
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
    view = shallow()
    claims = [claim.model_copy(update={"text": evil, "source": evil}) for claim in view.study.claims]
    study = view.study.model_copy(
        update={
            "title": evil,
            "source": evil,
            "about": evil,
            "claims": claims,
            "assumptions": {evil: evil, "batch-size": evil},
            "protocol": {evil: evil},
            "omitted": {evil: evil},
            "runs": {name: runs.model_copy(update={"about": evil}) for name, runs in view.study.runs.items()},
        }
    )
    findings = [{"check": evil, "verdict": evil, "sentence": evil, "evidence": {"clash": [evil]}}]
    verdicts = [
        Verdict(claim, VERDICTS[index % len(VERDICTS)], evil, evil, (evil,), {"findings": findings} if index % 2 else verdict.evidence)
        for index, (claim, verdict) in enumerate(zip(claims, view.verdicts, strict=True))
    ]
    foreign = {evil: evil}
    results = [replace(result, reduced=(evil,), code=evil, environment={**result.environment, **foreign}) for result in view.results]
    for result in results[:3]:
        for part in result.evaluation.values():
            part["classes"] = [f"{evil}{label}" for label in range(10)]
    return StudyView(evil, study, results, verdicts)


def of_study(name: str) -> StudyView:
    """A shipped study, with a made-up result for every run that it plans."""
    study = load(name)
    made = []
    for index, (run, cell) in enumerate((name, cell) for name in study.runs for cell in cells(study, name)):
        data = recipe_of(study, run, cell, 0).recipe.data.name
        for seed in seeds_of(study, run, cell):
            one = record(list(KEPT.values())[index % 5], run, seed, cell)
            made.append(replace(one, study=name, recipe={**one.recipe, "data": {**one.recipe["data"], "name": data}}))
    return judged(study, made)


DEMOS: dict[str, Callable[[], StudyView]] = {
    "shallow": shallow,
    "factorial": factorial,
    "nothing-run": nothing_run,
    "reduced": reduced,
    "hostile": hostile,
}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, demo in DEMOS.items():
        page = render(demo())
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
        print(f"{name:12} {len(page.encode()) / 1000:8.1f} kB")
