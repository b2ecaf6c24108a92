"""A model of the page's engine beside Python's, on the same draws."""

import numpy as np
import pytest
import torch

import labelnoise_utils as ln

STEPS = 2000
MARKS = [0, 1, 2, 10, 100, 1000, STEPS]

# In pieces, so that theta and reg are compared along the way and not at the end alone.
TRAJECTORY = """([make, options, data, theta, indices, noise, lr, marks]) => {
    const model = window[make](options);
    for (const key of ["x", "y"]) data[key] = Float64Array.from(data[key]);
    if (make === "makeMatrixSensing") data.x = symmetrised(data.x, data.n, options.dim);
    theta = Float64Array.from(theta);
    const seen = [];
    const look = () => seen.push([[...theta], model.reg(theta, data), model.loss(theta, data)]);
    for (let t = 0; t < indices.length; t++) {
        if (marks.includes(t)) look();
        model.step(theta, data, indices[t], noise[t], lr);
    }
    look();
    return [model.size, seen, Array.from({ length: data.n }, (_, i) => model.output(theta, data, i))];
}"""


def assert_same_on_the_page(evaluate, make, options, model, x, y, *, lr, noise_std, outputs):
    """Steps, reg, loss and outputs of the engine's model are those of Python; returns the run.

    `evaluate` runs a script on a page that has the engine's files, `make` names the function that makes the model,
    `outputs` has the tolerances of the outputs, where Python may add up in another order.
    """
    noise = ln.LabelNoise(noise_std)
    indices, z = map(np.concatenate, zip(*ln.sgd_draws(len(x), STEPS, noise=noise, seed=5), strict=True))
    start = torch.nn.utils.parameters_to_vector(model.parameters()).tolist()
    run = ln.train(model, x, y, lr=lr, steps=STEPS, noise=noise, seed=5, record=MARKS, progress=False)
    data = dict(x=x.flatten().tolist(), y=y.double().tolist(), n=len(x), dim=x[0].numel())
    arguments = [make, options, data, start, indices[:, 0].tolist(), z[:, 0].tolist(), lr, MARKS[:-1]]
    size, seen, found = evaluate(TRAJECTORY, arguments)
    assert size == len(start) and len(seen) == len(MARKS)
    for step, (theta, reg, loss), *expected in zip(MARKS, seen, run.theta, run.reg, run.loss, strict=True):
        assert np.linalg.norm(theta - expected[0]) <= 1e-12 * np.linalg.norm(expected[0]), step
        assert reg == pytest.approx(expected[1], rel=1e-12)
        assert loss == pytest.approx(expected[2], rel=1e-10)
    with torch.no_grad():
        np.testing.assert_allclose(found, model(x).numpy(), **outputs)
    return run
