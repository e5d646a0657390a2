"""The rules that keep the package easy to find one's way around: imports go one way, nothing heavy at start, nothing pickled."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import fittingroom

PACKAGE = Path(fittingroom.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up. A room imports from rooms that stand on an earlier line, and from itself.
ROOMS = (
    ("errors",),
    ("seeds", "files"),
    ("recipe", "environment"),
    ("data",),
    ("native",),
    ("models",),
    ("train",),
    ("runs",),
    ("evaluate",),
    ("audit",),
    ("experiment",),
    ("pace",),
    ("workers",),
    ("cluster",),
    ("tune",),
    ("study",),
    ("report", "ship"),
    ("estimator", "api"),
    ("cli",),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}
every_module = pytest.mark.parametrize("module", MODULES)


def room_of(module: str) -> str:
    return module.split(".")[1]


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(module: str) -> Iterator[str]:
    """The modules that a module imports anywhere, also within functions, but for those that only the type checker sees."""
    pending: list[ast.AST] = [tree(module)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else str(node.module) for name in names)
        pending += ast.iter_child_nodes(node)


@every_module
def test_every_room_has_its_place(module: str) -> None:
    assert module == "fittingroom" or room_of(module) in RANK, "a new room: give it its place in ROOMS"


@every_module
def test_imports_go_one_way(module: str) -> None:
    inside = {name for name in imports(module) if name.split(".")[0] == "fittingroom"}
    if module == "fittingroom":
        assert not inside, "the package itself loads its names when they are first used"
        return
    own = room_of(module)
    # `import fittingroom.models` is as good as `from fittingroom import models`; the bare package brings nothing along.
    wrong = {name for name in inside - {"fittingroom"} if room_of(name) != own and RANK[room_of(name)] >= RANK[own]}
    assert not wrong, f"{module} stands below {', '.join(sorted(wrong))}"


@every_module
def test_names_what_is_public(module: str) -> None:
    if not tree(module).body[1:]:
        return  # a package that holds nothing itself
    loaded = importlib.import_module(module)
    assert all(hasattr(loaded, name) for name in loaded.__all__), "a name in __all__ does not exist"
    assert len(set(loaded.__all__)) == len(loaded.__all__)
    assert not any(name.startswith("_") for name in loaded.__all__)


@every_module
def test_postpones_annotations_and_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(tree(module))
    if len(tree(module).body) > 1 and room_of(f"{module}.") != "__main__":
        assert "__future__" in set(imports(module))


@every_module
def test_nothing_is_pickled_or_run_from_files(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(module)}
    assert not roots & {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"torch.load", "torch.save", "eval", "exec", "yaml.load", "np.save"}
            allowed = [keyword for keyword in node.keywords if keyword.arg == "allow_pickle"]
            assert all(ast.unparse(keyword.value) == "False" for keyword in allowed)


@every_module
def test_randomness_is_handed_in(module: str) -> None:
    assert "random" not in set(imports(module))
    explicit = {"Generator", "PCG64", "SeedSequence", "default_rng", "RandomState"}
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            assert text not in {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all"}
            if text.startswith("np.random."):
                assert text.split(".")[2] in explicit, f"{module}, line {node.lineno}: {text} draws from the global generator"


HEAVY = ["torch", "numpy", "scipy", "sklearn", "matplotlib", "PIL", "safetensors", "jinja2", "pydantic"]


def loaded_after(code: str) -> list[str]:
    """Which of the heavy packages a fresh interpreter has loaded after ``code``."""
    ending = f"\nimport json, sys\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + ending], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stderr.splitlines()[-1])
    return loaded


def test_import_costs_nothing() -> None:
    assert loaded_after("import fittingroom\ndir(fittingroom)") == []


def test_help_imports_nothing_heavy() -> None:
    code = "import sys\nfrom fittingroom.cli.main import main\nsys.argv = ['fittingroom', '--help']\ntry: main()\nexcept SystemExit: pass"
    assert loaded_after(code) == []


def test_public_face() -> None:
    """`train` and `evaluate` are rooms too: importing those must not put a module in the place of the function."""
    assert set(fittingroom.__all__) <= set(dir(fittingroom))
    for room in ("train", "evaluate"):
        importlib.import_module(f"fittingroom.{room}")
    for name in fittingroom.__all__:
        assert getattr(fittingroom, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        _ = fittingroom.tarin
