"""Fields at many parameter vectors: together where that gives the same numbers, else one after the other."""

import numpy as np
import pytest
import torch
from plain import flat
from points import X, Y, tanh
from torch import nn

import labelnoise_utils as ln
from labelnoise_utils.sgd.job import prepare
from labelnoise_utils.theory.residual_flow import _fields as residual_fields
from labelnoise_utils.theory.solver import one_after_the_other, together_where_possible
from labelnoise_utils.theory.unequal_flow import unequal_fields


class Counting(nn.Module):
    """A network that says how often it was called."""

    def __init__(self, calls):
        super().__init__()
        self.inner, self.calls = tanh(), calls

    def forward(self, x):
        self.calls.append(len(x))
        return self.inner(x)


FIELDS = {
    "unequal": lambda model, job: unequal_fields(model, job),
    "residual": lambda model, job: residual_fields(model, job, 3),
}


@pytest.mark.parametrize("name", FIELDS)
def test_many_parameter_vectors_in_few_calls_as_one_by_one(name):
    calls = []
    model = Counting(calls)
    job = prepare(model, X, Y, lr=0.01, steps=10, noise=ln.LabelNoise(np.array([1.0, 0.2, 0.5])), batch_size=2)
    fields = FIELDS[name](model, job)
    theta = flat(model) + 0.1 * torch.randn(20, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    calls.clear()
    together = fields(theta)
    assert len(calls) < 10  # some for the derivatives, none for each vector
    one_by_one = torch.cat([fields(row[None]) for row in theta])
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=1e-13)
    assert together.abs().max() > 1e-3


class TestTogetherWherePossible:
    def setup_method(self):
        self.model = ln.Product(2.0, 0.5)
        self.slow = one_after_the_other(self.model, lambda: flat(self.model) ** 2)

    def test_another_answer_is_not_taken(self):
        assert together_where_possible(self.model, lambda theta: theta**2 + 1e-3, self.slow, 4) is self.slow

    def test_what_cannot_run_is_not_taken(self):
        assert together_where_possible(self.model, lambda theta: theta * theta.sum().item(), self.slow, 4) is self.slow

    def test_nothing_at_once(self):
        assert together_where_possible(self.model, lambda theta: theta**2, self.slow, 0) is self.slow

    def test_the_same_answer_is_taken_and_the_model_left_as_it_was(self):
        fast = together_where_possible(self.model, lambda theta: theta**2, self.slow, 4)
        assert fast is not self.slow
        assert flat(self.model).tolist() == [2.0, 0.5]
        rows = torch.arange(12.0, dtype=torch.float64).view(6, 2)
        assert torch.equal(fast(rows), rows**2)
