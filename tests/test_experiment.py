"""From recipe to evaluated run folder: what is in it, what the test set is spared, and what happens when parts are missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_arrays

from fittingroom import experiment, models, native, recipe, runs
from fittingroom.errors import DataError, DataMissing, FittingRoomError, RunError, UsageError
from fittingroom.evaluate import Evaluation
from fittingroom.experiment import Setting
from fittingroom.recipe import Loaded
from fittingroom.runs import Run
from tests.conftest import CLASSES, SIDE, made_set_of
from tests.data.made import npz_bytes, write_idx

# One checkpoint, at the end, however slow the machine is.
SETTING = Setting(device="cpu", threads=1, download=False, checkpoint_seconds=3600.0)


def loaded(data: Path | str, model: str = "mlp", **changes: Any) -> Loaded:
    settings = {"data.name": str(data), "train.epochs": 2, "optim.lr": 0.003, "train.precision": "fp32"}
    return recipe.load({"model": model}, {**settings, **changes})


@pytest.fixture(scope="module")
def finished(made_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run; copy it before changing it."""
    return experiment.train(loaded(made_set, **{"model.dropout": 0.2}), tmp_path_factory.mktemp("finished") / "run", setting=SETTING)


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(finished.path, tmp_path / "run")))


def test_the_folder_of_a_finished_run(finished: Run) -> None:
    names = {path.relative_to(finished.path).as_posix() for path in finished.path.rglob("*") if path.is_file()}
    assert names == {
        ".lock",
        "recipe.toml",
        "origins.json",
        "environment.json",
        "state.json",
        "metrics.jsonl",
        "weights.safetensors",
        "evaluation.json",
        "predictions/validation.safetensors",
        "checkpoints/epoch-000002.json",
        "checkpoints/epoch-000002.safetensors",
    }
    assert finished.state == "finished"
    assert [record["epoch"] for record in finished.history] == [1, 2]
    for record in finished.history:
        assert set(record["train"]) == {"loss", "accuracy", "seconds", "images_per_second"}
        assert set(record["validation"]) == {"loss", "accuracy"}


