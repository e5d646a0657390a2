"""The documentation is true: commands run as written, links lead somewhere, options exist, what is generated is up to date.

Commands run one after another in one folder, with a small made-up set in Fashion-MNIST's place. What a block shows must come out, in
that order, but for figures, paths and the names of runs. ``<!-- test: skip (why) -->`` before a block leaves it out,
``<!-- test: run (why) -->`` runs it without looking at what it prints, and ``<!-- test: file (name) -->`` is there as that file.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import runpy
import shlex
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import fittingroom
from fittingroom import recipe
from fittingroom.data.arrays import Images
from fittingroom.data.catalog import Surroundings
from fittingroom.study.file import load
from fittingroom.study.results import read_results
from fittingroom.study.searches import with_found
from fittingroom.study.verdict import judge
from tests.cli.running import Done, every_command
from tests.cli.running import fittingroom as run_command
from tests.data.made import write_idx

ROOT = Path(fittingroom.__file__).parent.parent
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if page.is_file()]
BLOCK = re.compile(
    r"(?:<!-- test: (?P<mode>\w+)(?: \((?P<why>[^\n]*)\))? -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the documentation is not installed with the package")
every_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


@dataclass(frozen=True)
class Command:
    """A command of a page, what the page shows of its output, and whether that is to be looked at."""

    line: str
    shown: list[str]
    compared: bool


def blocks(page: Path, kind: str) -> Iterator[re.Match[str]]:
    return (found for found in BLOCK.finditer(page.read_text(encoding="utf-8")) if found["kind"] == kind)


def commands(page: Path) -> list[Command]:
    found: list[Command] = []
    for block in blocks(page, "console"):
        if block["mode"] == "skip":
            continue
        for line in block["text"].splitlines():
            if line.startswith("$ "):
                found.append(Command(line[2:], [], block["mode"] != "run"))
            elif line.strip():
                found[-1].shown.append(line)
    return found


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small set in Fashion-MNIST's place, a few photographs, and nothing else of the user's in reach."""
    patterns = np.random.default_rng(0).integers(0, 256, (10, 28, 28, 1), dtype=np.uint8)
    train, test = (Images(patterns[labels], labels) for labels in (np.arange(300, dtype=np.int64) % 10, np.arange(50, dtype=np.int64) % 10))
    write_idx(tmp_path / "data" / "fashion-mnist", train, test)
    from PIL import Image

    for name in ("boot.png", "photo.jpg"):
        Image.fromarray(patterns[9, ..., 0]).save(tmp_path / name)
    monkeypatch.delenv("FITTINGROOM_DATA", raising=False)
    surroundings = Surroundings(os.environ, tmp_path / "home", tmp_path, tmp_path / "cache")
    monkeypatch.setattr(Surroundings, "of_this_process", lambda: surroundings)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@every_page
def test_commands_run_as_written(page: Path, workshop: Path) -> None:
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["mode"] == "file":
            (workshop / block["why"]).write_text(block["text"])
    for command in commands(page):
        name, *arguments = shlex.split(command.line)
        assert name == "fittingroom", command.line
        done = run_command(*arguments)
        assert done.code == 0, f"{command.line}: {done.err}"
        if command.compared:
            compare(command, done)


def compare(command: Command, done: Done) -> None:
    """Every line that the page shows comes out, in that order."""
    written = iter([loosely(line) for line in done.both.splitlines()])
    for line in command.shown:
        assert loosely(line) in written, f"{command.line}\ndoes not print\n{line}\nbut\n{done.both}"


def loosely(line: str) -> str:
    """A line without what differs from machine to machine: figures, absolute paths, the names of runs, how wide a column is."""
    line = re.sub(r"\d{8}-\d{6}-([a-z0-9-]+)-[0-9a-f]{4}\b", r"run-\1", line)
    line = re.sub(r"(?<!\S)/\S+", "/path", line)
    line = re.sub(r"[0-9a-f]{16}…", "checksum", line)
    return " ".join(re.sub(r"(?<![\w-])-?\d[\d,.]*|\d[\d,.]*", "0", line).split())


