"""Number formats and devices: what is asked for, what is found, and what is said about it."""

from __future__ import annotations

import pytest
import torch

from fittingroom.errors import UsageError
from fittingroom.train.precision import Precision, choose_device, choose_precision

CPU = torch.device("cpu")


def test_what_is_asked_for_is_taken() -> None:
    assert choose_precision("fp32", CPU) == Precision("fp32", "asked for")
    assert choose_precision("bf16", CPU) == Precision("bf16", "asked for")


@pytest.mark.parametrize(("flags", "name"), [("avx512f avx512_bf16", "bf16"), ("amx_tile amx_bf16", "bf16"), ("avx2", "fp32")])
def test_auto_goes_by_the_processor(monkeypatch: pytest.MonkeyPatch, flags: str, name: str) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: "avx512_bf16" in flags, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: "amx_tile" in flags, raising=False)
    chosen = choose_precision("auto", CPU)
    assert chosen.name == name
    assert "cpu" in chosen.reason


def test_a_torch_that_cannot_tell_gets_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert choose_precision("auto", CPU).name == "fp32"


@pytest.mark.parametrize(("name", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_are_of_the_format_and_weights_are_not(name: str, kind: torch.dtype) -> None:
    layer = torch.nn.Linear(3, 3)
    with Precision(name, "").autocast(CPU):  # type: ignore[arg-type]
        product = layer(torch.ones(2, 3))
    assert product.dtype == kind
    assert layer.weight.dtype == torch.float32
    product.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("", "toaster", "cuda:99"):
        with pytest.raises(UsageError, match=f"device '{name}' is not available here; use auto, cpu or cuda"):
            choose_device(name)
