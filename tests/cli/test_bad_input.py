"""Mistakes and damaged data: one line that says what is wrong, the design's exit code, nothing written."""

from __future__ import annotations

import builtins
import gzip
import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fittingroom.environment import cores
from tests.cli.running import Done, fittingroom, snapshot
from tests.data.made import csv_bytes, made_images, npz_bytes, write_idx, write_pictures

IMAGES = made_images(count=24, side=12)


def refused(code: int, arguments: list[object], *words: str) -> Done:
    """Run a command that is refused, and find the working folder as it was."""
    before = snapshot(Path())
    done = fittingroom(*arguments)
    done.refused(code, *words)
    assert snapshot(Path()) == before, "nothing is left behind"
    return done


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("trian", "no such command 'trian' — did you mean 'train'?"),
        ("train --threds 1 mlp", "no such option: --threds"),
        ("train mlp --threads 0", "'--threads': must be greater than or equal to 1"),
        ("train mlp --threads two", "'--threads': must be a valid integer"),
        ("train mlp --seed -1", "'--seed': must be greater than or equal to 0"),
        ("train mlp --epochs 0", "train.epochs: input should be greater than 0"),
        ("train mlp --epochs nan", "train.epochs: input should be a finite number"),
        ("train mlp extra", "extra"),
        ("train mlp --epochs", "'--epochs' requires an argument"),
        ("train", "say what to train (a model or a recipe), or --resume RUN"),
        ("train mlp --resume last", "and not both"),
        ("train --resume last --epochs 3", "--resume goes on with the run as it is"),
        ("train --resume last --show", "--resume goes on with the run as it is"),
        ("train mpl", "unknown model 'mpl' — did you mean 'mlp'?"),
        ("models lenet", "unknown model 'lenet' — did you mean 'lenet5'?"),
        ("models compact-wide", "compact-wide is a recipe, not a model; fittingroom train compact-wide --show"),
        ("study plan shallow-vs-deep --price inf", "--price is what a machine costs for an hour, not inf"),
        ("train fashion-mnist", "fashion-mnist is data, and what comes first is a model or a recipe: fittingroom train compact --data"),
        ("train mlp --set optm.lr=1", "command line: unknown key 'optm' — did you mean 'optim'?"),
        ("train mlp --set optim.lrr=1", "unknown key 'optim.lrr' — did you mean 'optim.lr'?"),
        ("train mlp --set optim.lr=-1", "optim.lr: input should be greater than 0 (given: -1)"),
        ("train mlp --set optim.lr=nan", "optim.lr: input should be a finite number"),
        ("train mlp --set optim.lr=fast", "optim.lr: input should be a valid number"),
        ("train mlp --set optim.name=adm", "did you mean 'adam'?"),
        ("train mlp --set optim.lr", "'optim.lr' is not of the form key=value"),
        ("train mlp --set train.epochs=0", "train.epochs: input should be greater than 0"),
        ("train mlp --set seed=-3", "seed: input should be greater than or equal to 0"),
        ("train mlp --set seed=true", "seed: input should not be true or false (given: True)"),
        ("train mlp --set optim.lr=true", "optim.lr: input should not be true or false (given: True)"),
        ("train mlp --set data.size=[28,true]", "data.size: input should not be true or false"),
        ("train mlp --set model.dropot=0.5", "mlp has no argument 'dropot' — did you mean 'dropout'?"),
        ("train mlp --set model.dropout=2", "mlp: dropout must be a number at least 0 and below 1, not 2"),
        ("train lenet5 --set model.activation=rleu", "did you mean 'relu'?"),
        ("train mlp --data digist", "unknown data set 'digist' — did you mean 'digits'?"),
        ("train lenet5 --data digits", "lenet5: needs images of at least 12×12 pixels, and these are 8×8; set data.size"),
        ("train mlp --data digits --device gpu", "device 'gpu' is not available here; use auto, cpu or cuda"),
        ("train mlp --data digits --data-dir elsewhere", "no such folder"),
        ("data fetch fashion", "unknown data set 'fashion' — did you mean 'fashion-mnist'?"),
        ("data info digits --size 0", "'--size'"),
        ("data fetch", "missing argument"),
        ("predict last", "missing argument"),
        ("predict last x.png --top 0", "'--top'"),
    ],
)
def test_usage(arguments: str, words: str) -> None:
    refused(2, [*arguments.split()], words)


