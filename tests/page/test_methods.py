"""The recorded table of methods: the runs side by side are ordinary runs, and the table is what its script would write."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from repository import ROOT
from torch import nn

import labelnoise_utils as ln

pytest.importorskip("sklearn")
pytest.importorskip("mnist1d")
sys.path.insert(0, str(ROOT))
from benchmarks.methods import __main__ as script  # noqa: E402
from benchmarks.methods.stacked import Stacked  # noqa: E402
from benchmarks.methods.tasks import TASKS, cnn, mlp  # noqa: E402
from benchmarks.methods.training import METHODS, gradients_of, train  # noqa: E402

RECORDED = ln.recorded_methods()


def double(network, seed):
    torch.manual_seed(seed)
    return network().double()


@pytest.mark.parametrize(("network", "shape"), [(cnn, (1, 40)), (lambda: mlp(64, 10), (64,))], ids=["cnn", "mlp"])
class TestSideBySide:
    def batch(self, shape):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(3, 7, *shape, generator=generator, dtype=torch.float64)
        return x, torch.randint(10, (3, 7), generator=generator)

    def test_outputs_are_those_of_the_networks_one_by_one(self, network, shape):
        models = [double(network, seed) for seed in range(3)]
        x, _ = self.batch(shape)
        net = Stacked(models)
        expected = torch.stack([model(inputs) for model, inputs in zip(models, x, strict=True)])
        torch.testing.assert_close(net(x), expected)
        again = [model(inputs) for model, inputs in zip(net.models(), x, strict=True)]
        torch.testing.assert_close(torch.stack(again), expected)

    @pytest.mark.parametrize(
        ("method", "loss"), [("penalty on outputs", "squared"), ("penalty, cross-entropy", "cross_entropy")]
    )
    def test_a_penalty_is_reg_in_the_mean(self, network, shape, method, loss):
        """Its gradient, along that of reg: the mean of many draws."""
        models = [double(network, seed) for seed in range(3)]
        x, y = self.batch(shape)
        net, generator = Stacked(models), torch.Generator().manual_seed(1)
        strength = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        plain = gradients_of("plain", net, x, y, strength, generator)
        draws = [gradients_of(method, net, x, y, strength, generator) for _ in range(200)]
        for r, (model, inputs) in enumerate(zip(models, x, strict=True)):
            reg = ln.implicit_regularizer(model, inputs, loss=loss)
            exact = (
                torch.cat([g.flatten() for g in torch.autograd.grad(reg, model.parameters(), materialize_grads=True)])
                * strength[r]
            )
            added = [
                sum(((g - p)[r].flatten() @ e) for g, p, e in zip(d, plain, _split(exact, plain), strict=True)) for d in draws
            ]
            along = np.array([float(a) for a in added])
            assert abs(along.mean() - float(exact @ exact)) < 5 * along.std(ddof=1) / len(along) ** 0.5

    def test_sam_weight_decay_and_clipping_by_hand(self, network, shape):
        models = [double(network, seed) for seed in range(3)]
        x, y = self.batch(shape)
        strength = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
        for method in ("SAM", "weight decay", "clipping"):
            found = gradients_of(method, Stacked(models), x, y, strength, torch.Generator())
            for r, model in enumerate(models):
                expected = by_hand(method, model, x[r], y[r], strength[r])
                for ours, theirs in zip(found, expected, strict=True):
                    torch.testing.assert_close(ours[r], theirs)


def _split(flat, like):
    return flat.split([g[0].numel() for g in like])


def by_hand(method, model, x, y, strength):
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), parameters)
    if method == "weight decay":
        return [g + strength * p.detach() for g, p in zip(gradients, parameters, strict=True)]
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    if method == "clipping":
        return [g * min(1, strength / norm) for g in gradients]
    moved = {name: p + strength * g / norm for (name, p), g in zip(model.named_parameters(), gradients, strict=True)}
    loss = nn.functional.cross_entropy(torch.func.functional_call(model, moved, (x,)), y)
    return torch.autograd.grad(loss, parameters)


def test_a_run_does_not_depend_on_its_neighbours():
    task = dataclasses.replace(TASKS["digits"](), steps=12)
    (alone,) = train(task, "SAM", [5], [0.1], [0.05]).models()
    _, beside = train(task, "SAM", [4, 5], [0.2, 0.1], [0.1, 0.05]).models()
    for p, q in zip(alone.parameters(), beside.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def written_by(name, path, monkeypatch, **changes):
    """The table after a call of the script with runs of no length, and other settings."""
    short = dataclasses.replace(TASKS[name](), limit=np.inf)
    short = dataclasses.replace(short, steps=6, strengths={m: s[:1] for m, s in short.strengths.items()}, rates=short.rates[:1])
    seeds = changes.pop("TESTING", [0, 1])
    short = dataclasses.replace(short, **changes)
    monkeypatch.setattr(script, "TASKS", {name: lambda: short})
    for what, value in (("TABLES", path), ("ROUNDS", 0), ("TURNS", 1), ("PROBE", 5), ("TESTING", seeds)):
        monkeypatch.setattr(script, what, value)
    script.complete(name, quick=False)
    return json.loads((path / f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_the_table_is_what_the_script_would_write(name, tmp_path, monkeypatch):
    """Keys and settings; the second call finds everything done."""
    table = written_by(name, tmp_path, monkeypatch)
    monkeypatch.setattr(script, "commit", lambda root: "another")
    assert written_by(name, tmp_path, monkeypatch) == table
    recorded = RECORDED[name]
    assert table.keys() == recorded.keys() and table["methods"].keys() == recorded["methods"].keys()
    for method, one in recorded["methods"].items():
        assert one.keys() == table["methods"][method].keys()
        assert one["chosen"].keys() == table["methods"][method]["chosen"].keys()


def test_rows_of_other_settings_are_computed_again(tmp_path, monkeypatch):
    """Other steps: all of it. Other test seeds: what they found, and the grids stay, with the commit that made them."""
    commits = iter(["first", "second", "third"])
    monkeypatch.setattr(script, "commit", lambda root: next(commits))
    first = written_by("digits", tmp_path, monkeypatch)
    second = written_by("digits", tmp_path, monkeypatch, TESTING=[0, 1, 2])
    third = written_by("digits", tmp_path, monkeypatch, TESTING=[0, 1, 2], steps=4)
    for method, one in first["methods"].items():
        then, last = second["methods"][method], third["methods"][method]
        assert [one["commit"], then["commit"], last["commit"]] == ["first", "first", "third"]
        assert [of["chosen"]["commit"] for of in (one, then, last)] == ["first", "second", "third"]
        assert then["grid"] == one["grid"]
        assert [len(of["chosen"]["test"]) for of in (one, then, last)] == [2, 3, 3]
    assert [table["steps"] for table in (first, second, third)] == [6, 6, 4]


def test_a_changed_tree_is_marked(tmp_path):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    table = tmp_path / "labelnoise_utils" / "page" / "methods" / "digits.json"
    code = tmp_path / "benchmarks" / "a.py"
    for file in (table, code):
        file.parent.mkdir(parents=True)
        file.write_text("1", "utf-8")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    table.write_text("2", "utf-8")
    name = script.commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{10}", name)
    code.write_text("2", "utf-8")
    assert script.commit(tmp_path) == f"{name}-dirty"


@pytest.mark.parametrize(("method", "runs"), [("plain", 4), ("SAM", 4), ("penalty on outputs", 24)])
def test_a_recorded_row_comes_out_again(method, runs):
    """Up to rounding, which may turn an answer in some hundreds. What draws its noise draws it for all seeds at once."""
    task, recorded = TASKS["digits"](), RECORDED["digits"]["methods"][method]["chosen"]
    seeds = RECORDED["digits"]["test seeds"][:runs]
    net = train(task, method, seeds, [recorded["lr"]] * runs, [recorded["strength"]] * runs)
    held = (z[: task.test].expand(runs, *z[: task.test].shape) for z in (task.x, task.y))
    assert np.abs(np.subtract(script.errors(net, *held), recorded["test"][:runs])).mean() < 0.2
    inputs, _ = script.parts(task, seeds[:2], 0)
    found = [ln.implicit_regularizer(*of).item() for of in zip(net.models(), inputs[:, : script.PROBE], strict=False)]
    np.testing.assert_allclose(found, recorded["reg after"][:2], rtol=0.05)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_choice_is_the_best_of_its_grid_and_its_neighbours_were_tried(name):
    task, table = TASKS[name](), RECORDED[name]
    assert [table[k] for k in ("train", "choose", "test", "steps", "batch", "limit")] == [
        getattr(task, k) for k in ("train", "choose", "test", "steps", "batch", "limit")
    ]
    assert set(table["methods"]) == {"plain", *task.strengths} <= set(METHODS)
    for row in (row for one in table["methods"].values() for row in (one, one["chosen"])):
        assert re.fullmatch("[0-9a-f]{10}", row["commit"]), "recorded from a tree with changes"
    for method, one in table["methods"].items():
        chosen = one["chosen"]
        row = script.best(one["grid"], task.limit)
        assert (row["lr"], row["strength"]) == (chosen["lr"], chosen["strength"])
        assert len(chosen["test"]) == len(table["test seeds"]) >= 8
        assert not set(table["test seeds"]) & set(table["tuning seeds"])
        inside = script.lacking(script.neighbours(row, plain=method == "plain"), one["grid"])
        assert not inside, (method, inside)
