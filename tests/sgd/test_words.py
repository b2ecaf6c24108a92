"""What tells two runs apart: all that a model, an activation or a callback holds, and what a callback did."""

import argparse
import dataclasses
import functools
import os
import subprocess
import sys
import threading
import types
from collections import OrderedDict
from enum import Enum

import numpy as np
import pytest
import torch
from torch import nn

import labelnoise_utils as ln
from labelnoise_utils.sgd.words import words, words_of_callback

X = torch.linspace(0.5, 1, 4)[:, None]


class Until:
    def __init__(self, bound):
        self.bound = bound

    def __call__(self, step, loss, reg, model):
        return loss < self.bound

    def method(self, step, loss, reg, model):
        return loss < self.bound


def _half(module):
    for p in module.parameters():
        nn.init.constant_(p, 0.5)


LIMIT, SEEN = 0.1, 0


def until_global(bound):
    """A function, told while the global that it reads is the bound."""
    globals()["LIMIT"] = bound
    return lambda step, loss, reg, model: (lambda: loss < LIMIT)()


@dataclasses.dataclass
class Bound:
    value: object


def of_class(bound):
    return type("Kind", (Until,), {"more": bound})(0)


def until_in(thing):
    return lambda step, loss, reg, model: loss < thing.bound


class Slotted:
    __slots__ = ("bound",)

    def __init__(self, bound):
        self.bound = bound


class Kind(Enum):
    one, two = 1, 2


def until(bound):
    return lambda step, loss, reg, model: loss < bound


def until_by_default(bound):
    def callback(step, loss, reg, model, *, bound=bound):
        return loss < bound

    return callback


def hooked(factor):
    model = nn.Linear(1, 1)
    model.register_forward_hook(lambda module, given, h: factor * h)
    return same_values(model)


def same_values(model):
    return model.apply(_half)


def shared(times):
    activation = nn.LeakyReLU(0.1)
    return same_values(nn.Sequential(nn.Linear(1, 1), *[activation] * times))


def holding(thing):
    model = same_values(nn.Linear(1, 1))
    model.thing = thing
    return model


HELD = {
    "closure": until,
    "default": until_by_default,
    "instance": Until,
    "method": lambda bound: Until(bound).method,
    "partial": lambda bound: functools.partial(nn.functional.leaky_relu, negative_slope=bound),
    "partial argument": lambda bound: functools.partial(max, bound),
    "closure in a closure": lambda bound: until(until(bound)),
    "global": until_global,
    "global tensor": lambda bound: until_global(torch.tensor([bound])),
    "global namespace": lambda bound: until_global(argparse.Namespace(bound=bound)),
    "global dataclass": lambda bound: until_global(Bound(bound)),
    "class": of_class,
    "class of a method": lambda bound: of_class(bound).method,
    "namespace": lambda bound: until_in(types.SimpleNamespace(bound=bound)),
    "dataclass": lambda bound: until_in(Bound(bound)),
}


@pytest.mark.parametrize("make", HELD.values(), ids=HELD.keys())
def test_what_a_function_holds(make):
    for of in (words, words_of_callback, lambda thing: words(holding(thing))):
        assert of(make(0.1)) == of(make(0.1)) != of(make(0.2))


def test_a_global_that_a_callback_sets_is_none_that_it_reads():
    def count(step, loss, reg, model):
        global SEEN
        SEEN += 1

    before = words_of_callback(count)
    count(0, 0, 0, None)
    assert SEEN and words_of_callback(count) == before


def with_hook(bound, kind):
    model = same_values(nn.Linear(1, 1))
    getattr(model.weight, kind)(lambda it: bound * it)
    return model


def test_hooks_that_are_gone_again_are_none():
    model = same_values(nn.Linear(1, 1))
    model.weight.register_hook(lambda grad: 0 * grad).remove()
    assert words(model) == words(same_values(nn.Linear(1, 1)))


def test_tensors_of_all_kinds_and_numbers_of_all_sizes():
    z = torch.tensor([[1, 2j], [0, 1]])
    things = [z, z.conj(), z.imag, z.conj().imag, z.real.to_sparse(), z.real, 10**400, 10**400 + 1]
    assert len({words(holding(thing)) for thing in things}) == len(things)
    assert words(z.conj()) == words(z.conj().resolve_conj())