def test_the_nearest_argument_of_a_recipe_file(own_home: Path) -> None:
    Path("mine.toml").write_text('model = "mlp"\n[train]\nepoch = 3\n')
    refused(2, ["train", "mine.toml"], "mine.toml: unknown key 'train.epoch' — did you mean 'train.epochs'?")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"model = ", "not valid TOML"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "cannot be read as a recipe"),
        (b"\0" * 100, "not valid TOML"),
        (b"", "'model' is missing"),
        (b'model = "mlp"\nseed = 99999999999999999999999', "seed"),
        (b"x = " + b"[" * 5000, "not valid TOML"),
        (b'model = "mlp"\n' + b"# much more than a recipe ever is\n" * 100_000, "too large for a recipe"),
    ],
    ids=["torn", "binary", "zeros", "empty", "number", "deep", "huge"],
)
def test_recipe_files(content: bytes, words: str) -> None:
    Path("mine.toml").write_bytes(content)
    refused(2, ["train", "mine.toml"], "mine.toml", words)


def test_recipe_files_that_are_none() -> None:
    refused(2, ["train", "mine.toml"], "mine.toml: no such recipe file")
    Path("folder").mkdir()
    refused(2, ["train", "folder"], "folder is data, and what comes first is a model")
    if Path("/dev/zero").exists():
        refused(2, ["train", "/dev/zero"], "/dev/zero", "too large for a recipe")


def torn(content: bytes) -> bytes:
    return content[: len(content) // 2]


def idx(magic: int, *sizes: int, body: bytes = b"") -> bytes:
    return struct.pack(f">I{len(sizes)}I", magic, *sizes) + body


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("train-images-idx3-ubyte.gz", torn, "train-images-idx3-ubyte.gz"),
        ("train-images-idx3-ubyte.gz", lambda content: content[:-9] + b"\0" + content[-8:], "corrupt"),
        ("train-images-idx3-ubyte.gz", lambda _: gzip.compress(idx(0x0803, 2**31, 2**15, 2**15, body=b"abc")), "images-idx3-ubyte.gz"),
        ("train-images-idx3-ubyte.gz", lambda _: gzip.compress(idx(0x0803, 30, 12, 12, body=b"x" * 144)), "promises 4,320 values"),
        ("train-images-idx3-ubyte.gz", lambda _: gzip.compress(b"<!doctype html>" * 20), "magic number"),
        ("train-images-idx3-ubyte.gz", lambda _: b"", "images-idx3-ubyte.gz"),
        ("train-labels-idx1-ubyte.gz", lambda _: gzip.compress(idx(0x0801, 24, body=bytes(23) + b"\xff")), "255"),
        ("train-labels-idx1-ubyte.gz", lambda _: gzip.compress(idx(0x0801, 23, body=bytes(23))), "23"),
    ],
    ids=["truncated", "corrupt", "promise", "short", "magic", "empty", "label", "counts"],
)
def test_idx(name: str, change: Callable[[bytes], bytes], words: str) -> None:
    file = write_idx(Path("sets") / "fashion-mnist", IMAGES, IMAGES) / name
    file.write_bytes(change(file.read_bytes()))
    for command in (["train", "mlp"], ["data", "info", "fashion-mnist"]):
        refused(1, [*command, "--data-dir", "sets"], "train-", words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace(",pixel144", "", 1), "set.csv"),
        (lambda text: text.rstrip().rpartition(",")[0] + "\n", "line 25"),
        (lambda text: text.rstrip().rpartition(",")[0] + ",grey\n", "grey"),
        (lambda text: text.rstrip().rpartition(",")[0] + ",256\n", "256"),
        (lambda text: text.splitlines()[0] + "\n", "set.csv"),
        (lambda text: "", "set.csv"),
    ],
    ids=["column in the header", "column in a line", "text", "256", "header alone", "empty"],
)
def test_csv(change: Callable[[str], str], words: str) -> None:
    Path("set.csv").write_text(change(csv_bytes(IMAGES).decode()))
    refused(1, ["train", "mlp", "--data", "set.csv"], "set.csv", words)


def test_npz_that_needs_pickle() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x_train=np.array([{"a": 1}], dtype=object), y_train=np.array([0]))
    Path("set.npz").write_bytes(buffer.getvalue())
    refused(1, ["train", "mlp", "--data", "set.npz"], "set.npz", "pickle")
    Path("set.npz").write_bytes(torn(npz_bytes(IMAGES)))
    refused(1, ["train", "mlp", "--data", "set.npz"], "set.npz")
    refused(4, ["train", "mlp", "--data", "absent.npz"], "absent.npz: no such file or folder")


