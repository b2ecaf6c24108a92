"""What all tests share."""

import pytest
import torch

# The assertions in the modules that tests share say as much as those in a test.
pytest.register_assert_rewrite("cases", "figures", "interpolants", "refusals", "trajectories", "unchanged")


# Python files named conftest are pytest's own, and no modules with doctests.
collect_ignore_glob = ["conftest.py", "*/conftest.py"]


@pytest.fixture(autouse=True)
def same_layers_every_time():
    """The layers of torch draw their initial parameters from the global state."""
    torch.manual_seed(0)
