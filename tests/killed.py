"""Runs that are killed again and again, and go on each time from nothing but their checkpoint.

A program, ``python killed.py FOLDER``, in which each attempt is a process of its own. The callback tells a file the steps.
"""

import os
import signal
import sys

import numpy as np
import torch
from architectures import Normalised
from cases import CASES, CLOUD, quick

import labelnoise_utils as ln
from labelnoise_utils.sgd import noise, progress, training

LONG = dict(steps=3000, record=[0, 5, 16, 700, 1500, 3000])
SHORT = dict(steps=150, record=[0, 5, 16, 17, 80, 150])

BUILD, X, Y, LR = CASES["relu"]
MOVED = dict(noise=ln.ParameterNoise(0.02), momentum=0.5, penalty=0.001)
RUNS = {
    "compiled": (BUILD, X, Y, dict(lr=LR, engine="compiled", **LONG)),
    "torch": (BUILD, X, Y, dict(lr=LR, engine="torch", noise=ln.LabelNoise(0.2, "uniform"), batch_size=3, **SHORT)),
    "moved": (BUILD, X, Y, dict(lr=LR / 2, engine="compiled", **MOVED, **LONG)),
    "own": (Normalised, CLOUD, CLOUD[:, :1], dict(lr=0.01, keep_theta=False, **SHORT)),
}


def ends(name):
    """Where each attempt ends: in the callback at a step, as the checkpoint is written, or by itself."""
    _, _, three, four, _, last = RUNS[name][-1]["record"]
    return [three, "half a file", four, "no new name", last, None]


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def attempt(folder, name, end):
    """A run up to its end, in one way or another, and a list of the steps at which its callback was called."""
    model, x, y, arguments = RUNS[name]
    with open(folder / f"{name}.txt", "a") as heard:

        def callback(step, *_):
            print(step, file=heard, flush=True)
            if step == end:
                die()

        if end == "half a file":
            np.savez = lambda file, **_: (file.write(b"PK"), file.flush(), die())
        elif end == "no new name":
            os.replace = die
        run = quick(model(), x, y, callback=callback, checkpoint=folder / f"{name}.checkpoint", **arguments)
        print("ended", file=heard)
    os.replace, np.savez = os.rename, SAVEZ
    run.save(folder / f"{name}.run")


SAVEZ = np.savez

if __name__ == "__main__":
    from pathlib import Path

    progress.PAUSES = training.SECONDS_TO_CHECKPOINT = 0  # so the file is written after every slice
    noise.DRAWS_PER_CHUNK = 96  # so there are many chunks
    torch.set_num_threads(1)  # a fork has the locks of torch's other threads, and not the threads
    for name, (model, x, y, arguments) in RUNS.items():
        quick(model(), x, y, **arguments)  # what is loaded and compiled now, no attempt has to
        for end in ends(name):
            child = os.fork()
            if child == 0:
                attempt(Path(sys.argv[1]), name, end)
                os._exit(0)
            print(name, end, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sep=";")
