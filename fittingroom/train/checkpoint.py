"""Checkpoints: everything that the next epoch depends on, in one safetensors file with its SHA-256 beside it.

The newest two are kept. Each is written whole or not at all, and is used only if its digest is right, so that a damaged
file costs one checkpoint and never a wrong result.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from fittingroom.files import write_bytes, write_json

__all__ = ["Checkpoint", "flatten", "forget_after", "read_newest", "under", "unflatten", "write"]


@dataclass(frozen=True)
class Checkpoint:
    """The state of training after an epoch.

    Attributes:
        epoch: epochs finished.
        tensors: by name: weights and buffers (``model.``), optimiser state (``optimiser.``), the average (``average.``),
            the best weights (``best.``).
        values: plain values: optimiser step counts are tensors; the rest (stopping) is here.
    """

    epoch: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` durably, then remove all but it and the one before it.

    Raises:
        FittingRoomError: the disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    name = _stem(checkpoint.epoch)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in checkpoint.tensors.items()}
    content = save_tensors(tensors, {"epoch": str(checkpoint.epoch), "values": json.dumps(dict(checkpoint.values))})
    write_bytes(folder / f"{name}.safetensors", content)
    write_json(folder / f"{name}.json", {"epoch": checkpoint.epoch, "sha256": hashlib.sha256(content).hexdigest()})
    _keep_two(folder, name)


def _keep_two(folder: Path, newest: str) -> None:
    """Remove all but ``newest`` and the one before it: what is older, and what was never finished."""
    kept = {newest, *sorted(path.stem for path in folder.glob("epoch-*.json") if path.stem < newest)[-1:]}
    for path in folder.glob("epoch-*"):
        if path.stem not in kept:
            path.unlink(missing_ok=True)


def read_newest(folder: Path, notify: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest checkpoint whose digest is right, or None; each damaged one is named to ``notify``."""
    for path in sorted(folder.glob("epoch-*.safetensors"), reverse=True):
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            notify(f"{path} is damaged ({error}); using the one before it")
    return None


def forget_after(folder: Path, epoch: int) -> None:
    """Remove all but the checkpoint of ``epoch`` and the one before it.

    Those after it were found damaged, and none of them may ever be "the one before"; older ones are left where a process was killed
    before it had removed them.
    """
    _keep_two(folder, _stem(epoch))


def _stem(epoch: int) -> str:
    return f"epoch-{epoch:06d}"


def _read(path: Path) -> Checkpoint:
    noted = json.loads(path.with_suffix(".json").read_text())
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != noted["sha256"]:
        raise ValueError("its SHA-256 is not the one written with it")
    # The length was covered by the digest, so the header can be believed.
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]
    return Checkpoint(int(header["epoch"]), load_tensors(content), json.loads(header["values"]))


def flatten(prefix: str, state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the tensors of an optimiser's ``state`` (parameter index → name → tensor) under dotted names."""
    return {
        f"{prefix}.{index}.{name}": value
        for index, entry in state.items()
        for name, value in entry.items()
        if isinstance(value, torch.Tensor)
    }


def unflatten(prefix: str, tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Undo `flatten`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith(f"{prefix}."):
            index, name = key.removeprefix(f"{prefix}.").split(".", 1)
            state.setdefault(int(index), {})[name] = tensor
    return state


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with ``prefix.``, without it."""
    return {key.removeprefix(f"{prefix}."): tensor for key, tensor in tensors.items() if key.startswith(f"{prefix}.")}