def test_the_environment_is_written_down(finished: Run, made_set: Path) -> None:
    environment = finished.environment
    assert environment["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (environment["device"], environment["threads"]) == ("cpu", 1)
    assert environment["precision"] == {"name": "fp32", "reason": "asked for"}
    assert environment["model"]["parameters"] == sum(
        tensor.size for tensor in load_arrays((finished.path / "weights.safetensors").read_bytes()).values()
    )
    data = environment["data"]
    assert data["input_shape"] == [1, SIDE, SIDE]
    assert (data["training_images"], data["validation_images"], data["validation_source"]) == (400, 100, "train")
    assert data["train_sha256"] == made_set_of(500, seed=1).checksum
    assert environment["kernels"] == native.description()
    assert finished.read("state.json", {})["memory_peak"] > 1e7


def test_normalisation_is_measured_on_what_is_learnt_from(made_set: Path, finished: Run) -> None:
    prepared = experiment.prepare(finished.recipe, SETTING)
    pixels = made_set_of(500, seed=1).pixels[prepared.training_indices] / 255
    assert prepared.scale == pytest.approx(1 / (255 * pixels.std()), rel=1e-6)
    assert prepared.offset == pytest.approx(-pixels.mean() / pixels.std(), rel=1e-6)
    together = np.sort(np.concatenate([prepared.training_indices, prepared.validation_indices]))
    assert np.array_equal(together, np.arange(500))


def test_the_evaluation_is_that_of_the_weights(finished: Run, made_set: Path) -> None:
    """By hand, from the folder's files alone."""
    settings, data = finished.recipe, finished.environment["data"]
    network = models.build(
        "mlp", input_shape=(1, SIDE, SIDE), classes=CLASSES, generator=torch.Generator(), arguments=settings.model.arguments
    )
    network.load_state_dict(finished.read_weights())
    network.eval()
    part = finished.read_predictions("validation")
    images = made_set_of(500, seed=1).take(part.indices)
    assert np.array_equal(images.labels, part.labels)
    with torch.no_grad():
        values = torch.from_numpy(images.pixels.astype(np.float32)[..., 0]) * data["scale"][0] + data["offset"][0]
        probabilities = network(values[:, None]).softmax(1).numpy()
    assert part.probabilities == pytest.approx(probabilities, abs=1e-5)
    accuracy = float((probabilities.argmax(1) == part.labels).mean())
    assert finished.evaluation["validation"]["accuracy"] == pytest.approx(accuracy)
    assert finished.history[-1]["validation"]["accuracy"] == pytest.approx(accuracy)
    assert finished.history[-1]["validation"]["loss"] == pytest.approx(finished.evaluation["validation"]["loss"], rel=1e-4)


def test_same_seed_same_bits_other_seed_other_bits(made_set: Path, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> bytes:
        changes = {"seed": seed, "model.dropout": 0.2, "augment.shift": 0.1}
        return (experiment.train(loaded(made_set, **changes), tmp_path / name, setting=SETTING).path / "weights.safetensors").read_bytes()

    assert weights("a", 0) == weights("b", 0)
    assert weights("a2", 0) != weights("c", 1)


def test_seeds_share_a_split_unless_told_otherwise(made_set: Path) -> None:
    def validation(**changes: Any) -> list[int]:
        found: list[int] = experiment.prepare(loaded(made_set, **changes).recipe, SETTING).validation_indices.tolist()
        return found

    assert validation(seed=0) == validation(seed=1)
    assert validation() != validation(**{"data.split_seed": 1})


def test_limit_takes_of_what_is_left_after_the_split(made_set: Path) -> None:
    whole, limited = (experiment.prepare(loaded(made_set, **changes).recipe, SETTING) for changes in ({}, {"data.limit": 40}))
    assert len(limited.training) == 40
    assert set(limited.training_indices) <= set(whole.training_indices)
    assert np.array_equal(limited.validation_indices, whole.validation_indices)
    assert np.bincount(limited.training.labels).tolist() == [10, 10, 10, 10]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A folder of IDX files whose test images are not to be read: whoever does gets an error."""
    folder = write_idx(tmp_path / "sealed", made_set_of(200, seed=1), made_set_of(50, seed=2), compressed=False)
    (folder / "t10k-images-idx3-ubyte").write_bytes(b"never to be opened")
    return folder


def test_the_test_set_stays_sealed(sealed: Path, tmp_path: Path) -> None:
    run = experiment.train(loaded(sealed), tmp_path / "run", setting=SETTING)
    assert run.state == "finished"
    assert "openings" not in run.evaluation
    experiment.evaluate(run, setting=SETTING)
    with pytest.raises(DataError):
        experiment.evaluate(run, test=True, setting=SETTING)
    assert "openings" not in run.evaluation, "it was not opened"


def test_every_opening_is_written_down(copied: Run) -> None:
    before = copied.evaluation["validation"]
    first = experiment.evaluate(copied, test=True, reason="to see", setting=SETTING)
    second = experiment.evaluate(copied, test=True, reason="again", setting=SETTING)
    assert [opening["reason"] for opening in second["openings"]] == ["to see", "again"]
    assert second["openings"][0] == first["openings"][0]
    assert copied.evaluation == second
    assert second["validation"] == before
    assert Evaluation.from_json(second["test"]).count == 100
    part = copied.read_predictions("test")
    assert np.array_equal(part.labels, made_set_of(100, seed=2).labels)
    assert second["test"]["accuracy"] == pytest.approx((part.probabilities.argmax(1) == part.labels).mean())


def test_validating_on_the_test_set_is_written_down_from_the_start(made_set: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    path = tmp_path / "run"
    setting = replace(SETTING, epoch_done=lambda record: seen.append(Run(path).evaluation.get("openings")))
    run = experiment.train(loaded(made_set, **{"data.validation": "test"}), path, setting=setting)
    assert [len(openings) for openings in seen] == [1, 1], "while it trains"
    assert run.environment["data"]["validation_source"] == "test"
    assert run.environment["data"]["training_images"] == 500
    (opening,) = run.evaluation["openings"]
    assert 'data.validation = "test"' in opening["reason"]
    assert np.array_equal(run.read_predictions("validation").labels, made_set_of(100, seed=2).labels)


def test_openings_outlive_a_resumption(made_set: Path, tmp_path: Path) -> None:
    """Killed after the weights were written, opened, and gone on with."""
    run = experiment.train(loaded(made_set), tmp_path / "run", setting=SETTING)
    run.set_state("stopped")
    experiment.evaluate(run, test=True, setting=SETTING)
    experiment.resume(run, SETTING)
    assert run.state == "finished"
    assert len(run.evaluation["openings"]) == 1
    assert "test" in run.evaluation


def test_a_finished_run_is_left_alone(copied: Run) -> None:
    before = {path: path.read_bytes() for path in copied.path.rglob("*") if path.is_file()}
    told: list[str] = []
    experiment.resume(copied, replace(SETTING, notify=told.append))
    assert told == [f"{copied.path} is finished already"]
    assert before == {path: path.read_bytes() for path in copied.path.rglob("*") if path.is_file()}


def test_without_validation(made_set: Path, tmp_path: Path) -> None:
    run = experiment.train(loaded(made_set, **{"data.validation": 0}), tmp_path / "run", setting=SETTING)
    assert run.environment["data"]["training_images"] == 500
    assert "validation" not in run.evaluation
    assert "validation" not in run.history[-1]
    with pytest.raises(UsageError, match=r"train\.stop watches validation\.loss"):
        experiment.train(loaded(made_set, **{"data.validation": 0, "train.stop": {}}), tmp_path / "other", setting=SETTING)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("model", ["decision-tree", "gaussian-nb"])
def test_classical_models_leave_the_same_folder(made_set: Path, tmp_path: Path, model: str) -> None:
    run = experiment.train(loaded(made_set, model), tmp_path / "run", setting=SETTING)
    (record,) = run.history
    assert record["epoch"] == 1
    assert record["validation"]["accuracy"] == pytest.approx(run.evaluation["validation"]["accuracy"])
    before = run.evaluation["validation"]
    run.set_state("stopped")
    experiment.resume(run, SETTING)
    assert len(run.history) == 1
    assert experiment.evaluate(run, test=True, setting=SETTING)["validation"] == before


def test_rgb_of_another_size(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = made_set_of(60, seed=0)
    colour = replace(images, pixels=generator.integers(0, 256, (60, 9, 14, 3), dtype=np.uint8))
    (tmp_path / "colour.npz").write_bytes(npz_bytes(colour))
    run = experiment.train(loaded(tmp_path / "colour.npz", "compact", **{"train.epochs": 1}), tmp_path / "run", setting=SETTING)
    assert run.environment["data"]["input_shape"] == [3, 9, 14]
    assert len(run.environment["data"]["scale"]) == 3
    probabilities = experiment.probabilities(run, colour.take(np.arange(5)), SETTING)
    assert probabilities.shape == (5, CLASSES)
    assert probabilities.sum(1) == pytest.approx(np.ones(5), abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"model.name": "lenet6"}, UsageError, "did you mean 'lenet5'"),
        ({"model.dropot": 0.5}, UsageError, "did you mean 'dropout'"),
        ({"model.dropout": 1.5}, UsageError, "dropout"),
        ({"data.name": "fashion-mnst"}, FittingRoomError, "did you mean 'fashion-mnist'"),
        ({"data.name": "none.npz"}, FittingRoomError, "none.npz"),
        ({"data.normalise": {"mean": [0.1, 0.2], "std": [1, 1]}}, UsageError, "channel"),
        ({"data.validation": 0.0001}, UsageError, "empty part"),
    ],
)
def test_a_mistake_leaves_no_folder(made_set: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        experiment.train(loaded(made_set, **changes), tmp_path / "runs" / "run", setting=SETTING)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_data_without_test_images(tmp_path: Path) -> None:
    (tmp_path / "set.npz").write_bytes(npz_bytes(made_set_of(60, seed=0)))
    with pytest.raises(DataMissing, match="no test images"):
        experiment.train(loaded(tmp_path / "set.npz", **{"data.validation": "test"}), tmp_path / "run", setting=SETTING)
    run = experiment.train(loaded(tmp_path / "set.npz"), tmp_path / "run", setting=SETTING)
    with pytest.raises(FittingRoomError, match="has no test images"):
        experiment.evaluate(run, test=True, setting=SETTING)


def test_other_data_under_the_same_name(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(npz_bytes(made_set_of(60, seed=0), made_set_of(20, seed=1)))
    run = experiment.train(loaded(path), tmp_path / "run", setting=SETTING)
    run.set_state("stopped")
    path.write_bytes(npz_bytes(made_set_of(60, seed=5), made_set_of(20, seed=1)))
    for again in (lambda: experiment.resume(run, SETTING), lambda: experiment.evaluate(run, setting=SETTING)):
        with pytest.raises(RunError, match=r"was trained on other data than .*; point --data-dir at the data it was trained on"):
            again()


DAMAGE = {
    "missing": None,
    "empty": b"",
    "an object": b"{}",
    "a list": b"[1]",
    "garbage": b"\xff\x00garbage",
    "cut": -7,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "name",
    ["recipe.toml", "origins.json", "environment.json", "state.json", "metrics.jsonl", "weights.safetensors", "evaluation.json", ".lock"],
)
def test_whatever_is_damaged_is_one_line_or_no_matter(copied: Run, name: str, damage: str) -> None:
    path, how = copied.path / name, DAMAGE[damage]
    if how is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:how] if isinstance(how, int) else how)

    def show() -> None:
        run = runs.find(copied.path, copied.path.parent)
        assert (run.state, run.reason, run.history, run.origins) is not None
        run._repr_html_()

    def go_on() -> None:
        run = runs.find(copied.path, copied.path.parent)
        if run.state == "finished":
            run.set_state("stopped")
        experiment.resume(run, SETTING)

    for use in (
        show,
        lambda: experiment.evaluate(copied, test=True, setting=SETTING),
        lambda: experiment.probabilities(copied, made_set_of(3, seed=0), SETTING),
        go_on,
    ):
        said = mistake(use)
        assert said is None or (len(said.splitlines()) == 1 and copied.path.name in said)


def mistake(use: Callable[[], object]) -> str | None:
    """What a person is told if ``use`` fails in a way that they can mend."""
    try:
        use()
    except FittingRoomError as error:
        return str(error)
    return None


def test_weights_of_another_model(copied: Run) -> None:
    copied.write_weights({"weight": torch.zeros(3)})
    with pytest.raises(RunError, match="does not fit the recipe beside it"):
        experiment.evaluate(copied, setting=SETTING)


def test_a_diverged_run_has_failed_and_says_where(made_set: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the loss became (nan|inf) in epoch 1, step \d+"):
        experiment.train(loaded(made_set, **{"optim.name": "sgd", "optim.lr": 1e30}), tmp_path / "run", setting=SETTING)
    run = Run(tmp_path / "run")
    assert run.state == "failed"
    assert "in epoch 1, step" in run.reason
    assert run.history == []
    json.loads((run.path / "state.json").read_text())


def test_idx_and_npz_of_the_same_images_train_to_the_same_bits(made_set: Path, tmp_path: Path, finished: Run) -> None:
    folder = write_idx(tmp_path / "idx", made_set_of(500, seed=1))
    again = experiment.train(loaded(folder, **{"model.dropout": 0.2}), tmp_path / "run", setting=SETTING)
    assert (again.path / "weights.safetensors").read_bytes() == (finished.path / "weights.safetensors").read_bytes()


def test_the_embedded_set_needs_nothing(tmp_path: Path) -> None:
    run = experiment.train(loaded("digits", **{"train.epochs": 10}), tmp_path / "run", setting=SETTING)
    assert run.evaluation["validation"]["accuracy"] > 0.93
    assert run.environment["data"]["identity"] == "digits"
