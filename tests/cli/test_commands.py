"""Each command as scripts and people meet it: what ``--json`` prints is held to a schema, tables fit a terminal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from fittingroom import recipe
from fittingroom.cli import quickstart
from fittingroom.evaluate import Evaluation
from tests.cli.running import every_command, fittingroom, process, snapshot

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ListedModel(Schema):
    name: str
    parameters: Count | None
    multiply_adds: Count | None
    source: str
    summary: str
    assumptions: list[str]


class Argument(Schema):
    accepts: str
    default: Any
    description: str


class DescribedModel(ListedModel):
    arguments: dict[str, Argument]


class ListedSet(Schema):
    name: str
    found: str | None
    classes: Count
    source: str


class ImageSize(Schema):
    height: Count
    width: Count
    channels: Literal[1, 3]


class DescribedSet(Schema):
    name: str
    identity: str | None
    source: str
    classes: list[str]
    image: ImageSize
    train: Count
    validation: Count
    train_per_class: list[Count]
    train_sha256: Checksum
    notices: list[str]


class Fetched(Schema):
    name: str
    folder: str | None


class Value(Schema):
    key: str
    value: Any
    origin: str


class Interval(Schema):
    method: Literal["wilson"]
    confidence: Share
    low: Share
    high: Share


class Average(Schema):
    precision: Share
    recall: Share
    f1: Share


class ClassScore(Average):
    class_: Annotated[str, Field(alias="class")]
    support: Count


class Pair(Schema):
    true: str
    predicted: str
    count: Count
    share: Share


class Bin(Schema):
    lower: Share
    upper: Share
    count: Count
    confidence: Share
    accuracy: Share


class Calibration(Schema):
    expected_calibration_error: Share
    overconfidence: float
    brier: Annotated[float, Field(ge=0, le=2)]
    bins: list[Bin]


class Mistake(Schema):
    index: Count
    true: str
    predicted: str
    probability: Share


class Judged(Schema):
    accuracy: Share
    interval: Interval
    loss: float
    count: Count
    correct: Count
    errors: Count
    macro: Average
    weighted: Average
    classes: list[str]
    per_class: list[ClassScore]
    confusion: list[list[Count]]
    confused_pairs: list[Pair]
    calibration: Calibration
    mistakes: list[Mistake]


class Opening(Schema):
    time: str
    reason: str
    images: str


class Evaluated(Schema):
    validation: Judged
    test: Judged | None = None
    openings: list[Opening] = []


class TrainFigures(Schema):
    loss: float
    accuracy: Share
    seconds: float
    images_per_second: float
    measured_on: Count | None = None


class ValidationFigures(Schema):
    loss: float
    accuracy: Share


class Epoch(Schema):
    epoch: Annotated[int, Field(ge=1)]
    train: TrainFigures
    validation: ValidationFigures
    lr: float | None = None
    best_epoch: int = 0


class Trained(Schema):
    run: str
    state: Literal["finished"]
    epochs: Count
    train: TrainFigures
    validation: Judged


class ListedRun(Schema):
    run: str
    path: str
    model: str
    seed: Count
    state: Literal["created", "running", "finished", "stopped", "failed"]
    reason: str
    epochs: Count
    validation: Share | None
    test: Share | None


class ShownRun(ListedRun):
    recipe: dict[str, Any]
    history: list[Epoch]
    evaluation: Evaluated
    environment: dict[str, Any]


class Reported(Schema):
    run: str
    report: str


class NamedClass(Schema):
    name: str
    probability: Share


class Prediction(Schema):
    image: str
    classes: list[NamedClass]


class QuickStarted(Schema):
    run: str
    seconds: float
    test: Judged
    report: str


def held(kind: Any, *arguments: object) -> Any:
    """Run a command with ``--json``; stdout is one value of ``kind``."""
    done = fittingroom(*arguments, "--json")
    assert done.code == 0, done.err
    return TypeAdapter(kind).validate_json(done.out, strict=True)


def lines(*arguments: object) -> list[str]:
    done = fittingroom(*arguments)
    assert done.code == 0, done.err
    return done.out.splitlines()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    from PIL import Image

    path = tmp_path / "boot.png"
    Image.new("RGB", (40, 30), (200, 180, 160)).save(path)
    return path


def test_models() -> None:
    listed = held(list[ListedModel], "models")
    by_name = {model.name: model for model in listed}
    assert by_name["lenet5"].parameters == 61_706
    assert by_name["svc-rbf"].parameters is None
    table = lines("models")
    assert [line.split()[0] for line in table[1:]] == [model.name for model in listed]
    assert max(map(len, table)) <= 80
    assert all(line == line.rstrip() for line in table)


def test_one_model() -> None:
    described = held(DescribedModel, "models", "lenet5")
    assert "Gradient-based learning" in described.source
    assert described.arguments["pooling"].accepts == "one of max, average"
    shown = "\n".join(lines("models", "lenet5"))
    assert all(part in shown for part in ("61,706", "416,520", "--set model.pooling=average", described.source))
    assert held(DescribedModel, "models", "knn").parameters is None


def test_data_list(made_set: Path, own_home: Path) -> None:
    assert {entry.name: entry.found is not None for entry in held(list[ListedSet], "data", "list")} == {
        "fashion-mnist": False,
        "mnist": False,
        "kmnist": False,
        "emnist-letters": False,
        "digits": True,
    }
    table = lines("data", "list")
    assert "not here; get it: fittingroom data fetch kmnist" in table[3]
    assert max(map(len, table)) <= 80


def test_data_info(made_set: Path) -> None:
    described = held(DescribedSet, "data", "info", made_set)
    assert (described.train, described.train_per_class, described.image.height) == (500, [125] * 4, 12)
    assert held(DescribedSet, "data", "info", "digits").identity == "digits"
    table = lines("data", "info", "digits")
    assert table[:4] == ["name        digits", "identity    digits", "source      scikit-learn", "images      8 × 8, gray"]
    assert "class  train" in table


def test_data_fetch() -> None:
    assert held(Fetched, "data", "fetch", "digits") == Fetched(name="digits", folder=None)
    done = fittingroom("data", "fetch", "digits")
    assert (done.code, done.out, done.err) == (0, "", "digits comes with scikit-learn: nothing to fetch\n")


def test_train_shows_where_each_value_comes_from() -> None:
    values = held(list[Value], "train", "lenet5", "--show", "--epochs", 3, "--set", "optim.lr=0.5", "--data", "digits", "--seed", 7)
    by_key = {value.key: (value.value, value.origin) for value in values}
    assert by_key["optim.lr"] == (0.5, "command line")
    assert by_key["train.epochs"] == (3, "command line")
    assert by_key["data.name"] == ("digits", "command line")
    assert by_key["seed"] == (7, "command line")
    assert by_key["train.batch_size"] == (32, "recipe lenet5")
    assert by_key["augment.flip"] == (False, "default")
    table = lines("train", "lenet5", "--show")
    assert len(table) == 1 + len(values)
    assert max(map(len, table)) <= 80
    assert not Path("runs").exists()


@pytest.mark.parametrize(("chosen", "said"), [("avx1024", True), ("0", False)])
def test_a_training_without_kernels_says_why_unless_that_was_asked_for(made_set: Path, own_home: Path, chosen: str, said: bool) -> None:
    line = ("train", "mlp", "--data", made_set, "--epochs", 1, "--threads", 1, "--run-dir", own_home / "run")
    done = process(*line, environ={"FITTINGROOM_NATIVE": chosen}, cwd=own_home)
    assert done.code == 0, done.err
    words = "without our own kernels, so slower: FITTINGROOM_NATIVE is 'avx1024'; it can be 0, portable, avx2, avx512-bf16"
    assert (words in done.err) is said
    assert said or "slower" not in done.err


def test_train_and_what_follows(made_set: Path, picture: Path, own_home: Path) -> None:
    trained = held(Trained, "train", "mlp", "--data", made_set, "--epochs", 2, "--threads", 1, "--run-dir", "runs/mine")
    assert (trained.run, trained.epochs) == ("runs/mine", 2)
    assert trained.validation.count == 100
    assert held(Trained, "train", "--resume", "mine") == trained, "what is finished stays as it is"

    (listed,) = held(list[ListedRun], "runs", "list")
    assert (listed.run, listed.model, listed.state, listed.epochs, listed.test) == ("mine", "mlp", "finished", 2, None)
    assert lines("runs", "list")[0].split() == ["run", "state", "epochs", "validation", "test"]

    shown = held(ShownRun, "runs", "show", "last")
    assert recipe.load(shown.recipe).recipe.data.name == str(made_set)
    assert [epoch.epoch for epoch in shown.history] == [1, 2]
    assert [line for line in lines("runs", "show", "mine") if line.startswith("epoch 2/2")]

    assert held(Evaluated, "evaluate", "mine").openings == []
    opened = held(Evaluated, "evaluate", "mine", "--test")
    assert opened.test is not None
    assert (len(opened.openings), opened.openings[0].reason, opened.test.count) == (1, "evaluate --test", 100)
    assert held(ShownRun, "runs", "show", "mine").evaluation == opened

    assert held(Reported, "report", "mine") == Reported(run="runs/mine", report="runs/mine/report.html")
    assert lines("report", "mine") == ["runs/mine/report.html"]

    (named,) = held(list[Prediction], "predict", "mine", picture, "--top", 2)
    assert (named.image, len(named.classes)) == (str(picture), 2)
    assert named.classes[0].probability >= named.classes[1].probability
    assert len(held(list[Prediction], "predict", "mine", picture, "--top", 100)[0].classes) == 4
    assert lines("predict", "mine", picture, picture)[1].startswith(str(picture))


def test_metrics_and_evaluation_are_the_files_that_scripts_read(trained: Path) -> None:
    epochs = [Epoch.model_validate_json(line) for line in (trained / "network" / "metrics.jsonl").read_text().splitlines()]
    assert [epoch.epoch for epoch in epochs] == [1, 2]
    evaluated = Evaluated.model_validate_json((trained / "network" / "evaluation.json").read_text())
    assert evaluated.test is not None
    assert evaluated.test.accuracy == Evaluation.from_json(evaluated.test.model_dump(by_alias=True)).accuracy


def test_train_says_how_it_goes_and_ends_with_the_folder(made_set: Path) -> None:
    done = fittingroom("train", "mlp", "--data", made_set, "--epochs", 2, "--threads", 1)
    assert done.code == 0
    assert re.fullmatch(r"runs/\d{8}-\d{6}-mlp-[0-9a-f]{4}\n", done.out)
    told = done.err.splitlines()
    assert [line[:9] for line in told[:2]] == ["epoch 1/2", "epoch 2/2"]
    assert re.match(r"validation accuracy \d+\.\d\d% \(95 % interval ", told[2])
    assert told[3] == f"the test set stays sealed until: fittingroom evaluate {done.out.strip()} --test"
    assert fittingroom("train", "mlp", "--data", made_set, "--epochs", 1, "--threads", 1, "-q").err.count("\n") == 2


def test_a_classical_model_has_no_epochs(made_set: Path) -> None:
    done = fittingroom("train", "gaussian-nb", "--data", made_set)
    assert done.err.startswith("fitted  train ")
    assert any(line.startswith("fitted  train ") for line in lines("runs", "show", "last"))


def test_validating_on_the_test_set_is_said(made_set: Path) -> None:
    done = fittingroom("train", "gaussian-nb", "--data", made_set, "--set", "data.validation=test")
    assert done.code == 0
    assert "sealed" not in done.err
    assert 'data.validation = "test": these are the test images' in done.err


def test_a_run_without_validation(made_set: Path) -> None:
    done = fittingroom("train", "mlp", "--data", made_set, "--set", "data.validation=0", "--epochs", 1, "--threads", 1, "--run-dir", "all")
    assert done.code == 0
    before = snapshot(Path("all"))
    fittingroom("evaluate", "all").refused(2, "all has no validation images", "evaluate --test")
    assert snapshot(Path("all")) == before
    assert fittingroom("evaluate", "all", "--test").code == 0
    assert fittingroom("report", "all").code == 0
    assert "test accuracy" in fittingroom("runs", "show", "all").out


def test_evaluate_counts_the_openings(runs: Path) -> None:
    assert "opened 2 times" in fittingroom("evaluate", "network", "--test").err
    report = lines("evaluate", "network")
    assert report[0].split() == ["precision", "recall", "f1-score", "support"]
    assert report[-1].startswith("validation accuracy ")


def test_light_pictures_are_noticed(runs: Path, picture: Path) -> None:
    import json

    path = runs / "network" / "environment.json"
    environment = json.loads(path.read_text())
    environment["data"]["identity"] = "fashion-mnist"
    path.write_text(json.dumps(environment))
    assert "try --invert" in fittingroom("predict", "network", picture).err
    assert "try --invert" not in fittingroom("predict", "network", picture, "--invert").err


def test_quickstart_without_data(monkeypatch: pytest.MonkeyPatch, no_network: None) -> None:
    """Nothing on this machine, no network: digits, and loudly so."""
    done = fittingroom("quickstart", "--threads", 1, "--json")
    assert done.code == 0, done.err
    started = QuickStarted.model_validate_json(done.out)
    assert "NOTE: Fashion-MNIST cannot be had here" in done.err
    assert "its figures say nothing about clothes" in done.err
    assert started.test.count == 359
    assert Path(started.report).is_file()
    shown = held(ShownRun, "runs", "show", "last")
    assert [opening.reason for opening in shown.evaluation.openings] == ["quickstart, once at its end"]


@pytest.mark.parametrize(("hold", "epochs"), [(0.1, 0.1), (3, 3), (7.5, 7.5), (500, None)])
def test_quickstart_trains_as_many_epochs_as_its_minutes_hold(hold: float, epochs: float | None) -> None:
    loaded = recipe.load("compact")
    shortened = quickstart._shortened(loaded, hold)
    assert shortened.recipe.train.epochs == (epochs or loaded.recipe.train.epochs)
    assert shortened.origins["train.epochs"] == ("quickstart" if epochs else loaded.origins["train.epochs"])
    assert shortened.recipe.updated({"train.epochs": loaded.recipe.train.epochs}) == loaded.recipe


def test_version_and_help() -> None:
    assert re.fullmatch(r"fittingroom \d+\.\d+\.\d+.*\n", fittingroom("--version").out)
    for command in every_command():
        done = fittingroom(*command.split(), "--help")
        assert (done.code, done.err) == (0, "")
        assert "--json" in done.out, f"{command} has no --json"
    for command in ("", "data", "runs"):
        assert "Commands" in fittingroom(*command.split()).out


def test_a_folder_named_like_a_model_is_no_data(made_set: Path, own_home: Path) -> None:
    first = fittingroom("train", "mlp", "--data", made_set, "--epochs", 1, "--threads", 1, "--run-dir", "mlp", "-q")
    assert first.code == 0, first.err
    assert fittingroom("train", "mlp", "--data", made_set, "--epochs", 1, "--threads", 1, "-q").code == 0
