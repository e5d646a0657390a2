"""Every level of kernels that this machine has, and a number of threads that a test may change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fittingroom import native


@pytest.fixture(params=native.LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    with native.enabled(level=request.param):
        if native.kernels().level != request.param:
            pytest.skip("this processor or this build does not have it")
        yield request.param


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
