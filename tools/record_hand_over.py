"""Trains the network of "Go deeper" by label noise and writes down where it ends, since the page has no time for it.

    python tools/record_hand_over.py

Three runs of 1e9 steps from the concave fit, some sixteen minutes each on one core; the table goes to
``labelnoise_utils/simplicity/hand_over/recorded.json``, which ``ln.hand_over.recorded_runs()`` reads. With other seeds:
``python tools/record_hand_over.py 3 4``; seeds that the table has already are not run again.
"""

import json
import sys
from pathlib import Path

import labelnoise_utils as ln

TABLE = Path(ln.__file__).parent / "simplicity" / "hand_over" / "recorded.json"
LR, NOISE_STD, STEPS, START = 2e-4, 0.7, 1_000_000_000, 0.45
# The first snapshot is early, so that the page can run that far itself and compare.
EARLY, SNAPSHOTS = 1_000_000, 10


def run(seed: int) -> dict:
    """Train once, and measure the snapshots with the noise taken off.

    Args:
        seed: of the draws.

    Returns:
        A row of the table.
    """
    data = ln.hand_over.TWO
    x, y = data.data()
    model = data.network(START)
    record = [0, EARLY, *(STEPS * k // SNAPSHOTS for k in range(1, SNAPSHOTS + 1))]
    noise = ln.LabelNoise(NOISE_STD)
    trained = ln.train(model, x, y, lr=LR, steps=STEPS, noise=noise, seed=seed, record=record, progress=False)
    levels, changes, regs = [], [], []
    early = trained.theta[1].tolist()
    for k in range(len(record)):
        network = trained.model_at(k)
        ln.project_to_zero_error(network, x, y)
        levels.append(-network.layers[-1].bias.item())
        regs.append(ln.implicit_regularizer(network, x).item())
        changes.append(ln.convexity_changes(network, x[0].item(), x[-1].item(), tol=0.05))
    return {"seed": seed, "steps": record, "early": early, "level": levels, "reg": regs, "changes": changes}


def main(seeds: list[int]) -> None:
    """Run what the table lacks, and write it after each run.

    Args:
        seeds: of the runs.
    """
    told = {
        "command": "python tools/record_hand_over.py",
        "version": ln.__version__,
        "lr": LR,
        "noise_std": NOISE_STD,
        "start": START,
        "runs": [],
    }
    if TABLE.exists():
        told = json.loads(TABLE.read_text("utf-8"))
    for seed in seeds:
        if seed not in [row["seed"] for row in told["runs"]]:
            row = run(seed)
            told["runs"].append(row)
            TABLE.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
            print(f"seed {seed}: level {row['level'][-1]:.4f}, {row['changes'][-1]} changes", flush=True)


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [0, 1, 2])
