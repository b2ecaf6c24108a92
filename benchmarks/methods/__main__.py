"""Compute the table of methods and write it where the chapter reads it.

    python -m benchmarks.methods

Each method's learning rate and strength are chosen on validation, over a grid that grows until the neighbours of the
choice have been tried, and then tested on fresh seeds. The table is written after each method, and a run that was stopped
goes on where it was: what was computed with the same settings is kept, with its own commit; with other test seeds only the
grids are. With names of data sets, only these. ``--quick``: with a twentieth of the steps, and nothing is written.
"""

import dataclasses
import functools
import itertools
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

import labelnoise_utils as ln

from .stacked import Stacked
from .tasks import TASKS, Task
from .training import METHODS, gradients_of, losses, train

ROOT = Path(__file__).parents[2]
TABLES = Path(ln.__file__).parent / "page" / "methods"
TUNING, TESTING = list(range(100, 106)), list(range(24))
SIDE_BY_SIDE = 12
PROBE = 200  # examples on which reg and the trace are measured
ROUNDS = 3  # how often a grid may grow
TURNS = 9


def errors(net: Stacked, x: torch.Tensor, y: torch.Tensor) -> list[float]:
    """Of each run: wrong answers in percent, or mean squared error, on its own examples; not finite becomes infinite."""
    with torch.no_grad():
        h = net(x)
    if y.is_floating_point():
        found = (h - y).square().flatten(1).mean(dim=1)
    else:
        found = 100 * (h.argmax(dim=-1) != y).float().mean(dim=1)
    finite = h.flatten(1).isfinite().all(dim=1) & found.isfinite()
    return torch.where(finite, found, math.inf).tolist()


