"""One experiment from recipe to evaluated run folder: the place where data, model, loop and folder meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fittingroom import environment, models, native, runs
from fittingroom.data import catalog
from fittingroom.data.arrays import DataSet, Images
from fittingroom.data.normalise import scale_and_offset
from fittingroom.data.resident import Resident
from fittingroom.data.split import stratified_split, stratified_subset
from fittingroom.errors import DataError, DataMissing, ExtraMissing, RunError, UsageError
from fittingroom.evaluate import Evaluation, evaluate_predictions
from fittingroom.files import remove_temporaries
from fittingroom.recipe import Data, Loaded, Recipe
from fittingroom.runs import Predictions, Run
from fittingroom.seeds import derive
from fittingroom.train import checkpoint
from fittingroom.train.loop import Epoch, Progress, fit, kept_weights, predict
from fittingroom.train.precision import Precision, choose_device, choose_precision, settle
from fittingroom.train.step import uses_graph
from fittingroom.train.stopping import check_monitored

__all__ = [
    "Machine",
    "Prepared",
    "Setting",
    "Stopped",
    "Team",
    "evaluate",
    "judged",
    "load_model",
    "new_model",
    "prepare",
    "probabilities",
    "resume",
    "train",
]

# Classical models can be slow to ask; their training accuracy is taken on this many training images.
CLASSICAL_SAMPLE = 5_000


class Stopped(Exception):
    """Raised by a callback of `Setting` to stop a run in good order, to go on another time; the message says why."""


class Team(Protocol):
    """Several workers that train one network together, in the place of the loop."""

    @property
    def description(self) -> Mapping[str, Any]:
        """What ``environment.json`` says of them."""

    def fit(
        self,
        model: nn.Module,
        training: Resident,
        validation: Resident | None,
        recipe: Recipe,
        classes: int,
        precision: Precision,
        resume: checkpoint.Checkpoint | None,
        progress: Progress,
    ) -> Iterator[Epoch]:
        """Do as `fittingroom.train.loop.fit` does."""


@dataclass(frozen=True)
class Setting:
    """What a run depends on beside its recipe: this machine and the person at it.

    Attributes:
        data_dir: where to look for data first.
        device: `auto`, `cpu`, `cuda`.
        threads: threads of torch's operations; None leaves torch's own choice.
        download: whether missing data may be fetched.
        tensorboard: whether to write event files too.
        notify: called with each notice, one line of text.
        progress: called with epoch, step and steps of the epoch.
        epoch_done: called with each epoch's record.
        begun: called with the run's folder, once it is there.
        downloaded: called, while data are fetched, with the bytes that are there and the bytes of the whole set.
        checkpoint_seconds: a checkpoint is written after an epoch, but no more often than this: a crash then costs an epoch or
            these seconds, whichever is more, and short epochs do not wait for the disk.
        team: workers that train a network together; None trains it in this process.
    """

    data_dir: Path | None = None
    device: str = "auto"
    threads: int | None = None
    download: bool = True
    tensorboard: bool = False
    notify: Callable[[str], None] = lambda line: None
    progress: Callable[[int, int, int], None] = lambda epoch, step, steps: None
    epoch_done: Callable[[dict[str, Any]], None] = lambda record: None
    begun: Callable[[Path], None] = lambda path: None
    downloaded: Callable[[int, int], None] = lambda there, expected: None
    checkpoint_seconds: float = 2.0
    team: Team | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """Data made ready for a recipe.

    Attributes:
        data: the set as its source has it.
        training: images to learn from; validation: images to choose by.
        training_indices, validation_indices: their places in the source's training images (in its own validation or test
            images where ``validation_source`` says so).
        validation_source: `train`, `validation` or `test`.
        scale, offset: float32 ``[C]``, the normalisation.
    """

    data: DataSet
    training: Images
    validation: Images | None
    training_indices: NDArray[np.int64]
    validation_indices: NDArray[np.int64]
    validation_source: str
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]

    def resident(self, images: Images, device: torch.device) -> Resident:
        """Put a split on a device, normalised as its batches are handed out."""
        return Resident.of(images, self.scale, self.offset, device)


_kept: list[tuple[Data, Path | None, Prepared]] = []
# A split is a copy of its set: a process that serves many does not hold them all.
MOST_KEPT = 4


def keep(recipe: Recipe, data_dir: Path | None) -> None:
    """Have `prepare` give out the data of a recipe from memory from now on; processes forked from this one share it.

    Nothing is downloaded. Of the splits, the newest few are kept.

    Raises:
        DataMissing, DataError, UsageError: as `prepare` has them.
    """
    settings = recipe.data
    if _prepared(settings, data_dir) is None:
        catalog.keep(settings.name, data_dir=data_dir, size=settings.size, channels=settings.channels)
        _kept.append((settings, data_dir, prepare(recipe, Setting(data_dir=data_dir, download=False))))
        del _kept[:-MOST_KEPT]


def _prepared(settings: Data, data_dir: Path | None) -> Prepared | None:
    return next((found for known, folder, found in _kept if (known, folder) == (settings, data_dir)), None)


def prepare(recipe: Recipe, setting: Setting) -> Prepared:
    """Load, split and measure the data of a recipe; the test images are not read unless it validates on them.

    Raises:
        DataMissing, DataError, UsageError: as the data room has them.
    """
    settings = recipe.data
    if (kept := _prepared(settings, setting.data_dir)) is not None:
        for notice in kept.data.notices:
            setting.notify(notice)
        check_monitored(recipe.train.stop, kept.validation is not None)
        return kept
    on_test = settings.validation == "test"
    data = catalog.load(
        settings.name,
        data_dir=setting.data_dir,
        size=settings.size,
        channels=settings.channels,
        with_test=on_test,
        download=setting.download,
        notify=setting.notify,
        progress=setting.downloaded,
    )
    everything = np.arange(len(data.train), dtype=np.int64)
    if on_test:
        if data.test is None:
            raise DataMissing(f'{settings.name} has no test images, so data.validation = "test" is not possible; use a fraction')
        validation, training_indices, validation_indices, source = data.test, everything, np.arange(len(data.test)), "test"
    elif data.validation is not None:
        validation, training_indices, source = data.validation, everything, "validation"
        validation_indices = np.arange(len(data.validation))
    else:
        fraction = float(settings.validation)
        training_indices, validation_indices = stratified_split(data.train.labels, fraction, settings.split_seed)
        validation, source = data.train.take(validation_indices), "train"
    if settings.limit is not None and settings.limit < len(training_indices):
        chosen = stratified_subset(data.train.labels[training_indices], settings.limit, settings.split_seed)
        training_indices = training_indices[chosen]
    training = data.train.take(training_indices)
    scale, offset = scale_and_offset(settings.normalise, training)
    found = validation if len(validation) else None
    check_monitored(recipe.train.stop, found is not None)
    return Prepared(data, training, found, training_indices, validation_indices.astype(np.int64), source, scale, offset)


def train(loaded: Loaded, run_dir: Path | None = None, runs_dir: Path = Path("runs"), setting: Setting | None = None) -> Run:
    """Train a recipe from the start into a new run folder, and evaluate it on validation.

    Args:
        loaded: the recipe with its origins.
        run_dir: the folder; None makes a new one in ``runs_dir``.
        runs_dir: folder of all runs.
        setting: machine and manner.

    Raises:
        FittingRoomError: anything a person can mend; nothing is left behind where the recipe or the data is at fault.
        KeyboardInterrupt: as it came; the run is marked stopped and can be resumed.
    """
    setting = setting or Setting()
    recipe = loaded.recipe
    models.check(recipe.model.name, recipe.model.arguments)
    if setting.tensorboard:
        _summary_writer()
    machine = Machine.choose(recipe, setting)
    prepared = prepare(recipe, setting)
    model = new_model(recipe, prepared.data.input_shape, len(prepared.data.classes), machine.device)
    run = runs.create_new(runs_dir, loaded, datetime.now()) if run_dir is None else runs.create(run_dir, loaded)
    setting.begun(run.path)
    with run.owned():
        run.write_json("environment.json", _environment(recipe, prepared, machine, setting.team))
        _carry_out(run, recipe, prepared, model, machine, setting, None)
    return run


def resume(run: Run, setting: Setting | None = None) -> Run:
    """Go on with a run that was stopped, was killed or failed, from its newest sound checkpoint; a finished one stays as it is.

    Raises:
        RunError: another process is training it, or it is damaged.
    """
    setting = setting or Setting()
    if run.state == "finished":
        setting.notify(f"{run.path} is finished already")
        return run
    if setting.tensorboard:
        _summary_writer()
    recipe = run.recipe
    setting.begun(run.path)
    with run.owned():
        recorded = run.environment
        if setting.threads is None and isinstance(recorded.get("threads"), int):
            setting = _with_threads(setting, recorded["threads"])
        machine = Machine.choose(recipe, setting)
        prepared = prepare(recipe, setting)
        now = _environment(recipe, prepared, machine, setting.team)
        if recorded:
            _same_data(run, recorded, prepared)
            _tell_differences(recorded, now, setting.notify)
        else:
            run.write_json("environment.json", now)
        newest = checkpoint.read_newest(run.checkpoints, setting.notify)
        setting.notify(f"going on after epoch {newest.epoch}" if newest else "no checkpoint yet: starting at the first epoch")
        _forget_after(run, newest.epoch if newest else 0)
        model = new_model(recipe, prepared.data.input_shape, len(prepared.data.classes), machine.device)
        _carry_out(run, recipe, prepared, model, machine, setting, newest)
    return run


def _forget_after(run: Run, epoch: int) -> None:
    """Remove what a process left behind that was killed after ``epoch`` was safe."""
    run.forget_epochs_after(epoch)
    checkpoint.forget_after(run.checkpoints, epoch)
    remove_temporaries(run.path)


def evaluate(run: Run, test: bool = False, reason: str = "evaluate --test", setting: Setting | None = None) -> dict[str, Any]:
    """Measure a finished run again from its weights, on validation, and on the test set where asked; return ``evaluation.json``.

    Raises:
        RunError: the run has no weights, or the data are not those it was trained on.
        UsageError: the run has no validation images, and the test set was not asked for.
    """
    setting = setting or Setting()
    recipe = run.recipe
    recorded = run.environment
    with run.owned():
        if setting.threads is None and isinstance(recorded.get("threads"), int):
            setting = _with_threads(setting, recorded["threads"])
        machine = Machine.choose(recipe, setting)
        prepared = prepare(recipe, setting)
        _same_data(run, recorded, prepared)
        if prepared.validation is None and not test:
            raise UsageError(f"{run.path} has no validation images (data.validation = 0); what is left is the test set: evaluate --test")
        fitted = load_model(run, machine.device)
        result = dict(run.evaluation)
        if prepared.validation is not None:
            part = _predictions(fitted, prepared, prepared.validation, prepared.validation_indices, machine)
            run.write_predictions("validation", part)
            result["validation"] = _judge(part, prepared).to_json()
        if test:
            images = _test_images(recipe, setting)
            part = _predictions(fitted, prepared, images, np.arange(len(images), dtype=np.int64), machine)
            run.write_predictions("test", part)
            # The opening is noted together with what was seen, in one write.
            result["openings"] = [*result.get("openings", []), {**_opening(reason), "images": images.checksum}]
            result["test"] = _judge(part, prepared).to_json()
        run.write_json("evaluation.json", result)
    return result


def judged(run: Run) -> dict[str, Evaluation]:
    """Return what a run was found to be worth, by split; nothing is measured.

    Raises:
        RunError: ``evaluation.json`` is damaged.
    """
    try:
        return {split: Evaluation.from_json(run.evaluation[split]) for split in ("validation", "test") if split in run.evaluation}
    except DataError as error:
        raise RunError(f"{run.path / 'evaluation.json'}: {error}") from None


def load_model(run: Run, device: torch.device) -> Any:
    """Return the trained model of a run: an ``nn.Module`` in evaluation mode, or a classical model. No data are needed.

    Raises:
        RunError: the run has no weights, or they are damaged or another model's.
    """
    recipe = run.recipe
    recorded = run.environment.get("data", {})
    if "input_shape" not in recorded:
        raise RunError(f"{run.path} has no record of its data; train the run again")
    model = new_model(recipe, tuple(recorded["input_shape"]), len(recorded["classes"]), device)
    if not isinstance(model, nn.Module):
        try:
            return model.load(run.path / "weights.safetensors")
        except RunError as error:
            raise RunError(f"{error}; train the run again") from None
    try:
        model.load_state_dict(run.read_weights())
    except RuntimeError as error:
        what = str(error).splitlines()[0]
        raise RunError(f"{run.path / 'weights.safetensors'} does not fit the recipe beside it ({what}); train the run again") from None
    return model.eval()


def probabilities(run: Run, images: Images, setting: Setting | None = None) -> NDArray[np.float32]:
    """Return a run's class probabilities ``[N, classes]`` for images of its size and channels.

    Raises:
        RunError: the run has no weights, or is damaged.
    """
    machine = Machine.choose(run.recipe, setting or Setting())
    model = load_model(run, machine.device)
    recorded = run.environment["data"]
    scale, offset = np.array(recorded["scale"], np.float32), np.array(recorded["offset"], np.float32)
    return _probabilities(model, images, scale, offset, machine)


@dataclass(frozen=True)
class Machine:
    """Where a run computes, and in which format."""

    device: torch.device
    precision: Precision

    @classmethod
    def choose(cls, recipe: Recipe, setting: Setting) -> Machine:
        """Choose device and precision, and set the number of threads where one is asked for."""
        if setting.threads is not None:
            torch.set_num_threads(setting.threads)
        device = choose_device(setting.device)
        settle(device)
        return cls(device, choose_precision(recipe.train.precision, device))


def new_model(recipe: Recipe, input_shape: tuple[int, int, int], classes: int, device: torch.device) -> Any:
    """Return the untrained model of a recipe: a network with its first weights on ``device``, or a classical model."""
    name, arguments = recipe.model.name, recipe.model.arguments
    if models.entry(name).kind == "classical":
        return models.build_classical(name, classes=classes, seed=recipe.seed, arguments=arguments)
    generator = torch.Generator().manual_seed(derive(recipe.seed, "weights"))
    model = models.build(name, input_shape=input_shape, classes=classes, generator=generator, defaults=recipe.defaults, arguments=arguments)
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _carry_out(
    run: Run, recipe: Recipe, prepared: Prepared, model: Any, machine: Machine, setting: Setting, newest: checkpoint.Checkpoint | None
) -> None:
    """Train, keep the weights, judge them; whatever ends it early is written into the run's state."""
    try:
        run.set_state("running")
        if prepared.validation_source == "test" and "openings" not in run.evaluation:
            run.write_json("evaluation.json", {"openings": [_opening('data.validation = "test": measured after every epoch')]})
        if isinstance(model, nn.Module):
            _train_network(run, recipe, prepared, model, machine, setting, newest)
        else:
            _train_classical(run, recipe, prepared, model, setting)
        result = dict(run.evaluation)
        if prepared.validation is not None:
            part = _predictions(model, prepared, prepared.validation, prepared.validation_indices, machine)
            run.write_predictions("validation", part)
            result["validation"] = _judge(part, prepared).to_json()
        run.write_json("evaluation.json", result)
        run.set_state("finished", memory_peak=environment.memory_peak())
    except KeyboardInterrupt:
        run.set_state("stopped", "interrupted")
        raise
    except Stopped as stop:
        run.set_state("stopped", str(stop))
        raise
    except Exception as error:
        run.set_state("failed", str(error))
        raise


