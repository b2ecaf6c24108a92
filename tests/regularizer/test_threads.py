"""Any number of threads may read one model (alibi issue 593): also while others call it."""

import threading

import pytest
import torch
from architectures import numbers
from torch import nn
from zoo import specimen

import labelnoise_utils as ln

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


def in_threads(*works):
    """Run all at once; the errors of all."""
    errors, barrier = [], threading.Barrier(len(works))

    def run(work):
        try:
            barrier.wait()
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.parametrize("method, calls", [("auto", 200), ("ghost", 50), ("vmap", 50), ("loop", 20)])
def test_three_threads_on_one_model(method, calls):
    """And a fourth that calls the model itself, and draws numbers of its own meanwhile."""
    model, x = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)).double(), numbers(3)
    expected, h = ln.implicit_regularizer(model, x).item(), model(x).detach()
    values, outputs, stop = [], [], threading.Event()

    def read():
        values.extend(ln.implicit_regularizer(model, x, method=method).item() for _ in range(calls))

    def call():
        while not stop.is_set():
            outputs.append(model(x).detach())

    caller = threading.Thread(target=call)
    caller.start()
    errors = in_threads(read, read, read)
    stop.set()
    caller.join()
    assert errors == [] and len(values) == 3 * calls and outputs
    assert max(abs(value - expected) for value in values) <= 1e-12 * expected
    assert all(torch.equal(output, h) for output in outputs)
    assert all(isinstance(p, nn.Parameter) for module in model.modules() for p in module._parameters.values() if p is not None)


def test_draws_in_another_thread():
    """Are neither disturbed nor taken for the model's."""
    model, x = specimen("mlp of several outputs")
    torch.manual_seed(5)
    expected = torch.cat([torch.rand(3) for _ in range(300)])
    torch.manual_seed(5)
    drawn, errors = [], []

    def draw():
        drawn.extend(torch.rand(3) for _ in range(300))

    def read():
        for _ in range(60):
            ln.implicit_regularizer(model, x)

    errors = in_threads(draw, read)
    assert errors == [] and torch.equal(torch.cat(drawn), expected)


def test_gradients_in_threads():
    """The choice of attention, which is the process's, is what it was before, whoever ends last."""
    model, x = specimen("transformer")
    expected = ln.implicit_regularizer(model, x).item()
    values = []

    def read():
        values.extend(ln.implicit_regularizer(model, x).item() for _ in range(8))

    assert in_threads(read, read, read) == []
    assert values == pytest.approx([expected] * 24, rel=1e-10)
    assert torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.mem_efficient_sdp_enabled()
