"""The run folder: one training of one recipe with one seed, as plain files that any tool opens.

A folder has one owner at a time (a lock that the operating system drops when the owner dies), its state is always one of
`STATES`, and every file in it is written whole or not at all.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from fittingroom.errors import FittingRoomError, RunError, UsageError, nearest
from fittingroom.files import append_line, explain, is_temporary, read_lines, remove_temporaries, write_bytes, write_json, write_text
from fittingroom.recipe import Loaded, Recipe, load, to_toml

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["STATES", "Predictions", "Run", "create", "create_new", "find", "list_runs", "new_name"]

STATES = ("created", "running", "finished", "stopped", "failed")
# What a folder holds before it holds a recipe.
BEGINNING = ("state.json", "origins.json", ".lock")


# The default of what may be absent but not null.
ABSENT: Any = None


class _Part(BaseModel):
    """What an epoch's record says of one split."""

    loss: float = 0.0
    accuracy: float = 0.0
    seconds: float = 0.0
    images_per_second: float = 0.0


class _Epoch(BaseModel):
    """A line of ``metrics.jsonl``."""

    epoch: int
    best_epoch: int = 0
    train: _Part = _Part()
    validation: _Part = _Part()


class _Data(BaseModel):
    """What ``environment.json`` says of the data."""

    classes: list[str]
    input_shape: list[int] = Field(min_length=3, max_length=3)
    scale: list[float]
    offset: list[float]
    train_sha256: str
    validation_source: str
    notices: list[str] = []


class _Size(BaseModel):
    """What ``environment.json`` says of the model."""

    parameters: int | None = None
    multiply_adds: int | None = None
    assumptions: list[str] = []


class _Environment(BaseModel):
    """``environment.json``."""

    data: _Data = ABSENT
    model: _Size = _Size()
    precision: dict[str, str] = {}
    threads: int = Field(1, ge=1)


class _Judged(BaseModel):
    """What ``evaluation.json`` says of one split; `Evaluation.from_json` checks the rest."""

    accuracy: float


class _Evaluation(BaseModel):
    """``evaluation.json``."""

    validation: _Judged = ABSENT
    test: _Judged = ABSENT
    openings: list[dict[str, str]] = []