def _train_network(
    run: Run,
    recipe: Recipe,
    prepared: Prepared,
    model: nn.Module,
    machine: Machine,
    setting: Setting,
    newest: checkpoint.Checkpoint | None,
) -> None:
    native.keep_freed_memory()
    training = prepared.resident(prepared.training, machine.device)
    validation = None if prepared.validation is None else prepared.resident(prepared.validation, machine.device)
    board = _TensorBoard(run.path / "tensorboard", newest.epoch if newest else 0) if setting.tensorboard else None
    written = time.monotonic()
    classes = len(prepared.data.classes)
    loop = fit if setting.team is None else setting.team.fit
    for epoch in loop(model, training, validation, recipe, classes, machine.precision, newest, setting.progress):
        # The line comes before the checkpoint: killed between the two, a resumed run drops the line and repeats the epoch.
        run.append_epoch(epoch.record)
        if epoch.final or time.monotonic() - written >= setting.checkpoint_seconds:
            newest = epoch.checkpoint()
            checkpoint.write(run.checkpoints, newest)
            written = time.monotonic()
        if board is not None:
            board.add(epoch.record)
        setting.epoch_done(epoch.record)
    assert newest is not None
    weights = kept_weights(newest)
    run.write_weights(weights)
    model.load_state_dict(weights)