MODELS = {
    "hook": hooked,
    "module in a list": lambda bound: holding([nn.LeakyReLU(bound)]),
    "module in two places": lambda bound: shared(round(10 * bound)),
    "mode": lambda bound: holding(0).train(bound > 0.1),
    "object": lambda bound: holding(Slotted(bound)),
    "enum": lambda bound: holding(Kind(round(10 * bound))),
    "range": lambda bound: holding(range(round(10 * bound))),
    "NumPy bool": lambda bound: holding(np.bool_(bound > 0.1)),
    "ordered": lambda bound: holding(OrderedDict(bound=bound)),
    "objects in an array": lambda bound: holding(np.array([bound, None], dtype=object)),
    "ufunc": lambda bound: holding(np.sin if bound > 0.1 else np.cos),
    "script": lambda bound: torch.jit.script(nn.Sequential(nn.Linear(1, 1, bias=False), nn.LeakyReLU(bound)).apply(_half)),
    "class": lambda bound: same_values(type("Kind", (nn.Linear,), {"more": bound})(1, 1)),
    "hook of a parameter": lambda bound: with_hook(bound, "register_hook"),
    "late hook of a parameter": lambda bound: with_hook(bound, "register_post_accumulate_grad_hook"),
    "built in": lambda bound: holding(torch.sin if bound > 0.1 else torch.cos),
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_what_a_model_holds(make):
    assert words(make(0.1)) == words(make(0.1)) != words(make(0.2))


def test_functions_of_one_name_by_their_code():
    a, b, c = (lambda step: step > 1), (lambda step: step > 2), (lambda step: step > 1)
    assert words_of_callback(a) == words_of_callback(c) != words_of_callback(b)


def test_a_callback_may_fill_lists():
    def make():
        seen = []
        return lambda step, *_: seen.append(step)

    full = make()
    full(3)
    assert words_of_callback(full) == words_of_callback(make())


def test_rings_and_what_cannot_be_taken_apart():
    ring = holding([threading.Lock(), OSError])
    ring.thing.append(ring.thing)
    object.__setattr__(ring, "me", ring)
    assert words(ring).count("again") == 2


def test_are_the_same_in_another_process():
    script = (
        "import functools, numba, torch; from labelnoise_utils.sgd.words import words\n"
        "def f(a): return lambda x: x in {'p', 'q', 'r'} and a\n"
        "things = [f({'s', 't'}), functools.partial(torch.relu, 1), {'v', 'w'}, object(), torch, numba.njit(lambda a: a)]\n"
        "print(words([*things, torch.manual_seed(0), torch.nn.TransformerEncoderLayer(2, 1)]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "12"
    }
    assert len(said) == 1


def job(**arguments):
    model = same_values(nn.Linear(1, 1))
    return dict(model=model, x=X, y=-X, lr=0.1, steps=50, record=range(51), progress=False) | arguments


def test_a_sweep_does_not_take_the_run_of_another_callback(tmp_path):
    def steps(bound, **options):
        return ln.train_many([job(callback=until(bound))], progress=False, **options)[0].steps

    assert 0 < steps(1.0) < steps(0.1) < 50
    for bound in (1.0, 0.1, 1.0):
        assert steps(bound, directory=tmp_path) == steps(bound)


def test_a_checkpoint_does_not_return_what_another_callback_ended(tmp_path):
    arguments = dict(checkpoint=tmp_path / "run")
    ended = ln.train(**job(callback=until(1.0), **arguments))
    assert ended.stopped
    for other in (until(0.1), None):
        message = f"holds a run that its callback ended at step {ended.steps}, and now the callback is another one, or none"
        with pytest.raises(ValueError, match=message):
            ln.train(**job(callback=other, **arguments))
    assert ln.train(**job(callback=until(1.0), **arguments)).steps == ended.steps


def change_values(model):
    with torch.no_grad():
        model.weight.zero_()


CHANGES = {
    "values": change_values,
    "type": lambda model: model.double(),
    "frozen": lambda model: model.bias.requires_grad_(False),
    "replaced": lambda model: setattr(model, "bias", nn.Parameter(torch.zeros(1))),
    "added": lambda model: model.register_buffer("more", torch.zeros(1)),
    "attribute": lambda model: setattr(model, "in_features", 2),
    "new attribute": lambda model: setattr(model, "scale", torch.ones(1)),
    "hook": lambda model: model.register_forward_hook(lambda module, given, h: 2 * h),
    "hook of a parameter": lambda model: model.weight.register_hook(lambda grad: 0 * grad),
    "part": lambda model: model.add_module("part", nn.ReLU()),
}


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_a_callback_did_is_undone(change, fails):
    model = same_values(nn.Linear(1, 1))
    before = words(model)

    def callback(step, loss, reg, it):
        change(it)
        if fails:
            raise KeyError("mine")

    with pytest.raises(KeyError if fails else ValueError, match="mine" if fails else "callback (changed|replaced)"):
        ln.train(**job(model=model, callback=callback))
    assert words(model) == before


def test_autocast_does_not_go_lost():
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(ValueError, match="autocast of the caller reaches no thread"),
    ):
        ln.train_many([job()], progress=False)


def test_stages_share_no_checkpoint(tmp_path):
    model = same_values(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="several stages cannot share it"):
        ln.train_stages([model], X, X, [(0.1, 5, None), (0.2, 5, None)], checkpoint=tmp_path / "run", progress=False)
    assert model.weight.item() == 0.5 and not any(tmp_path.iterdir())


@pytest.mark.parametrize("dtype, classes", [(torch.int8, 129), (torch.uint8, 257)])
def test_a_flip_fits_the_type_of_the_labels(dtype, classes):
    y = torch.zeros(20, dtype=dtype)
    assert ln.LabelFlip(1.0, classes - 1)(y).to(torch.int64).min() > 0
    with pytest.raises(ValueError, match=f"y is {dtype}, which cannot hold classes 0 to {classes - 1}"):
        ln.LabelFlip(1.0, classes)(y)