def test_an_npz_that_is_no_archive_is_not_taken_for_a_table() -> None:
    Path("set.npz").write_bytes(b"damaged")
    refused(1, ["train", "mlp", "--data", "set.npz"], "set.npz: cannot be read as an npz archive", "is it damaged?")


def test_folders_without_what_it_takes() -> None:
    train: list[object] = ["train", "mlp", "--data", "photos", "--set", "data.size=12"]
    Path("photos").mkdir()
    refused(1, train, "photos")
    (Path("photos") / "shirts").mkdir()
    (Path("photos") / "trousers").mkdir()
    refused(1, train, "photos")
    write_pictures(Path("photos"), made_images(classes=1), names=("shirts",))
    assert fittingroom("data", "info", "photos").code == 1


def test_folder_of_one_class() -> None:
    write_pictures(Path("photos"), made_images(classes=1), names=("shirts",))
    refused(1, ["train", "mlp", "--data", "photos"], "photos", "at least two")


def enormous_png() -> bytes:
    """A picture of 60,000 × 60,000 pixels by its own account, in a hundred bytes."""
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("content", "words"), [(b"no picture at all", "cannot be read"), (enormous_png(), "pixels")])
def test_pictures(content: bytes, words: str, runs: Path) -> None:
    write_pictures(Path("photos"), made_images(side=12), names=("a", "b", "c"))
    bad = Path("photos") / "a" / "bad.png"
    bad.write_bytes(content)
    done = fittingroom("data", "info", "photos")
    assert "Traceback" not in done.err
    assert "bad.png" in done.err
    refused(1, ["predict", "network", bad], "bad.png", words)


def test_pictures_that_are_none(runs: Path) -> None:
    refused(4, ["predict", "network", "absent.png"], "absent.png: no such file")
    refused(2, ["predict", "network", "."], ". is a folder; name the pictures in it")


def test_no_network(no_network: None) -> None:
    for command in (["train", "mlp"], ["data", "info", "mnist"], ["data", "fetch", "kmnist"]):
        done = fittingroom(*command)
        done.refused(4, "is not on this machine", "Name or service not known", "or name their folder with --data-dir or $FITTINGROOM_DATA")
        assert not Path("runs").exists()
        assert not [path for path in Path().rglob("*") if path.is_file()]


def test_tensorboard_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith(("torch.utils.tensorboard", "tensorboard")):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    arguments: list[object] = ["train", "mlp", "--data", "digits", "--epochs", 1, "--threads", 1, "--tensorboard"]
    refused(5, arguments, "pip install '.[tensorboard]'")


def test_a_batch_larger_than_the_set_is_the_set(made_set: Path) -> None:
    options = ["--data", made_set, "--epochs", 1, "--threads", 1, "--set", "train.batch_size=65536"]
    assert fittingroom("train", "mlp", *options).code == 0
    refused(2, ["train", "mlp", *options[:-1], "train.batch_size=65537"], "train.batch_size: input should be less than or equal to 65536")


def test_more_threads_than_cores_are_told_once(made_set: Path) -> None:
    done = fittingroom("train", "mlp", "--data", made_set, "--epochs", 1, "--threads", cores() + 1, "-q")
    assert done.code == 0, done.err
    assert done.err.count("they wait for each other") == 1
    assert "threads" not in fittingroom("train", "mlp", "--data", made_set, "--epochs", 1, "--threads", 1, "-q").err


def test_a_folder_in_use_is_left_alone(runs: Path) -> None:
    refused(1, ["train", "mlp", "--data", "digits", "--run-dir", "runs/network"], "holds a run already", "train --resume runs/network")
    Path("mine").mkdir()
    (Path("mine") / "thesis.txt").write_text("dear")
    refused(1, ["train", "mlp", "--data", "digits", "--run-dir", "mine"], "not an empty folder", "choose another --run-dir")


def test_names_from_outside_do_not_command_the_terminal(runs: Path) -> None:
    done = fittingroom("predict", "network", "\x1b[31mred\nfittingroom: all is well")
    assert (done.code, done.err.count("\n")) == (4, 1)
    assert "\x1b" not in done.err
    assert "\\x1b[31mred\\n" in done.err
