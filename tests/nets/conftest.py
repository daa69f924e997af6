from collections.abc import Callable

import pytest
import torch
from torch import nn

from noiseloom.rng import Rng


@pytest.fixture
def awake() -> Callable[[nn.Module], nn.Module]:
    """Makes every parameter random, float64: nothing hides behind a zero initialisation."""

    def wake(network: nn.Module) -> nn.Module:
        with Rng(1).torch(), torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(std=0.2)
        return network.double()

    return wake