def parts(task: Task, seeds: list[int], which: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The training (0) or validation (1) examples of each seed."""
    of = torch.from_numpy(np.stack([task.split(seed)[which] for seed in seeds]))
    return task.x[of], task.y[of]


def tried(task: Task, method: str, points: list[tuple[float, float]]) -> list[dict]:
    """Rows of the grid: the errors of all tuning seeds at each (rate, strength)."""
    runs = [(seed, *point) for point in points for seed in TUNING]
    train_errors, choose_errors = [], []
    for group in (runs[k : k + SIDE_BY_SIDE] for k in range(0, len(runs), SIDE_BY_SIDE)):
        seeds, rates, strengths = (list(column) for column in zip(*group, strict=True))
        net = train(task, method, seeds, rates, strengths)
        train_errors += errors(net, *parts(task, seeds, 0))
        choose_errors += errors(net, *parts(task, seeds, 1))
    rows = []
    for k, (rate, strength) in enumerate(points):
        mine = slice(k * len(TUNING), (k + 1) * len(TUNING))
        rows.append(
            {"lr": rate, "strength": strength} | {"train": _mean(train_errors[mine]), "choose": _mean(choose_errors[mine])}
        )
    return rows


def _mean(values: list[float]) -> float | None:
    mean = float(np.mean(values))
    return round(mean, 6) if math.isfinite(mean) else None


def best(rows: list[dict], limit: float) -> dict | None:
    """The row with the least validation error, of those whose training error is within the limit."""
    fit = [row for row in rows if row["train"] is not None and row["choose"] is not None and row["train"] <= limit]
    return min(fit, key=lambda row: row["choose"], default=None)


def neighbours(row: dict, *, plain: bool) -> list[tuple[float, float]]:
    """Twice and half the rate, and three times and a third of the strength."""
    rate, strength = row["lr"], row["strength"]
    rates = [(round(rate * 2, 6), strength), (round(rate / 2, 6), strength)]
    return rates if plain else [*rates, (rate, float(f"{strength * 3:.6g}")), (rate, float(f"{strength / 3:.6g}"))]


def lacking(points: list[tuple[float, float]], rows: list[dict]) -> list[tuple[float, float]]:
    """The points that have not been tried, nor others within a fifth."""
    done = [(row["lr"], row["strength"]) for row in rows]
    return [point for point in points if not any(np.allclose(point, other, rtol=0.2) for other in done)]


def tune(task: Task, method: str, rows: list[dict]) -> list[dict]:
    """Fill the grid, and then let it grow until all neighbours of the best row have been tried.

    Args:
        task: what is trained on what.
        method: one of METHODS.
        rows: what has been tried before.

    Returns:
        All rows.
    """
    points = [*itertools.product(task.rates, task.strengths.get(method, (0.0,)))]
    for _ in range(1 + ROUNDS):
        missing = lacking(points, rows)
        if not missing:
            break
        rows = rows + tried(task, method, missing)
        chosen = best(rows, task.limit)
        if chosen is None:
            break
        points = neighbours(chosen, plain=method == "plain")
    return rows


def tested(task: Task, method: str, rate: float, strength: float) -> dict:
    """What the chosen setting does with fresh seeds."""
    x, y = parts(task, TESTING, 0)
    found: dict = {}

    def measure(net: Stacked, when: str) -> None:
        found[f"train {when}"] = errors(net, x, y)
        with torch.no_grad():
            found[f"loss {when}"] = losses(net(x), y).tolist()
        probes = [(model, inputs[:PROBE]) for model, inputs in zip(net.models(), x, strict=True)]
        found[f"reg {when}"] = [ln.implicit_regularizer(model, probe).item() for model, probe in probes]
        if task.classes:
            of = [ln.implicit_regularizer(model, probe, loss="cross_entropy").item() for model, probe in probes]
            found[f"trace {when}"] = of

    began = time.process_time()
    many = len(TESTING)
    net = train(task, method, TESTING, [rate] * many, [strength] * many, at_off=lambda net: measure(net, "before"))
    found["seconds"] = time.process_time() - began
    measure(net, "after")
    held = task.x[: task.test].expand(many, *task.x[: task.test].shape)
    found["test"] = errors(net, held, task.y[: task.test].expand(many, *task.y[: task.test].shape))
    rounded = {k: [float(f"{v:.5g}") for v in vs] if isinstance(vs, list) else round(vs, 1) for k, vs in found.items()}
    return {"lr": rate, "strength": strength, **rounded}


def costs(task: Task, methods: list[str]) -> dict[str, float]:
    """What computing a step's gradients takes in CPU time over plain SGD, the median of turns."""
    seeds = TESTING[:8]
    torch.manual_seed(0)
    net, generator = Stacked([task.network() for _ in seeds]), torch.Generator().manual_seed(0)
    x, y = (z[:, : task.batch] for z in parts(task, seeds, 0))
    times = np.empty((TURNS, len(methods)))
    for turn, (k, method) in itertools.product(range(TURNS), enumerate(methods)):
        strength = torch.full((len(seeds),), 0.01)
        began = time.process_time()
        for _ in range(5):
            gradients_of(method, net, x, y, strength, generator)
        times[turn, k] = time.process_time() - began
    ratios = np.median(times / times[:, :1], axis=0)
    return {method: round(float(ratio), 2) for method, ratio in zip(methods, ratios, strict=True)}


def complete(name: str, *, quick: bool) -> None:
    """Compute what a task's table lacks.

    Args:
        name: of the task.
        quick: whether with a twentieth of the steps, to standard output.
    """
    task, path = TASKS[name](), TABLES / f"{name}.json"
    if quick:
        task = dataclasses.replace(task, steps=task.steps // 20, rates=task.rates[1:2], limit=math.inf)
    table = json.loads(path.read_text("utf-8")) if path.exists() and not quick else {"methods": {}}
    tuning, testing = {"tuning seeds": TUNING}, {"test seeds": TESTING, "test": task.test}
    tuning |= {k: getattr(task, k) for k in ("train", "choose", "steps", "batch", "limit")}
    if any(table.get(k) != value for k, value in tuning.items()):
        table = {"methods": {}}  # rows of other settings are no rows of this table
    if any(table.get(k) != value for k, value in testing.items()):
        for one in table["methods"].values():
            one.pop("chosen", None)
    table |= {"command": f"python -m benchmarks.methods {name}"} | tuning | testing
    made_by = {"commit": commit(ROOT), "torch": torch.__version__}

    def write() -> None:
        if not quick:
            path.write_text(json.dumps(table, indent=1) + "\n", "utf-8")

    methods = [m for m in METHODS if m == "plain" or m in task.strengths]
    for method in methods:
        one = table["methods"].setdefault(method, {})
        if "chosen" in one:
            continue
        began = time.process_time()
        if "grid" not in one:
            one |= made_by | {"grid": tune(task, method, [])}
        chosen = best(one["grid"], task.limit)
        one["chosen"] = chosen and tested(task, method, chosen["lr"], chosen["strength"]) | made_by
        one["cpu seconds in all"] = round(one.get("cpu seconds in all", 0) + time.process_time() - began, 1)
        write()
        print(f"{name}, {method}: {_told(one)}", flush=True)
    if table.get("cost", {}).keys() != set(methods):
        table["cost"] = costs(task, methods)
        write()
    print(f"{name}: cost of a step {table['cost']}", flush=True)


def commit(root: Path) -> str:
    """The commit of a repository, with "-dirty" behind it where the package or a benchmark differs, the tables left out."""
    git = functools.partial(subprocess.run, cwd=root, capture_output=True, text=True, check=True)
    code = ["benchmarks", "labelnoise_utils", ":!labelnoise_utils/page/methods/*.json"]
    changed = git(["git", "status", "--porcelain", "--", *code])
    name = git(["git", "rev-parse", "--short=10", "HEAD"]).stdout.strip()
    return f"{name}-dirty" if changed.stdout else name


def _told(one: dict) -> str:
    chosen = one["chosen"]
    if chosen is None:
        return "no setting within the limit of the training error"
    means = ", ".join(f"{k} {np.mean(chosen[k]):.4g}" for k in ("test", "train after", "reg before", "reg after"))
    return f"lr {chosen['lr']}, strength {chosen['strength']}: {means}; {one['cpu seconds in all']} s"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for chosen_name in [a for a in sys.argv[1:] if not a.startswith("-")] or list(TASKS):
        complete(chosen_name, quick="--quick" in sys.argv)
