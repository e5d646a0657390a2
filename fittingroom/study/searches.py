"""The searches of a study: runs whose values are not written down but found, by the tuner.

    FOLDER/searches/KEY-DIGITS/   the tuner's folder of a search; the digits stand for its space and the code
    RECORDS/searches/KEY.json     what is kept of one that has come to a winner

A search is carried out before the runs are planned: what it finds becomes a run of the study like any other, on the study's own seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fittingroom import environment
from fittingroom.cluster import AnyCrew
from fittingroom.errors import FittingRoomError
from fittingroom.files import write_json
from fittingroom.study.code import fingerprint
from fittingroom.study.grid import combined, search_key, space_of
from fittingroom.study.results import checksum
from fittingroom.study.schema import Found, Study
from fittingroom.tune.space import Space

if TYPE_CHECKING:
    from fittingroom.tune.search import Search

__all__ = ["Searched", "carry_out", "searches", "with_found"]

Watched = Callable[["Search", int, float | None], AbstractContextManager[Callable[[str], None]]]


@dataclass(frozen=True)
class Searched:
    """A search of a study.

    Attributes:
        key: names it, and its files.
        space: what is searched.
    """

    key: str
    space: Space

    @property
    def code(self) -> str:
        """Fingerprint of the code that matters to it."""
        return fingerprint(self.space.recipe({}).recipe.model.name)


def searches(study: Study, only: Iterable[str] = ()) -> list[Searched]:
    """Return the searches that a study asks for, in its order.

    Args:
        study: the study.
        only: names of runs; none means all.
    """
    wanted = set(only)
    return [
        Searched(search_key(name, cell), space_of(study, name, cell))
        for name, runs in study.runs.items()
        if runs.search is not None and (not wanted or name in wanted)
        for cell in combined(runs.grid)
    ]


def with_found(study: Study, records: Path, notify: Callable[[str], None] = lambda line: None, *, code: bool = False) -> Study:
    """Return a study with what its searches found, as far as it is recorded.

    Args:
        study: the study.
        records: folder of its records; it need not exist.
        notify: called with a line for each record that is damaged or of another search.
        code: leave out what an earlier state of the code found.
    """
    found = {}
    for one in searches(study):
        path = _path(records, one)
        if not path.exists():
            continue
        try:
            values = _read(path)
            if values["space"] != _described(one.space):
                notify(f"{path}: of another space than the study names; left out, and the search is to be made again")
            elif not code or values["code"] == one.code:
                found[one.key] = _found(values)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ValidationError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
            notify(f"{path}: not a sound record ({what}); left out; fittingroom study run makes its search again")
    return study.model_copy(update={"found": found})


@contextmanager
def _unwatched(search: Search, places: int, deadline: float | None) -> Iterator[Callable[[str], None]]:
    """Tell nobody of a search."""
    yield lambda line: None


def carry_out(one: Searched, folder: Path, records: Path, crew: AnyCrew, watched: Watched = _unwatched) -> None:
    """Carry a search out, or go on with it, and record what it found.

    Args:
        one: the search.
        folder: of the study's runs; the caller owns it.
        records: folder of the study's records.
        crew: the workers, here or on a cluster.
        watched: watches it, given how many trials there are side by side and until when; what it enters takes a line for each that ends.

    Raises:
        ModuleNotFoundError: Optuna, an extra, is not installed.
        FittingRoomError: it came to no winner, or something that a person must mend.
    """
    from fittingroom.tune.finalists import outcome
    from fittingroom.tune.search import Search
    from fittingroom.tune.together import carry_out_with
    from fittingroom.tune.together import places as side_by_side

    with Search.at(_folder(folder, one), one.space, places=side_by_side(crew, 1)) as search:
        deadline = search.deadline()
        with watched(search, side_by_side(crew, 1), deadline) as notify:
            carry_out_with(search, crew, deadline=deadline, notify=notify)
        came = outcome(search)
    if came.winner is None:
        raise FittingRoomError(f"search {one.key}: {came.left}")
    winner = came.winner.trial
    values = {
        "space": _described(one.space),
        "code": one.code,
        "environment": environment.describe(),
        "recipe": one.space.recipe(winner.params).recipe.values,
        "search": _without_paths(came.to_json()),
    }
    path = _path(records, one)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**values, "sha256": checksum(values)})


def _path(records: Path, one: Searched) -> Path:
    return records / "searches" / f"{one.key}.json"


def _folder(folder: Path, one: Searched) -> Path:
    """A search of another space, or by other code, is another search."""
    return folder / "searches" / f"{one.key}-{checksum({'space': _described(one.space), 'code': one.code})[:8]}"


def _described(space: Space) -> dict[str, Any]:
    """What must be the same for a record to be one of this search; the base as the recipe that it comes to, not as a place on a disk."""
    values = space.model_dump(mode="json", exclude={"base", "set"}) | {"base": space.recipe({}).recipe.values}
    described: dict[str, Any] = json.loads(json.dumps(values))
    return described


def _without_paths(search: dict[str, Any]) -> dict[str, Any]:
    """A search without the folders of its trials, which name the machine."""
    return {key: _bare(value) if key == "best" else [*map(_bare, value)] if key == "trials" else value for key, value in search.items()}


def _bare(trial: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in trial.items() if key != "run"}


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if values.pop("sha256") != checksum(values):
        raise ValueError("its checksum does not agree with it")
    return values


def _found(values: Mapping[str, Any]) -> Found:
    search = values["search"]
    finalists, trials = ({one["number"]: one for one in search[part]} for part in ("finalists", "trials"))
    return Found(
        recipe=values["recipe"],
        params=trials[search["winner"]]["params"],
        trials=len(trials),
        given_up=sum(trial["state"] == "pruned" for trial in trials.values()),
        metric=search["metric"],
        best=search["best"]["value"],
        scores=finalists[search["winner"]]["scores"],
    )