def _train_classical(run: Run, recipe: Recipe, prepared: Prepared, model: Any, setting: Setting) -> None:
    run.forget_epochs_after(0)
    features = _features(prepared.training, prepared.scale, prepared.offset)
    began = time.perf_counter()
    model.fit(features, prepared.training.labels)
    seconds = time.perf_counter() - began
    chosen = slice(0, CLASSICAL_SAMPLE)
    probabilities = model.predict_probabilities(features[chosen])
    part = evaluate_predictions(probabilities, prepared.training.labels[chosen], prepared.data.classes)
    speed = len(features) / seconds
    record: dict[str, Any] = {
        "epoch": 1,
        "train": {
            "loss": part.loss,
            "accuracy": part.accuracy,
            "seconds": seconds,
            "images_per_second": speed,
            "measured_on": len(probabilities),
        },
    }
    if prepared.validation is not None:
        rows = _features(prepared.validation, prepared.scale, prepared.offset)
        judged = evaluate_predictions(model.predict_probabilities(rows), prepared.validation.labels, prepared.data.classes)
        record["validation"] = {"loss": judged.loss, "accuracy": judged.accuracy}
    model.save(run.path / "weights.safetensors")
    run.append_epoch(record)
    setting.epoch_done(record)


def _features(images: Images, scale: NDArray[np.float32], offset: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalised pixels as float32 rows, ``[N, height × width × channels]``."""
    scaled: NDArray[np.float32] = images.pixels.astype(np.float32) * scale + offset
    return scaled.reshape(len(images), -1)


def _probabilities(
    model: Any, images: Images, scale: NDArray[np.float32], offset: NDArray[np.float32], machine: Machine
) -> NDArray[np.float32]:
    if isinstance(model, nn.Module):
        logits = predict(model, Resident.of(images, scale, offset, machine.device), machine.precision)
        found: NDArray[np.float32] = logits.softmax(1).cpu().numpy()
        return found
    classical: NDArray[np.float32] = model.predict_probabilities(_features(images, scale, offset)).astype(np.float32)
    return classical


def _predictions(model: Any, prepared: Prepared, images: Images, indices: NDArray[np.int64], machine: Machine) -> Predictions:
    return Predictions(_probabilities(model, images, prepared.scale, prepared.offset, machine), images.labels, indices)


def _judge(part: Predictions, prepared: Prepared) -> Evaluation:
    return evaluate_predictions(part.probabilities, part.labels, prepared.data.classes)


def _test_images(recipe: Recipe, setting: Setting) -> Images:
    data = catalog.load(
        recipe.data.name,
        data_dir=setting.data_dir,
        size=recipe.data.size,
        channels=recipe.data.channels,
        with_test=True,
        download=setting.download,
        notify=setting.notify,
        progress=setting.downloaded,
    )
    if data.test is None:
        raise UsageError(f"{recipe.data.name} has no test images; put them in a folder test/ beside train/")
    return data.test


def _opening(reason: str) -> dict[str, str]:
    return {"time": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason}


def _environment(recipe: Recipe, prepared: Prepared, machine: Machine, team: Team | None) -> dict[str, Any]:
    description = models.describe(
        recipe.model.name,
        input_shape=prepared.data.input_shape,
        classes=len(prepared.data.classes),
        arguments=recipe.model.arguments,
    )
    return {
        **environment.describe(),
        "device": str(machine.device),
        **(_gpu(machine.device) if machine.device.type == "cuda" else {}),
        "precision": {"name": machine.precision.name, "reason": machine.precision.reason},
        "kernels": native.description(),
        **({"workers": team.description} if team is not None else {}),
        "model": {
            "parameters": description.parameters,
            "multiply_adds": description.multiply_adds,
            "source": description.source,
            "assumptions": list(description.assumptions),
        },
        "data": {
            "name": prepared.data.name,
            "identity": prepared.data.identity,
            "source": prepared.data.source,
            "classes": list(prepared.data.classes),
            "input_shape": list(prepared.data.input_shape),
            "training_images": len(prepared.training),
            "validation_images": 0 if prepared.validation is None else len(prepared.validation),
            "validation_source": prepared.validation_source,
            "train_sha256": prepared.data.train.checksum,
            "scale": prepared.scale.tolist(),
            "offset": prepared.offset.tolist(),
            "notices": list(prepared.data.notices),
        },
    }


def _gpu(device: torch.device) -> dict[str, Any]:
    return {"gpu": torch.cuda.get_device_name(device), "graph": uses_graph(device)}


def _same_data(run: Run, recorded: dict[str, Any], prepared: Prepared) -> None:
    expected = recorded.get("data", {}).get("train_sha256")
    if expected != prepared.data.train.checksum:
        raise RunError(
            f"{run.path} was trained on other data than {prepared.data.source} (checksum {str(expected)[:12]}… against "
            f"{prepared.data.train.checksum[:12]}…); point --data-dir at the data it was trained on"
        )


def _tell_differences(recorded: dict[str, Any], now: dict[str, Any], notify: Callable[[str], None]) -> None:
    """Say where a run goes on under other conditions than it began under: its last bits may then differ."""
    keys = ("processor", "threads", "device", "gpu", "precision", "kernels", "workers")
    changed = [f"{key} {recorded.get(key)} → {now.get(key)}" for key in keys if recorded.get(key) != now.get(key)]
    if recorded.get("packages", {}).get("torch") != now["packages"]["torch"]:
        changed.append(f"torch {recorded.get('packages', {}).get('torch')} → {now['packages']['torch']}")
    if changed:
        notify(f"this run began under other conditions ({'; '.join(changed)}): its results may differ in the last bits")


def _with_threads(setting: Setting, threads: int) -> Setting:
    from dataclasses import replace

    return replace(setting, threads=threads)


def _summary_writer() -> Any:
    """The class that writes event files; asked for before anything is written, so that a missing extra leaves nothing behind."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ExtraMissing("TensorBoard is not installed", "tensorboard", "leave out --tensorboard") from None
    return SummaryWriter


@dataclass
class _TensorBoard:
    """Event files for those who watch with TensorBoard."""

    folder: Path
    purge: int
    writer: Any = field(init=False)

    def __post_init__(self) -> None:
        self.writer = _summary_writer()(str(self.folder), purge_step=self.purge + 1)

    def add(self, record: dict[str, Any]) -> None:
        for part in ("train", "validation"):
            for quantity, value in record.get(part, {}).items():
                self.writer.add_scalar(f"{quantity}/{part}", value, record["epoch"])
        self.writer.flush()