@dataclass(frozen=True, eq=False)
class Predictions:
    """Class probabilities of one split.

    Attributes:
        probabilities: float32 ``[N, classes]``.
        labels: int64 ``[N]``.
        indices: int64 ``[N]``, the images' places in the source's training (or test) images.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def recipe(self) -> Recipe:
        """What is trained here.

        Raises:
            RunError: the file is missing or damaged.
        """
        try:
            return load(self.path / "recipe.toml").recipe
        except UsageError as error:
            raise RunError(f"{error}; restore it, or train the run again") from None

    @property
    def origins(self) -> dict[str, str]:
        """Where each value of the recipe came from."""
        values = self.read("origins.json", {})
        return {str(key): str(value) for key, value in values.items()}

    @property
    def state(self) -> str:
        """One of `STATES`; a run whose process died while running is `stopped`."""
        state = str(self.read("state.json", {}).get("state", "created"))
        if state not in STATES:
            raise RunError(f"{self.path / 'state.json'}: unknown state '{state}'; restore it, or train the run again")
        return "stopped" if state == "running" and not self.locked else state

    @property
    def reason(self) -> str:
        """Why the run stopped or failed, or ``""``."""
        return str(self.read("state.json", {}).get("reason", ""))

    @property
    def history(self) -> list[dict[str, Any]]:
        """The records of all epochs, in order.

        Raises:
            RunError: the file is damaged.
        """
        path = self.path / "metrics.jsonl"
        return [_checked(record, _Epoch, path) for record in read_lines(path)]

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, device, threads, precision, data checksums.

        Raises:
            RunError: the file is damaged.
        """
        return _checked(self.read("environment.json", {}), _Environment, self.path / "environment.json")

    @property
    def evaluation(self) -> dict[str, Any]:
        """Metrics by split, and each opening of the test set.

        Raises:
            RunError: the file is damaged.
        """
        return _checked(self.read("evaluation.json", {}), _Evaluation, self.path / "evaluation.json")

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def locked(self) -> bool:
        """Whether a living process owns the folder."""
        lock = self.path / ".lock"
        if not lock.exists():
            return False
        with open(lock, "rb") as file:
            return not _flock(file, share=True)

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Own the folder for the length of a ``with`` block.

        Raises:
            RunError: another process owns it.
        """
        try:
            file = open(self.path / ".lock", "a+b", buffering=0)  # noqa: SIM115 - held open while owned
        except OSError as error:
            raise explain(error, self.path) from error
        with file:
            if not _lock(file):
                raise RunError(f"{self.path} is in use by {_owner(file)}; wait for it, or choose another --run-dir")
            try:
                file.truncate(0)
                file.write(f"process {os.getpid()}".encode())
            except OSError as error:
                raise explain(error, self.path) from error
            yield

    def set_state(self, state: str, reason: str = "", **values: Any) -> None:
        """Write ``state.json``; what it held before and is not named here stays."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        before = self.read("state.json", {"created": now})
        write_json(self.path / "state.json", {**before, **values, "state": state, "reason": reason, "changed": now})

    def append_epoch(self, record: Mapping[str, Any]) -> None:
        """Append an epoch's line to ``metrics.jsonl``."""
        append_line(self.path / "metrics.jsonl", dict(record))

    def forget_epochs_after(self, epoch: int) -> None:
        """Drop the lines of epochs that will be trained again, and a torn last line."""
        kept = [record for record in self.history if record["epoch"] <= epoch]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in kept))

    def write_json(self, name: str, value: Any) -> None:
        """Write one JSON file of the folder."""
        write_json(self.path / name, value)

    def write_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Write ``weights.safetensors``."""
        from safetensors.torch import save

        write_bytes(self.path / "weights.safetensors", save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))

    def read_weights(self) -> dict[str, Tensor]:
        """Read ``weights.safetensors``.

        Raises:
            RunError: the run has no weights yet, or the file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load as load_tensors

        path = self.path / "weights.safetensors"
        try:
            return load_tensors(path.read_bytes())
        except FileNotFoundError:
            raise RunError(
                f"{self.path} has no weights: the run is {self.state}; go on with fittingroom train --resume {self.path}"
            ) from None
        except (SafetensorError, OSError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}); train the run again") from None

    def write_predictions(self, split: str, predictions: Predictions) -> None:
        """Write the class probabilities of a split."""
        from safetensors.numpy import save

        content = save({"probabilities": predictions.probabilities, "labels": predictions.labels, "indices": predictions.indices})
        write_bytes(self.path / "predictions" / f"{split}.safetensors", content)

    def read_predictions(self, split: str) -> Predictions:
        """Read the class probabilities of a split.

        Raises:
            RunError: there are none, or the file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load as load_arrays

        path = self.path / "predictions" / f"{split}.safetensors"
        try:
            arrays = load_arrays(path.read_bytes())
            return Predictions(arrays["probabilities"], arrays["labels"], arrays["indices"])
        except FileNotFoundError:
            option = " --test" if split == "test" else ""
            raise RunError(f"{self.path} has no {split} predictions; make them with fittingroom evaluate {self.path}{option}") from None
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise RunError(f"{path} is damaged ({error}); make it again with fittingroom evaluate {self.path}") from None

    def read(self, name: str, default: dict[str, Any]) -> dict[str, Any]:
        """Read one JSON file of the folder, or ``default`` where there is none.

        Raises:
            RunError: the file is damaged.
        """
        path = self.path / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return default
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}); restore it, or train the run again") from None
        if not isinstance(value, dict):
            raise RunError(f"{path} is damaged (not a JSON object); restore it, or train the run again")
        return value

    def _repr_html_(self) -> str:
        from html import escape

        last = self.history[-1] if self.history else {}
        figures = [f"epoch {last['epoch']}"] if last else []
        figures += [f"{part} accuracy {last[part]['accuracy']:.4f}" for part in ("train", "validation") if part in last]
        if test := self.evaluation.get("test"):
            figures.append(f"test accuracy {test['accuracy']:.4f}")
        return f"<b>{escape(self.name)}</b> · {escape(self.recipe.model.name)} · {self.state} · {' · '.join(figures)}"


def _checked(value: dict[str, Any], schema: type[BaseModel], path: Path) -> dict[str, Any]:
    """Return what a file holds if it is of the kind that this program writes; what is absent there is for the reader to miss."""
    try:
        schema.model_validate(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RunError(f"{path} is damaged ({where}: {first['msg'].lower()}); restore it, or train the run again") from None
    return value


def new_name(recipe: Recipe, now: datetime) -> str:
    """Return a folder name: when, which model, and four digits of the recipe's hash."""
    return f"{now:%Y%m%d-%H%M%S}-{re.sub(r'[^a-z0-9]+', '-', recipe.model.name.lower()).strip('-')}-{recipe.hash[:4]}"


def create(path: Path, loaded: Loaded) -> Run:
    """Make a run folder for a recipe.

    Raises:
        RunError: the folder holds a run already, or something else.
        FittingRoomError: the folder cannot be written.
    """
    try:
        _refuse_what_is_there(path)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, path) from error
    run = Run(path)
    with run.owned():
        _refuse_what_is_there(path)  # again: two processes may have come this far, and one of them is done by now
        remove_temporaries(path)
        try:
            run.set_state("created")
            run.write_json("origins.json", loaded.origins)
            write_text(path / "recipe.toml", to_toml(loaded.recipe))  # last: a folder with a recipe is a run
        except FittingRoomError:
            for name in ("recipe.toml", *BEGINNING):
                (path / name).unlink(missing_ok=True)
            path.rmdir()
            raise
    return run


