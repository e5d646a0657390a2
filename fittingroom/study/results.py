"""What is kept of a study's runs, and what can be measured of each.

    FOLDER/KEY.json           the record of a run that came to its end
    FOLDER/failed/KEY.json    why a run failed that would fail again

A record is one compact JSON file a run, without weights and without a path of the machine: the recipe, every epoch, the evaluations,
which images were classified right, where it ran, and the fingerprint of the code. It carries its own checksum.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fittingroom import models, recipe
from fittingroom.errors import FittingRoomError, RunError
from fittingroom.evaluate import metrics
from fittingroom.evaluate.curves import CurveMeasures, curve, measure_history
from fittingroom.files import write_json, write_text
from fittingroom.recipe import Recipe
from fittingroom.runs import Run
from fittingroom.study.code import fingerprint
from fittingroom.study.grid import cells, recipe_of, seeds_of, variation_key
from fittingroom.study.schema import Study

__all__ = [
    "Failure",
    "Record",
    "Result",
    "checksum",
    "failure_of",
    "fewer_seeds",
    "measure",
    "read_failures",
    "read_records",
    "read_results",
    "write_failure",
    "write_record",
]

DIGITS = 7
"""Significant digits of the figures in a record."""


@dataclass(frozen=True)
class Result:
    """One finished run of a study, as its record has it; no weights, no run folder needed.

    Attributes:
        study: name of the study.
        run: name of the variation or grid.
        cell: the factors' values, for a cell of a grid; empty otherwise.
        seed: the run's seed.
        recipe: all values of the recipe.
        history: the lines of ``metrics.jsonl``.
        evaluation: by split, the evaluation as ``evaluation.json`` has it, without pictures of mistakes.
        correct: by split, for each image whether it was classified right (bool ``[N]``, in the order of ``indices``).
        environment: where it ran.
        code: fingerprint of the code that the result depends on.
        reduced: in what the run falls short of the study's protocol (`epochs 2 of 50`); empty for a full run.
    """

    study: str
    run: str
    cell: Mapping[str, Any]
    seed: int
    recipe: Mapping[str, Any]
    history: list[dict[str, Any]]
    evaluation: Mapping[str, Any]
    correct: Mapping[str, Any]
    environment: Mapping[str, Any]
    code: str
    reduced: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, str, int]:
        """Run, cell and seed, as something to find it by."""
        return *variation_key(self.run, self.cell), self.seed

    @property
    def machine(self) -> tuple[str, ...]:
        """What the time that it took depends on, beside the recipe."""
        precision = (self.environment.get("precision") or {}).get("name")
        return (*(str(self.environment.get(key)) for key in ("processor", "device", "gpu", "kernels", "threads")), str(precision))

    @property
    def epochs(self) -> float:
        """How many epochs it trained; the last may have been cut short."""
        return float(min(len(self.history), self.recipe["train"]["epochs"]))

    @cached_property
    def measures(self) -> CurveMeasures:
        """The measures of its curves, found once: several metrics ask for them, and a fit among them takes its time."""
        return measure_history(self.history)


@dataclass(frozen=True)
class Failure:
    """A run that failed, and would fail again: there is nothing of it to measure.

    Attributes:
        run: name of the variation or grid.
        cell: the factors' values, for a cell of a grid; empty otherwise.
        seed: the run's seed.
        reason: why, in words.
    """

    run: str
    cell: Mapping[str, Any]
    seed: int
    reason: str

    @property
    def place(self) -> tuple[str, str, int]:
        """Run, cell and seed, as something to find it by."""
        return *variation_key(self.run, self.cell), self.seed


@dataclass(frozen=True, eq=False)
class Record:
    """What one record file holds; several runs of a study can share it, where their recipes are the same.

    Attributes:
        path: the file.
        recipe: what was trained.
        full: what the study's protocol asks for; another recipe only where the run is reduced.
        values: the rest, as written.
    """

    path: Path
    recipe: Recipe
    full: Recipe
    values: Mapping[str, Any]

    @property
    def code(self) -> str:
        """Fingerprint of the code that made it."""
        return str(self.values["code"])

    @property
    def reduced(self) -> tuple[str, ...]:
        """In what it falls short of the protocol."""
        return tuple(self.values["reduced"])

    @property
    def seconds(self) -> float:
        """Training time."""
        return float(sum(line["train"]["seconds"] for line in self.values["history"]))

    def result(self, study: str, run: str, cell: Mapping[str, Any]) -> Result:
        """Return it as the result of one run of a study."""
        values = self.values
        return Result(
            study=study,
            run=run,
            cell=dict(cell),
            seed=self.recipe.seed,
            recipe=self.recipe.values,
            history=values["history"],
            evaluation={split: _completed(part, values["classes"]) for split, part in values["evaluation"].items()},
            correct={split: _unpacked(part) for split, part in values["correct"].items()},
            environment=values["environment"],
            code=self.code,
            reduced=self.reduced,
        )


def write_record(folder: Path, key: str, run: Run, code: str, full: Recipe, reduced: Sequence[str] = ()) -> Record:
    """Write the record of a finished run, ``FOLDER/KEY.json``.

    Args:
        folder: of the records.
        key: of the planned run.
        run: its run folder; the test set has been opened.
        code: fingerprint of the code.
        full: the recipe of the study's protocol: the run's own, unless it is reduced.
        reduced: in what it falls short of that.

    Raises:
        RunError: the run is damaged.
        FittingRoomError: the folder cannot be written.
    """
    values = _rounded(_gathered(run, code, full, reduced))
    values["sha256"] = checksum(values)
    path = folder / f"{key}.json"
    write_text(path, _lines(values))
    _failure_file(folder, key).unlink(missing_ok=True)
    return _record(path, values)


def write_failure(folder: Path, key: str, trained: Recipe, code: str, full: Recipe, reason: str) -> None:
    """Write down why a run failed that would fail again, ``FOLDER/failed/KEY.json``; the arguments are those of `write_record`.

    Raises:
        FittingRoomError: the folder cannot be written.
    """
    write_json(_failure_file(folder, key), {"recipe": trained.hash, "full": full.hash, "code": code, "reason": reason})


def failure_of(folder: Path, key: str, trained: Recipe, code: str | None) -> str | None:
    """Return why a run of this recipe failed that would fail again; None where it did not, or nobody can tell.

    Args:
        folder: of the records.
        key: of the planned run.
        trained: its recipe.
        code: the fingerprint that the run must have; None takes any.
    """
    kept = _read_failure(_failure_file(folder, key))
    same = kept.get("recipe") == trained.hash and code in (None, kept.get("code"))
    return kept["reason"] if same else None


def read_failures(folder: Path, study: Study, notify: Callable[[str], None] = lambda line: None) -> list[Failure]:
    """Return the runs of a study that failed and would fail again, in the order of its runs, cells and seeds, whatever code made them.

    Args:
        folder: of the records.
        study: the study.
        notify: called with a line for each damaged file.
    """
    reasons: dict[str, str] = {}
    for path in sorted((folder / "failed").glob("*.json")):
        if kept := _read_failure(path):
            reasons[kept["full"]] = kept["reason"]
        else:
            notify(f"{path}: not a sound record of a run that failed; left out; fittingroom study run makes its run again")
    planned = ((name, cell, seed) for name in study.runs for cell in cells(study, name) for seed in seeds_of(study, name, cell))
    recipes = ((run, recipe_of(study, *run).recipe.hash) for run in (planned if reasons else ()))
    return [Failure(*run, reasons[found]) for run, found in recipes if found in reasons]


def _failure_file(folder: Path, key: str) -> Path:
    return folder / "failed" / f"{key}.json"


def _read_failure(path: Path) -> dict[str, str]:
    """What is written down of a failed run; nothing where there is none, or none that can be read: the run is made again."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {name: str(values[name]) for name in ("recipe", "full", "code", "reason")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _gathered(run: Run, code: str, full: Recipe, reduced: Sequence[str]) -> dict[str, Any]:
    """What is kept of a run; `RunError` where it is damaged."""
    try:
        evaluation, environment = run.evaluation, run.environment
        data = {name: value for name, value in environment["data"].items() if name not in ("source", "notices")}  # both can name paths
        splits = [split for split in ("validation", "test") if split in evaluation]
        return {
            "recipe": run.recipe.values,
            "full": full.values if reduced else None,
            "reduced": list(reduced),
            "code": code,
            "environment": {**environment, "data": data, "memory_peak": run.read("state.json", {}).get("memory_peak")},
            "classes": evaluation[splits[-1]]["classes"],
            "evaluation": {split: _compact(evaluation[split]) for split in splits},
            "correct": {split: _packed(_right(run, split)) for split in splits},
            "openings": evaluation.get("openings", []),
            "history": run.history,
        }
    except FittingRoomError as error:
        raise RunError(str(error)) from None
    except (LookupError, TypeError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise RunError(f"{run.path} is damaged ({what}); train the run again") from None


def read_records(folder: Path, notify: Callable[[str], None] = lambda line: None) -> list[Record]:
    """Read all records of a folder, by name; a damaged one is left out, and a line says so.

    Args:
        folder: it need not exist.
        notify: called with each such line.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(_read(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, FittingRoomError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
            notify(f"{path}: not a sound record ({what}); left out; fittingroom study run makes its run again")
    return found


def read_results(folder: Path, study: Study, notify: Callable[[str], None] = lambda line: None) -> list[Result]:
    """Return the results of a study from the records of a folder: in the order of its runs, cells and seeds, whatever made them when.

    Of several runs of one seed, a full one comes before a reduced one, then one by the present code, then the longest. Seeds beyond those
    that the study asks for count too.

    Args:
        folder: of the records.
        study: the study.
        notify: called with a line for each damaged file, and one for all that belong to no run of the study.
    """
    known: dict[str, dict[int, Record]] = {}
    records = read_records(folder, notify)
    for record in sorted(records, key=_standing_of):
        known.setdefault(record.full.family, {}).setdefault(record.recipe.seed, record)
    results, families = [], set()
    for name in study.runs:
        for cell in cells(study, name):
            family = recipe_of(study, name, cell, 0).recipe.family
            families.add(family)
            found = known.get(family, {})
            results += [record.result(study.name, name, cell) for _, record in sorted(found.items())]
    foreign = [record.path.name for record in records if record.full.family not in families]
    if foreign:
        are = "record is" if len(foreign) == 1 else "records are"
        notify(f"{folder}: {len(foreign)} {are} of no run of {study.name}: {_some(foreign)}")
    return results


def _standing_of(record: Record) -> tuple[bool, bool, float]:
    """What puts a record before another of the same recipe and seed: the least."""
    return bool(record.reduced), record.code != fingerprint(record.recipe.model.name), -record.recipe.train.epochs


def fewer_seeds(study: Study, results: Sequence[Result]) -> Counter[str]:
    """Return of how many variations there are runs, but of fewer seeds than the study asks for, by words such as `seeds 1 of 3`."""
    there: dict[tuple[str, str], set[int]] = {}
    for result in results:
        there.setdefault(variation_key(result.run, result.cell), set()).add(result.seed)
    asked = {variation_key(name, cell): len(seeds_of(study, name, cell)) for name in study.runs for cell in cells(study, name)}
    return Counter(f"seeds {len(seeds)} of {asked[run]}" for run, seeds in there.items() if len(seeds) < asked[run])


def measure(result: Result, metric: str) -> float | None:
    """Return a metric of a run, by a name of `fittingroom.study.metrics.METRICS`, or None where the run cannot tell it."""
    name, _, epoch = metric.partition("@")
    if name in CURVES:
        return _at(result, name, epoch or "kept") if not name.startswith("test.") else _of_test(result, name, epoch)
    name, _, what = metric.partition(":")
    measures = OF_CLASSES if what and name in OF_CLASSES else OF_RUNS
    return measures[name](result, what) if name in measures else None


CURVES = tuple(f"{part}.{quantity}" for part in ("train", "validation", "test") for quantity in ("accuracy", "loss"))


def _at(result: Result, name: str, epoch: str) -> float | None:
    """A value of a curve at an epoch: a number, `last`, `best` (the highest validation accuracy) or `kept` (whose weights were kept)."""
    part, quantity = name.split(".")
    values = curve(result.history, part, quantity)
    named = {"last": len(values), "best": _best(result, "accuracy"), "kept": _kept(result)}
    number = int(epoch) if epoch.isdecimal() else named.get(epoch)
    return values[number - 1] if number is not None and 1 <= number <= len(values) else None


def _kept(result: Result) -> int:
    stop = result.recipe["train"]["stop"]
    last = result.history[-1]
    return int(last.get("best_epoch") or last["epoch"]) if stop and stop["restore_best"] else int(last["epoch"])


def _best(result: Result, quantity: str) -> int | None:
    values = curve(result.history, "validation", quantity)
    if not values or any(value is None for value in values):
        return None
    return int(np.argmax(values) if quantity == "accuracy" else np.argmin(values)) + 1  # type: ignore[arg-type]


def _of_test(result: Result, name: str, epoch: str) -> float | None:
    """The test set is seen at the end alone, unless the study validates on it."""
    if epoch:
        on_test = result.recipe["data"]["validation"] == "test"
        return _at(result, name.replace("test", "validation"), epoch) if on_test else None
    part = result.evaluation.get("test")
    return float(part[name.split(".")[1]]) if part else None


def _score(result: Result, name: str, one: str) -> float | None:
    part = result.evaluation.get("test")
    return next((float(scores[name]) for scores in part["per_class"] if scores["class"] == one), None) if part else None


def _confusion(result: Result) -> tuple[dict[str, int], NDArray[np.int64]] | None:
    part = result.evaluation.get("test")
    return ({name: label for label, name in enumerate(part["classes"])}, np.array(part["confusion"])) if part else None


def _confused(result: Result, what: str) -> float | None:
    true, _, predicted = what.partition(">")
    found = _confusion(result)
    if found is None or not {true, predicted} <= found[0].keys():
        return None
    labels, counts = found
    return float(counts[labels[true], labels[predicted]])


def _confusion_rank(result: Result, what: str) -> float | None:
    one, _, other = what.partition("|")
    found = _confusion(result)
    if found is None or not {one, other} <= found[0].keys():
        return None
    labels, counts = found
    mutual = counts + counts.T
    pairs = mutual[np.triu_indices(len(mutual), 1)]
    return 1.0 + int((pairs > mutual[labels[one], labels[other]]).sum())


def _measured(name: str) -> Callable[[Result, str], float | None]:
    return lambda result, _: _number(getattr(result.measures, name))


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _distance(result: Result, _: str) -> float | None:
    gap = result.measures.gap
    return None if gap is None else abs(gap)


def _loss_rise(result: Result, _: str) -> float | None:
    lowest = _best(result, "loss")
    losses = curve(result.history, "validation", "loss")
    return None if lowest is None else losses[-1] - losses[lowest - 1]  # type: ignore[operator]


def _gain_after(result: Result, epoch: str) -> float | None:
    then, best = (_at(result, "validation.accuracy", when) for when in (epoch, "best"))
    return None if then is None or best is None else best - then


def _largest_loss_after(result: Result, epoch: str) -> float | None:
    curves = [curve(result.history, part, "loss")[int(epoch) :] for part in ("train", "validation")]
    values = [value for one in curves for value in one if value is not None]
    return max(values, default=None)


def _size(name: str) -> Callable[[Result, str], float | None]:
    return lambda result, _: _number(result.environment.get("model", {}).get(name))


def _macro(result: Result, _: str) -> float | None:
    part = result.evaluation.get("test")
    return float(part["macro"]["f1"]) if part else None


OF_CLASSES: Mapping[str, Callable[[Result, str], float | None]] = {
    **{name: (lambda result, what, name=name: _score(result, name, what)) for name in ("f1", "precision", "recall")},  # type: ignore[misc]
    "confusion": _confused,
    "confusion-rank": _confusion_rank,
    "max_loss_after": _largest_loss_after,
    "gain_after": _gain_after,
}
OF_RUNS: Mapping[str, Callable[[Result, str], float | None]] = {
    "f1": _macro,
    "erraticness.accuracy": _measured("erraticness_accuracy"),
    "erraticness.loss": _measured("erraticness_loss"),
    "gap": _measured("gap"),
    "distance": _distance,
    "gap_opens": _measured("gap_opens"),
    "best_epoch": lambda result, _: _number(_best(result, "accuracy")),
    "best_epoch.loss": lambda result, _: _number(_best(result, "loss")),
    "epochs": lambda result, _: result.epochs,
    "epochs_to_95": _measured("epochs_to_95"),
    "loss_rise": _loss_rise,
    "seconds": lambda result, _: float(sum(line["train"]["seconds"] for line in result.history)),
    "parameters": _size("parameters"),
    "multiply_adds": _size("multiply_adds"),
}


def _compact(part: Mapping[str, Any]) -> dict[str, Any]:
    """What of an evaluation cannot be derived, without the mistakes."""
    calibration = {name: part["calibration"][name] for name in ("expected_calibration_error", "overconfidence", "brier")}
    return {**{name: part[name] for name in ("correct", "count", "loss", "confusion")}, "calibration": calibration}


def _completed(part: Mapping[str, Any], classes: list[str]) -> dict[str, Any]:
    """An evaluation as ``evaluation.json`` has it, derived from what is kept of it."""
    correct, count = part["correct"], part["count"]
    scores = metrics.class_scores(part["confusion"])
    low, high = metrics.wilson_interval(correct, count)
    return {
        "accuracy": correct / count,
        "interval": {"method": "wilson", "confidence": 0.95, "low": low, "high": high},
        "loss": part["loss"],
        "count": count,
        "correct": correct,
        "errors": count - correct,
        "macro": asdict(metrics.macro_average(scores)),
        "weighted": asdict(metrics.weighted_average(scores)),
        "classes": classes,
        "per_class": [{"class": name, **asdict(one)} for name, one in zip(classes, scores, strict=True)],
        "confusion": part["confusion"],
        "calibration": part["calibration"],
    }


def _right(run: Run, split: str) -> NDArray[np.bool_]:
    part = run.read_predictions(split)
    return np.asarray(part.probabilities.argmax(axis=1) == part.labels)


def _packed(right: NDArray[np.bool_]) -> dict[str, Any]:
    return {"count": len(right), "bits": base64.b64encode(np.packbits(right).tobytes()).decode()}


def _unpacked(part: Mapping[str, Any]) -> NDArray[np.bool_]:
    packed = np.frombuffer(base64.b64decode(part["bits"], validate=True), np.uint8)
    return np.unpackbits(packed, count=part["count"]).astype(bool)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        # A recipe is not a measurement: its values stay as they are.
        return {key: item if key in ("recipe", "full") else _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _lines(values: Mapping[str, Any]) -> str:
    """JSON with a line for each key, and one for each epoch: small, and its changes can be read."""
    rows = [f"{json.dumps(key)}: {_epochs(value) if key == 'history' else _json(value)}" for key, value in values.items()]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _epochs(history: list[Any]) -> str:
    return "[\n" + ",\n".join(map(_json, history)) + "\n]"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def checksum(values: Mapping[str, Any]) -> str:
    """Return what a record says of itself, so that a damaged one is noticed."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read(path: Path) -> Record:
    values = json.loads(path.read_text(encoding="utf-8"))
    stated = values.pop("sha256")
    if stated != checksum(values):
        raise ValueError("its checksum does not agree with it")
    return _record(path, values)


def _record(path: Path, values: Mapping[str, Any]) -> Record:
    trained = recipe.load(values["recipe"]).recipe
    full = recipe.load(values["full"]).recipe if values["full"] else trained
    models.entry(trained.model.name)  # a model may have had another name once
    record = Record(path, trained, full, values)
    record.result("", "", {})  # what is missing is missed here
    return record


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