@every_page
def test_python_runs_as_written(page: Path, workshop: Path) -> None:
    for block in blocks(page, "python"):
        exec(compile(block["text"], f"{page.name}", "exec"), {})  # what a reader would paste
    examples = "\n".join(block["text"] for block in blocks(page, "pycon"))
    test = doctest.DocTestParser().get_doctest(examples, {}, page.name, str(page), 0)
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        outcome = doctest.DocTestRunner().run(test, out=report.write)
    assert outcome.failed == 0, report.getvalue()


@every_page
def test_recipes_are_accepted(page: Path) -> None:
    for block in blocks(page, "toml"):
        values = tomllib.loads(block["text"])
        assert recipe.load(values).recipe.model.name == values["model"]["name"]


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), f"{page.name}: {target} does not exist"
        if anchor:
            assert anchor in headings(linked), f"{page.name}: {target} is no heading"


def headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.fixture(scope="module")
def options() -> set[str]:
    """Every option of every command, as ``--help`` has it."""
    return {option for name in ["", *every_command()] for option in re.findall(r"--[a-z][a-z-]+", run_command(*name.split(), "--help").out)}


@every_page
def test_options_exist(page: Path, options: set[str]) -> None:
    text = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= options


def test_every_command_is_described() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert [name for name in every_command() if f"fittingroom {name}" not in text] == []


def test_the_page_of_recipes_is_up_to_date() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "make_recipes.py"))["text"]()
    assert (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8") == written, "make pages"


def test_the_words_of_the_findings_rest_on_what_is_compared() -> None:
    """A verdict that stays, but of another rival, stops the page too."""
    findings = runpy.run_path(str(ROOT / "docs" / "make_findings.py"))
    records = ROOT / "records" / "studies" / "cnn-vs-svm"
    study = with_found(load("cnn-vs-svm"), records)
    verdicts = judge(study, read_results(records, study))
    assert "one convolution does better than two" in findings["_prose"](study.name, verdicts)
    number = next(index for index, one in enumerate(verdicts) if one.claim.id == "fewer-layers-do-better")
    first, second = verdicts[number].evidence["comparisons"]
    verdicts[number] = replace(verdicts[number], evidence={**verdicts[number].evidence, "comparisons": [second, first]})
    with pytest.raises(SystemExit, match="fewer-layers-do-better is supported, closest layers = 3"):
        findings["_prose"](study.name, verdicts)


@pytest.mark.parametrize(
    ("written", "intended", "word"),
    [
        ("supported", "reproduced", "survives"),
        ("supported", "not supported", "changes"),
        ("lower than claimed", "reproduced", "changes"),
        ("lower than claimed", "higher than claimed", "fails in both"),
        ("undecided", "supported", "open"),
    ],
)
def test_what_becomes_of_a_conclusion(written: str, intended: str, word: str) -> None:
    findings = runpy.run_path(str(ROOT / "docs" / "make_findings.py"))
    study = load("custom-cnn")
    study = study.model_copy(update={"claims": study.claims[:2]})
    pair = [replace(one, verdict=verdict) for one, verdict in zip(judge(study, []), (written, intended), strict=True)]
    assert [one.claim.reading["normalise"] for one in pair] == ["as-written", "as-intended"]
    (found,) = findings["_pairs"](study, pair)
    assert [one.verdict for one in found] == [written, intended]
    assert findings["_side_by_side"](("as-written", "as-intended"), [found]).splitlines()[-1].endswith(f"| {word} |")


def test_the_page_of_findings_is_made_from_the_records() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "make_findings.py"))["text"]()
    assert (ROOT / "docs" / "findings.md").read_text(encoding="utf-8") == written, "make pages"


def test_the_drawing_of_the_slip_is_made_from_the_records() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "make_slip.py"))["text"]()
    assert (ROOT / "docs" / "slip.svg").read_text(encoding="utf-8") == written, "make pages"
    ElementTree.fromstring(written)


def test_what_the_readme_says_of_make(workshop: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= set(targets)
