"""Checkpoints: what is written is read, and whatever happens to the file, it is never believed wrongly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from fittingroom.errors import FittingRoomError
from fittingroom.train import checkpoint
from fittingroom.train.checkpoint import Checkpoint, flatten, forget_after, read_newest, under, unflatten, write
from tests.processes import Child


def made(epoch: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(epoch)
    kernel = torch.randn(2, 3, 2, 2, generator=generator).contiguous(memory_format=torch.channels_last)
    tensors = {
        "model.kernel": kernel,
        "model.count": torch.tensor(epoch),
        "optimiser.0.step": torch.tensor(float(epoch)),
        "best.empty": torch.empty(0),
    }
    return Checkpoint(epoch, tensors, {"stopping": {"best": 0.1, "best_epoch": epoch, "waited": 0}})


def same(first: Checkpoint | None, second: Checkpoint) -> bool:
    return (
        first is not None
        and (first.epoch, first.values, first.tensors.keys()) == (second.epoch, second.values, second.tensors.keys())
        and all(
            torch.equal(tensor, second.tensors[name]) and tensor.dtype == second.tensors[name].dtype
            for name, tensor in first.tensors.items()
        )
    )


def silent(line: str) -> None:
    raise AssertionError(f"nothing is damaged, yet: {line}")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_round_trip(tmp_path: Path) -> None:
    write(tmp_path, made(3))
    assert same(read_newest(tmp_path, silent), made(3))


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for epoch in (1, 2, 9, 10, 11):
        write(tmp_path, made(epoch))
        assert same(read_newest(tmp_path, silent), made(epoch))
    assert names(tmp_path) == [f"epoch-0000{epoch}.{kind}" for epoch in (10, 11) for kind in ("json", "safetensors")]


def test_none_is_none(tmp_path: Path) -> None:
    assert read_newest(tmp_path, silent) is None
    assert read_newest(tmp_path / "none", silent) is None
    forget_after(tmp_path / "none", 0)


@pytest.mark.parametrize("kind", ["safetensors", "json"])
def test_a_flipped_bit_anywhere_is_never_believed(tmp_path: Path, kind: str) -> None:
    write(tmp_path, made(1))
    write(tmp_path, made(2))
    path = tmp_path / f"epoch-000002.{kind}"
    sound = path.read_bytes()
    for place in range(len(sound)):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        told: list[str] = []
        found = read_newest(tmp_path, told.append)
        if kind == "safetensors" or told:
            assert same(found, made(1))
            assert len(told) == 1
            assert "epoch-000002.safetensors is damaged" in told[0]
            assert "using the one before it" in told[0]
        else:  # white space and the like: the digest is what it was
            assert same(found, made(2))


@pytest.mark.parametrize("kind", ["safetensors", "json"])
def test_a_truncated_file_is_never_believed(tmp_path: Path, kind: str) -> None:
    write(tmp_path, made(1))
    write(tmp_path, made(2))
    path = tmp_path / f"epoch-000002.{kind}"
    sound = path.read_bytes().rstrip()
    for length in range(0, len(sound), 5):
        path.write_bytes(sound[:length])
        told: list[str] = []
        assert same(read_newest(tmp_path, told.append), made(1))
        assert len(told) == 1


@pytest.mark.parametrize("missing", ["safetensors", "json"])
def test_half_a_checkpoint_is_none(tmp_path: Path, missing: str) -> None:
    write(tmp_path, made(1))
    write(tmp_path, made(2))
    (tmp_path / f"epoch-000002.{missing}").unlink()
    assert same(read_newest(tmp_path, lambda line: None), made(1))


def test_one_checkpoint_in_the_place_of_another(tmp_path: Path) -> None:
    write(tmp_path, made(1))
    write(tmp_path, made(2))
    (tmp_path / "epoch-000002.safetensors").write_bytes((tmp_path / "epoch-000001.safetensors").read_bytes())
    told: list[str] = []
    assert same(read_newest(tmp_path, told.append), made(1))
    assert len(told) == 1


def test_damaged_ones_are_never_the_one_before(tmp_path: Path) -> None:
    for epoch in (5, 6):
        write(tmp_path, made(epoch))
    (tmp_path / "epoch-000006.safetensors").write_bytes(b"damaged")
    found = read_newest(tmp_path, lambda line: None)
    assert found is not None
    forget_after(tmp_path, found.epoch)
    write(tmp_path, made(8))
    (tmp_path / "epoch-000008.safetensors").write_bytes(b"damaged too")
    assert same(read_newest(tmp_path, lambda line: None), made(5))


def test_what_a_killed_process_had_not_yet_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between writing the last checkpoint and removing the oldest, a run has nothing left to write when it goes on."""
    with monkeypatch.context() as before_it_removes:
        before_it_removes.setattr(checkpoint, "_keep_two", lambda folder, newest: None)
        for epoch in (8, 9, 10):
            write(tmp_path, made(epoch))
    forget_after(tmp_path, 10)
    assert names(tmp_path) == [f"epoch-0000{epoch}.{kind}" for epoch in ("09", "10") for kind in ("json", "safetensors")]
    assert same(read_newest(tmp_path, silent), made(10))


def test_with_none_sound_there_is_none(tmp_path: Path) -> None:
    for epoch in (1, 2):
        write(tmp_path, made(epoch))
        (tmp_path / f"epoch-00000{epoch}.safetensors").write_bytes(b"")
    told: list[str] = []
    assert read_newest(tmp_path, told.append) is None
    assert len(told) == 2


def test_a_writer_killed_at_each_step_leaves_a_sound_one(tmp_path: Path) -> None:
    """Before every change that it makes to the folder, the process ends."""
    codes = []
    for step in range(1, 14):
        folder = tmp_path / str(step)
        write(folder, made(1))
        write(folder, made(2))

        def write_and_die(folder: Path = folder, left: int = step) -> None:
            remaining = [left]

            def dying(call: object) -> object:
                def instead(*arguments: object, **options: object) -> object:
                    remaining[0] -= 1
                    if not remaining[0]:
                        os._exit(9)
                    return call(*arguments, **options)  # type: ignore[operator]

                return instead

            for name in ("open", "fsync", "replace", "unlink"):
                setattr(os, name, dying(getattr(os, name)))
            write(folder, made(3))

        code = Child(write_and_die).wait()
        found = read_newest(folder, lambda line: None)
        assert found is not None
        assert found.epoch in ((2, 3) if code else (3,))
        assert same(found, made(found.epoch))
        codes.append(code)
    assert codes[:8] == 8 * [9]
    assert codes[-1] == 0


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    import resource

    write(tmp_path, made(1))
    before = names(tmp_path)

    def write_much() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        write(tmp_path, Checkpoint(2, {"model.kernel": torch.zeros(10_000)}, {}))

    child = Child(write_much)
    assert child.wait() == FittingRoomError.exit_code
    assert "cannot write" in child.errors
    assert names(tmp_path) == before


def test_optimiser_states_round_trip() -> None:
    state = {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2)}, 12: {"momentum_buffer": torch.zeros(3)}}
    tensors = flatten("optimiser", state)
    assert set(tensors) == {"optimiser.0.step", "optimiser.0.exp_avg", "optimiser.12.momentum_buffer"}
    found = unflatten("optimiser", {**tensors, "model.0.weight": torch.ones(1)})
    assert {index: set(entry) for index, entry in found.items()} == {0: {"step", "exp_avg"}, 12: {"momentum_buffer"}}
    assert under("model", {"model.a.b": torch.ones(1), "models.c": torch.ones(1)}).keys() == {"a.b"}
