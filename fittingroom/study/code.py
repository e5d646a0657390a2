"""Fingerprints of the code that a result depends on: what a changed comment leaves as it is, and a changed step does not.

A recipe's values are compared themselves, and the data have a checksum; so neither the module of recipes nor the readers of file
formats are part of a fingerprint. What is: how data are split, scaled, augmented and handed out; the model and what it is built
from; for a network the loop, its optimisers and losses, and the native kernels; and how an experiment puts these together.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

from fittingroom import models

__all__ = ["fingerprint", "meaning", "meaning_of_c"]

PACKAGE = Path(__file__).parent.parent

EVERYWHERE: Mapping[str, tuple[str, ...]] = {
    "seeds.py": (),
    "experiment.py": (
        "Machine", "Prepared", "prepare", "new_model", "_train_network", "_train_classical", "_features", "_probabilities", "_predictions",
    ),
    **{f"data/{name}.py": () for name in ("normalise", "resize", "split")},
    "models/__init__.py": ("build", "build_classical", "_outline"),
}  # fmt: skip
"""Files, and folders of files, that every result depends on, beside the model's own; of some files these functions and classes alone."""

NETWORKS: Mapping[str, tuple[str, ...]] = {"data/augment.py": (), "data/resident.py": (), "train": (), "native": ()}
"""The same for networks alone: classical models are fitted in one go."""

# A comment, or a text: inside a text there is no comment.
C_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)


@cache
def fingerprint(model: str) -> str:
    """Return sixteen hexadecimal digits that stand for the code behind the results of a model.

    Raises:
        UsageError: no model has that name.
    """
    entry = models.entry(model)
    builder = entry.builder.split(":")[0]
    files: dict[Path, tuple[str, ...]] = dict.fromkeys(_imported(PACKAGE.parent / f"{builder.replace('.', '/')}.py"), tuple[str, ...]())
    for name, only in {**EVERYWHERE, **(NETWORKS if entry.kind == "network" else {})}.items():
        part = PACKAGE / name
        files |= dict.fromkeys(part.glob("*.*") if part.is_dir() else [part], only)
    digest = hashlib.sha256()
    for file, only in sorted(files.items()):
        if file.suffix in (".py", ".c", ".h"):
            digest.update(f"{file.relative_to(PACKAGE).as_posix()}\n{_meaning_of(file, only)}\n".encode())
    return digest.hexdigest()[:16]


def meaning(source: str, only: Collection[str] = ()) -> str:
    """Return Python code without what no result depends on: comments and layout, docstrings, annotations, texts of errors, `__all__`.

    Args:
        source: the code of a module.
        only: names of its functions and classes that count, with the constants they name; none means that all of it does.
    """
    tree = _Bare().visit(ast.parse(source))
    if only:
        chosen = [line for line in tree.body if getattr(line, "name", None) in only]
        used = {node.id for line in chosen for node in ast.walk(line) if isinstance(node, ast.Name)}
        tree.body = [line for line in tree.body if line in chosen or used & _assigned(line)]
    return _written(tree)


def meaning_of_c(source: str) -> str:
    """Return C code without comments, its white space made one."""
    bare = C_TOKEN.sub(lambda found: found.group() if found.group().startswith('"') else " ", source)
    # The end of a line means something to the preprocessor.
    return "\n".join(" ".join(line.split()) for line in bare.splitlines() if line.strip())


class _Bare(ast.NodeTransformer):
    """Takes out of a tree what no result depends on."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = [line for line in node.body if _assigned(line) != {"__all__"}]
        return self._bare(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._bare(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._bare(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        # Python 3.12.0 and 3.12.1 end a format that ends with a value in an empty text.
        node.values = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
        return self.generic_visit(node)

    def _bare(self, node: ast.Module | ast.FunctionDef | ast.ClassDef) -> ast.AST:
        node.body = [line for line in node.body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]
        return self.generic_visit(node)


def _assigned(node: ast.stmt) -> set[str]:
    """The names that a line of a module gives a value."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _written(part: object) -> str:
    """A tree as text that is the same with every version of Python: what a version adds to the tree is empty where it is not used.

    `ast.unparse` quotes a text inside a text in one way before Python 3.12 and in another from then on.
    """
    if isinstance(part, list):
        return f"[{', '.join(map(_written, part))}]"
    if not isinstance(part, ast.AST):
        return repr(part)
    fields = ((name, getattr(part, name, None)) for name in part._fields)
    return f"{type(part).__name__}({', '.join(f'{name}={_written(value)}' for name, value in fields if value not in (None, []))})"


@cache
def _meaning_of(file: Path, only: tuple[str, ...]) -> str:
    source = file.read_text(encoding="utf-8")
    return meaning(source, only) if file.suffix == ".py" else meaning_of_c(source)


@cache
def _imported(file: Path) -> frozenset[Path]:
    """A module of a model with all those of the same room that it imports, directly or through others."""
    found = {file}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fittingroom.models."):
            found |= _imported(PACKAGE.parent / f"{str(node.module).replace('.', '/')}.py")
    return frozenset(found)
