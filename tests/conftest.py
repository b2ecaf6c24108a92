"""What all tests share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def same_layers_every_time():
    """The layers of torch draw their initial parameters from the global state."""
    torch.manual_seed(0)
