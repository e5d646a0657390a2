from __future__ import annotations

import ast

import pytest

from fittingroom import models
from fittingroom.errors import UsageError
from fittingroom.study import code
from fittingroom.study.code import EVERYWHERE, PACKAGE, fingerprint, meaning, meaning_of_c

CODE = '''
"""What this module is for."""
__all__ = ["halved"]

def halved(value: float) -> float:
    """Return half of it."""
    # Nothing is as simple.
    if value < 0:
        raise ValueError("too small")
    return value / 2
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# Nothing is as simple.", "# Everything is."),
        ("Return half of it.", "Return its half."),
        ("What this module is for.", "Another word."),
        ('__all__ = ["halved"]', '__all__ = ["halved", "doubled"]'),
        ("(value: float) -> float", "(value: int)"),
        ("too small", "must not be negative"),
        ("    if value < 0:\n        raise", "    if (value\n        < 0):\n\n        raise"),
    ],
)
def test_words_are_not_code(old: str, new: str) -> None:
    assert old in CODE
    assert meaning(CODE.replace(old, new)) == meaning(CODE)


@pytest.mark.parametrize(("old", "new"), [("/ 2", "/ 3"), ("< 0", "<= 0"), ("ValueError", "TypeError"), ("def halved", "def half")])
def test_code_is(old: str, new: str) -> None:
    assert meaning(CODE.replace(old, new)) != meaning(CODE)


def test_a_part_of_a_module() -> None:
    more = CODE + "\ndef doubled(value):\n    return 2 * value\n"
    assert meaning(more, ["halved"]) == meaning(CODE, ["halved"]) != meaning(more)
    assert meaning(more.replace("/ 2", "/ 3"), ["halved"]) != meaning(more, ["halved"])


def test_a_part_has_the_constants_it_names() -> None:
    module = "HALF = 0.5\nMOST: int = 4\nOTHER = 3\n" + CODE.replace("value / 2", "min(value * HALF, MOST)")
    part = meaning(module, ["halved"])
    assert meaning(module.replace("0.5", "0.25"), ["halved"]) != part
    assert meaning(module.replace("4", "5"), ["halved"]) != part
    assert meaning(module.replace("OTHER = 3", "OTHER = 2"), ["halved"]) == part


def test_it_is_the_same_with_every_version_of_python() -> None:
    """Versions add fields to the tree, and write a text inside a text in their own ways."""
    assert meaning("""def told(one):\n    return f"{one['name']} is {one.size:>{width}}"\n""") == (
        "Module(body=[FunctionDef(name='told', args=arguments(args=[arg(arg='one')]), body=[Return(value=JoinedStr(values=["
        "FormattedValue(value=Subscript(value=Name(id='one', ctx=Load()), slice=Constant(value='name'), ctx=Load()), conversion=-1), "
        "Constant(value=' is '), FormattedValue(value=Attribute(value=Name(id='one', ctx=Load()), attr='size', ctx=Load()), conversion=-1, "
        "format_spec=JoinedStr(values=[Constant(value='>'), "
        "FormattedValue(value=Name(id='width', ctx=Load()), conversion=-1)]))]))])])"
    )


@pytest.mark.parametrize("file", [name for name, only in EVERYWHERE.items() if only])
def test_the_parts_that_count_exist(file: str) -> None:
    """A function that is renamed must not drop out of every fingerprint in silence."""
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    assert set(EVERYWHERE[file]) <= {getattr(line, "name", "") for line in tree.body}


def test_c() -> None:
    code = '#define HALF 0.5f /* a half */\nfloat halved(float x) {\n    return x * HALF;  // exact\n}\nchar *text = "// no comment";\n'
    same = '#define HALF 0.5f\n\nfloat halved(float x) {\n\treturn x * HALF;\n}\nchar *text = "// no comment";\n'
    assert meaning_of_c(code) == meaning_of_c(same)
    assert meaning_of_c(code) != meaning_of_c(code.replace("0.5f", "0.25f"))
    assert meaning_of_c(code) != meaning_of_c(code.replace("// no comment", "// comment"))
    assert meaning_of_c("#define A\nB") != meaning_of_c("#define A B"), "lines mean something to the preprocessor"


def test_each_model_has_its_own_and_they_stay() -> None:
    assert fingerprint("lenet5") == fingerprint("lenet5")
    assert len({fingerprint(name) for name in ("lenet5", "three-block", "resnet20", "svc-rbf")}) == 4
    assert fingerprint("basic") == fingerprint("standard"), "they are built by the same file"
    assert all(len(fingerprint(name)) == 16 for name in models.names())
    with pytest.raises(UsageError, match="did you mean 'lenet5'"):
        fingerprint("lenet")


def test_a_classical_model_does_not_depend_on_what_trains_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: fingerprint(name) for name in ("svc-rbf", "lenet5")}
    monkeypatch.setattr(code, "NETWORKS", {})
    assert fingerprint.__wrapped__("svc-rbf") == before["svc-rbf"]
    assert fingerprint.__wrapped__("lenet5") != before["lenet5"]
    source = (PACKAGE / "models" / "classical.py").read_text(encoding="utf-8")
    assert "fittingroom.train" not in source
    assert "fittingroom.native" not in source
