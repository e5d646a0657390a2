from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from fittingroom.data.arrays import Images
from tests.audit.tables import DIGITS, FASHION
from tests.cli.running import fittingroom
from tests.data.made import npz_bytes


def pasted(text: str, name: str = "table.txt") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def test_a_table_that_holds() -> None:
    done = fittingroom("audit", "table", pasted(FASHION["custom"]), "--data", "fashion-mnist")
    assert done.code == 0, done.err
    assert done.out.startswith("Custom CNN:")
    assert "Fashion-MNIST's test set" in done.out


def test_a_table_of_other_data_exits_3() -> None:
    done = fittingroom("audit", "table", pasted(DIGITS), "--data", "fashion-mnist", "--json")
    assert done.code == 3
    (table,) = done.json["tables"]
    assert table["verdict"] == "fails"
    supports = table["findings"][0]
    assert set(supports) == {"check", "verdict", "sentence", "evidence"}
    assert supports["evidence"]["same_as"][0]["name"] == "mnist"
    assert fittingroom("audit", "table", "table.txt", "--data", "mnist").code == 0


def test_the_example_of_the_docs() -> None:
    docs = Path(__file__).parents[2] / "docs" / "audit.md"
    done = fittingroom("audit", "table", docs, "--data", "fashion-mnist", "--accuracy", "99.43%", "--json")
    assert done.code == 3
    (table,) = done.json["tables"]
    text = docs.read_text(encoding="utf-8")
    for finding in table["findings"]:
        if finding["check"] != "accuracy":
            assert f"`{finding['check']}` **{finding['verdict']}**" in text


def test_a_quoted_accuracy() -> None:
    done = fittingroom("audit", "table", pasted(DIGITS), "--accuracy", "99.43%")
    assert done.code == 3
    assert "quoted accuracy 99.43%" in done.out
    fittingroom("audit", "table", "table.txt", "--accuracy", "high").refused(2, "'high' is no share")


def test_several_tables_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(FASHION.values()).encode())))
    done = fittingroom("audit", "table", "-", "--json")
    assert done.code == 0
    assert [table["subject"] for table in done.json["tables"]] == ["Custom CNN:", "AlexNet:", "LeNet-5:", "ResNet:"]


def test_a_caption_cannot_command_the_terminal() -> None:
    done = fittingroom("audit", "table", pasted(FASHION["lenet"].replace("LeNet-5:", "LeNet \x1b[31m red")))
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing here", "no table found"),
        (FASHION["custom"].replace("3\t0.91\t0.91\t0.91\t1000\n", ""), "class 3 is missing"),
        (FASHION["custom"].replace("0.91\t0.91\t0.91", "0.910.91\t0.91"), "merged"),
        (FASHION["custom"].replace("3\t0.91\t", "3\t91\t"), "need their sign"),
        ("\0", "not a text file"),
    ],
)
def test_bad_input_is_one_line(text: str, words: str) -> None:
    fittingroom("audit", "table", pasted(text)).refused(2, "table.txt", words)


def test_no_such_file_or_set() -> None:
    fittingroom("audit", "table", "none.txt").refused(2, "none.txt", "no such file")
    fittingroom("audit", "table", pasted(DIGITS), "--data", "fashion-mist").refused(2, "did you mean 'fashion-mnist'?")
    fittingroom("audit", "data", "fashion-mist").refused(2, "did you mean 'fashion-mnist'?")


def test_the_supports_of_a_set_of_ones_own(made_set: Path) -> None:
    rows = "".join(f"{name} 0.50 0.50 0.50 25\n" for name in range(4))
    file = pasted("  precision recall f1-score support\n" + rows)
    sealed = fittingroom("audit", "table", file, "--data", made_set, "--json")
    assert sealed.json["tables"][0]["findings"][0]["verdict"] == "cannot tell"
    opened = fittingroom("audit", "table", file, "--data", made_set, "--test", "--json")
    assert opened.json["tables"][0]["findings"][0]["verdict"] == "holds"
    assert "sealed test set" in opened.err


def test_a_data_set(made_set: Path) -> None:
    done = fittingroom("audit", "data", made_set)
    assert done.code == 0, done.err
    assert "test" not in done.out.replace(str(made_set), "")
    assert done.err == ""
    opened = fittingroom("audit", "data", made_set, "--test", "--json")
    assert opened.json["test_opened"] is True
    assert "sealed test set" in opened.err
    assert "copies between train and test" in [found["check"] for found in opened.json["findings"]]


def test_a_data_set_with_copies_exits_3(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1)).astype(np.uint8)
    labels = np.arange(8, dtype=np.int64) % 2
    path = tmp_path / "copies.npz"
    path.write_bytes(npz_bytes(Images(pixels, labels), Images(pixels[:2], labels[:2])))
    assert fittingroom("audit", "data", path).code == 0
    done = fittingroom("audit", "data", path, "--test")
    assert done.code == 3
    assert "2 test images are copies of a train image" in done.out
