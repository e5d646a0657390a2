"""In which number format a run multiplies, decided from the device and stated in the record."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from fittingroom.errors import UsageError

__all__ = ["Precision", "choose_device", "choose_precision", "settle"]


@dataclass(frozen=True)
class Precision:
    """The format of convolutions and matrix products; weights, sums and losses are always float32.

    Attributes:
        name: `fp32` or `bf16`.
        reason: why, in a few words, for the record.
    """

    name: Literal["fp32", "bf16"]
    reason: str

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which forward passes run."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.name == "bf16")


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called ``name``; ``auto`` is CUDA where there is one, the CPU otherwise.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        others = [other for other in ("auto", "cpu", "cuda") if other != name]
        raise UsageError(f"device '{name}' is not available here; use {', '.join(others[:-1])} or {others[-1]}") from None
    return device


def settle(device: torch.device) -> None:
    """Have a GPU compute alike each time, which its fastest convolutions do not, and fp32 be fp32, not the 19 bits of TF32."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some versions announce a newer way to say this, whose state the older one refuses to read
            torch.backends.cudnn.allow_tf32 = False


def choose_precision(wish: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """Return the precision for ``wish``: ``auto`` takes bf16 where the hardware multiplies it fast."""
    if wish != "auto":
        return Precision(wish, "asked for")
    if _fast_bf16(device):
        return Precision("bf16", f"{device.type} multiplies bf16 in hardware")
    return Precision("fp32", f"{device.type} has no fast bf16")


def _fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # Public since torch 2.7 only through these; a torch without them is taken to have no fast bf16.
    return any(getattr(torch.cpu, name, lambda: False)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
