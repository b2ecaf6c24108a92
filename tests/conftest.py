"""What all tests share."""

from unittest.mock import patch

import pytest
import torch

from labelnoise_utils.regularizer.rules import _ATTRIBUTES, RULES

# The assertions in the modules that tests share say as much as those in a test.
pytest.register_assert_rewrite("cases", "figures", "interpolants", "refusals", "trajectories", "unchanged")


# Python files named conftest are pytest's own, and no modules with doctests.
collect_ignore_glob = ["conftest.py", "*/conftest.py"]


@pytest.fixture(autouse=True)
def same_layers_every_time():
    """The layers of torch draw their initial parameters from the global state."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def rules_end_with_their_test():
    """What a test registers is gone after it."""
    with patch.dict(RULES), patch.dict(_ATTRIBUTES):
        yield
