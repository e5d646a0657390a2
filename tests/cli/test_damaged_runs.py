"""A run folder with any of its files damaged: each command says so in one line, or does not need the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import fittingroom, snapshot

FILES = (
    "recipe.toml",
    "origins.json",
    "state.json",
    "environment.json",
    "metrics.jsonl",
    "evaluation.json",
    "weights.safetensors",
    "predictions/validation.safetensors",
    "predictions/test.safetensors",
)


def hollow(value: Any) -> Any:
    """The same JSON value with every inner value replaced by one of a wrong kind."""
    return {key: [None] if not isinstance(item, list) else 5 for key, item in value.items()}


def hollow_deep(value: Any) -> Any:
    return {key: hollow(item) if isinstance(item, dict) else item for key, item in value.items()}


def reshaped(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        lines = content.decode().splitlines() if content.count(b'"epoch"') > 1 else [content.decode()]
        return "\n".join(json.dumps(change(json.loads(line))) for line in lines).encode() + b"\n"

    return damage


Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "noise": lambda content: bytes((byte * 37 + place) % 256 for place, byte in enumerate(content)),
    "bare": lambda content: b"{}\n",
    "list": lambda content: b"[1, 2]\n",
    "huge promise": lambda content: b"\xff" * 8 + content[8:],
    "hollow": reshaped(hollow),
    "hollow within": reshaped(hollow_deep),
}
JSON_DAMAGES = ("empty", "noise", "bare", "list", "hollow", "hollow within")
CASES = [
    *(("recipe.toml", damage) for damage in ("empty", "cut", "noise")),
    *((name, damage) for name in FILES if name.endswith("json") for damage in JSON_DAMAGES),
    *(("metrics.jsonl", damage) for damage in ("cut", "noise", "bare", "hollow", "hollow within")),
    *((name, damage) for name in FILES if name.endswith("safetensors") for damage in ("cut", "noise", "huge promise")),
]


def commands(run: Path, picture: Path) -> list[list[object]]:
    return [
        ["evaluate", run, "--threads", 1],
        ["report", run],
        ["predict", run, picture],
        ["runs", "show", run],
        ["runs", "show", run, "--json"],
        ["train", "--resume", run, "--threads", 1, "-q"],
    ]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.new("L", (12, 12), 90).save(path)
    return path


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_damage_is_one_line(runs: Path, picture: Path, name: str, damage: str) -> None:
    run = runs / "network"
    before = snapshot(run)
    damaged = {**before, name: DAMAGES[damage](before[name])}
    for command in commands(run, picture):
        restore(run, damaged)
        found = snapshot(run)
        done = fittingroom(*command)
        assert "Traceback" not in done.err
        if done.code != 0:
            done.refused(1, f"{run}")
            assert snapshot(run) == found, f"{command[0]} failed, and changed the folder"


def restore(run: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        if content != b"folder":
            (run / path).write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_one_line(runs: Path, picture: Path, name: str) -> None:
    run = runs / "network"
    before = snapshot(run)
    for command in commands(run, picture):
        restore(run, before)
        (run / name).unlink()
        found = snapshot(run)
        done = fittingroom(*command)
        if done.code != 0:
            done.refused(1, f"{run}")
            assert snapshot(run) == found
        if name == "weights.safetensors" and command[0] in ("evaluate", "predict"):
            assert (done.code, "has no weights" in done.err) == (1, True)


@pytest.mark.parametrize("damage", ["cut", "noise", "huge promise"])
def test_damaged_weights_of_a_classical_model(runs: Path, damage: str) -> None:
    weights = runs / "classical" / "weights.safetensors"
    weights.write_bytes(DAMAGES[damage](weights.read_bytes()))
    fittingroom("evaluate", runs / "classical").refused(1, str(weights), "damaged", "train the run again")


def test_weights_of_another_model(runs: Path) -> None:
    weights = runs / "network" / "weights.safetensors"
    weights.write_bytes((runs / "classical" / "weights.safetensors").read_bytes())
    fittingroom("evaluate", runs / "network").refused(1, str(weights), "does not fit the recipe")


def test_a_damaged_run_does_not_hide_the_others(runs: Path) -> None:
    (runs / "network" / "state.json").write_text("{")
    (runs / "no run at all").mkdir()
    done = fittingroom("runs", "list", "--json")
    assert (done.code, [entry["run"] for entry in done.json]) == (0, ["classical"])
    assert done.err.startswith("skipped: ")
    assert "state.json is damaged" in done.err
    assert "classical" in fittingroom("runs", "list").out


@pytest.mark.parametrize("command", [["evaluate"], ["report"], ["runs", "show"], ["train", "--resume"]])
def test_a_missing_run(runs: Path, command: list[str]) -> None:
    fittingroom(*command, "clasical").refused(1, "no run 'clasical'", "did you mean 'classical'?")
    (runs / "empty").mkdir()
    fittingroom(*command, runs / "empty").refused(1, "is no run folder: it has no recipe.toml")
    fittingroom(*command, "last", "--runs-dir", "nowhere").refused(1, "no run 'last' here or in nowhere")
    assert not Path("nowhere").exists()