def create_new(runs: Path, loaded: Loaded, now: datetime) -> Run:
    """Make a run folder in ``runs`` under a name of its own; where `new_name` is taken, be it just now, with ``-2``, ``-3`` … behind it.

    Raises:
        FittingRoomError: the folder cannot be written.
    """
    name = new_name(loaded.recipe, now)
    for number in itertools.count(1):
        path = runs / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)  # of several processes, one makes it
        except FileExistsError:
            continue
        except OSError as error:
            raise explain(error, path) from error
        return create(path, loaded)
    raise AssertionError("there are more numbers than folders")


def _refuse_what_is_there(path: Path) -> None:
    """Raise `RunError` unless ``path`` is nothing yet, or a folder with nothing in it but what a killed beginning left."""
    # One look, and not two: another process may be about to make it a run.
    inside = list(path.iterdir()) if path.is_dir() else []
    if any(one.name == "recipe.toml" for one in inside):
        raise RunError(f"{path} holds a run already; go on with fittingroom train --resume {path}, or choose another --run-dir")
    if path.exists() and (not path.is_dir() or not all(one.name in BEGINNING or is_temporary(one) for one in inside)):
        raise RunError(f"{path} exists and is not an empty folder; choose another --run-dir")


def find(reference: str | Path, runs: Path) -> Run:
    """Return the run that a person means: a folder, the name of one in ``runs``, a part of a name, or `last`, the newest.

    Raises:
        RunError: there is none, or several.
    """
    direct = Path(reference)
    for path in (direct, runs / direct):
        if os.path.isfile(path / "recipe.toml"):  # noqa: PTH113 - Path.is_file raises where one may not look, or a name is too long
            return Run(path)
    known = list_runs(runs)
    if str(reference) == "last" and known:
        return known[-1]
    matching = [run for run in known if str(reference) in run.name]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise RunError(
            f"'{reference}' stands for {len(matching)} runs in {runs}: {', '.join(run.name for run in matching[:4])}; write more of it"
        )
    if os.path.isdir(direct):  # noqa: PTH112 - as above
        raise RunError(f"{direct} is no run folder: it has no recipe.toml")
    hint = nearest(str(reference), [run.name for run in known]) or "; see fittingroom runs list"
    raise RunError(f"no run '{reference}' here or in {runs}{hint}")


def unfinished(runs: Path, recipe: Recipe) -> Run | None:
    """Return the newest run of a recipe, directly in a folder, that was begun, is not finished and in nobody's hands; None for none."""
    for run in reversed(list_runs(runs)):
        with suppress(RunError):
            if run.recipe == recipe and run.state != "finished" and not run.locked:
                return run
    return None


def list_runs(runs: Path) -> list[Run]:
    """Return all runs directly in a folder, oldest first."""
    if not os.path.isdir(runs):  # noqa: PTH112 - as in `find`
        return []
    return sorted((Run(path.parent) for path in sorted(runs.glob("*/recipe.toml"))), key=_age)


def _age(run: Run) -> tuple[str, int]:
    """When a run was created: by its own word, to the second, and then by its recipe; a damaged one comes first."""
    with suppress(RunError, OSError):
        return str(run.read("state.json", {}).get("created", "")), (run.path / "recipe.toml").stat().st_mtime_ns
    return "", 0


def _lock(file: IO[bytes]) -> bool:
    """Own an open file until it is closed; False where another process owns it.

    Somebody who only looks whether a run is alive shares its lock for an instant. That never counts as an owner: as long as the lock
    can be shared, nobody owns the file, and the owner-to-be tries again.
    """
    pause = 0.0001
    while not _flock(file, share=False):
        if not _flock(file, share=True) or pause > 1:
            return False
        _unlock(file)
        time.sleep(pause := pause * 1.5 * (1 + os.getpid() % 7 / 7))  # several at once do not keep step
    return True


def _owner(file: IO[bytes]) -> str:
    """Who owns a locked file, by its own word; an owner signs a moment after it has the lock."""
    for _ in range(100):
        file.seek(0)
        if signed := file.read().decode(errors="replace").strip():
            return signed
        time.sleep(0.01)
    return "another process"


def _flock(file: IO[bytes], *, share: bool) -> bool:
    """Take the lock of an open file, alone or with others who share it, or say at once that it cannot be had."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock; its own call locks one byte, for one alone
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if share else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unlock(file: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file, fcntl.LOCK_UN)
