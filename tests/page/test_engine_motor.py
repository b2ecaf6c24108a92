"""The engine of the motor: its law and its steps are Python's to 1e-12, and SGD turns as the law says."""

import numpy as np
import pytest
import torch
from motors import LABELS, MEASUREMENTS, MIRROR, PRESETS, U, angle_of, flat, law, rotation
from trajectories import assert_same_on_the_page

import labelnoise_utils as ln

PATHS = [f"engine/{name}.js" for name in ("random", "loop", "matrix_sensing", "solve", "motor")]
LAW = """(u) => {
    const { rates, variances } = motorLaw(u);
    return [rates, variances];
}"""


@pytest.mark.site
class TestLaw:
    @pytest.mark.parametrize("u", [U, U @ MIRROR, U @ rotation(2.5), np.array([[0.3, -1.1], [0.8, 0.2]])])
    def test_law_is_numpys(self, evaluate, u):
        rates, variances = evaluate(LAW, flat(u))
        for levels in (*np.eye(3), *PRESETS.values()):
            squares = np.square(levels)
            rate, covariance = law(u, levels)
            assert squares @ rates == pytest.approx(rate, rel=1e-12, abs=1e-12)
            np.testing.assert_allclose(squares @ variances, np.diag(covariance), rtol=1e-12)

    def test_reg_of_each_label_is_the_same_at_every_fit(self):
        model = ln.MatrixSensing(2)
        norms = []
        for u in (U, U @ rotation(1.0), U @ MIRROR @ rotation(2.0)):
            torch.nn.utils.vector_to_parameters(torch.tensor(flat(u), dtype=torch.float64), model.parameters())
            norms.append(ln.per_example_sq_norms(model, MEASUREMENTS).detach().numpy())
        np.testing.assert_allclose(norms[1:], [norms[0]] * 2, rtol=1e-12)

    def test_a_positive_rate_turns_the_hands_counter_clockwise(self, evaluate):
        along, up = evaluate("(u) => turned(u, 0.1)", flat(U))[:2]  # of the first hand, which begins at (1, 0)
        assert along > 0.9 and up > 0.09

    @pytest.mark.parametrize("levels", PRESETS.values())
    def test_rate_is_that_of_the_packages_drift(self, evaluate, levels):
        model = ln.MatrixSensing(2)
        torch.nn.utils.vector_to_parameters(torch.tensor(flat(U), dtype=torch.float64), model.parameters())
        v = ln.drift(model, MEASUREMENTS, lr=1.0, noise=ln.LabelNoise(np.array(levels)))
        rates = evaluate("(u) => motorLaw(u).rates", flat(U))
        assert np.square(levels) @ rates == pytest.approx(angle_of(U, v.numpy()), rel=1e-12, abs=1e-12)

    def test_rate_is_the_same_on_a_circle_the_opposite_on_the_other_and_none_for_equal_levels(self):
        for levels in PRESETS.values():
            rate, _ = law(U, levels)
            assert law(U @ rotation(1.0), levels)[0] == pytest.approx(rate, abs=1e-14)
            assert law(U @ MIRROR @ rotation(2.0), levels)[0] == pytest.approx(-rate, abs=1e-14)
            assert (abs(rate) < 1e-14) == (len(set(levels)) == 1)


@pytest.mark.site
class TestRun:
    @pytest.mark.parametrize("noise_std", [0.5, np.array([0.9, 0.2, 1.1])])
    def test_steps_are_those_of_train_on_the_same_draws(self, evaluate, noise_std):
        model = ln.MatrixSensing(2, init="gaussian", seed=1)
        tolerances = dict(rtol=1e-11, atol=1e-12)
        arguments = "makeMatrixSensing", dict(dim=2), model, MEASUREMENTS, LABELS
        run = assert_same_on_the_page(evaluate, *arguments, lr=0.01, noise_std=noise_std, outputs=tolerances)
        assert run.loss[-1] < run.loss[0]

    def test_a_run_is_that_of_autograd_on_its_draws_with_a_level_for_each_label(self, evaluate):
        levels, lr, steps = np.array([0.9, 0.2, 1.1]), 0.01, 4000
        draws, angles, theta = evaluate(
            """([u, levels, lr, steps]) => {
                const [draws, motor] = [makeDraws(7), makeMotor(u, { lr, seed: 7 })];
                const drawn = Array.from({ length: steps }, () => [draws.sign(), draws.index(3)]);
                const angles = [0];
                for (let k = 0; k < steps / 20; k++) {
                    motor.advance(20, levels);
                    angles.push(motor.angle);
                }
                return [drawn, angles, [...motor.theta]];
            }""",
            [flat(U), levels.tolist(), lr, steps],
        )
        u = torch.tensor(U, requires_grad=True)
        y = LABELS.tolist()
        ways = [U]
        for step, (sign, i) in enumerate(draws, 1):
            loss = ((MEASUREMENTS[i] * (u @ u.T)).sum() - y[i] - sign * levels[i]) ** 2
            (slope,) = torch.autograd.grad(loss, u)
            with torch.no_grad():
                u -= lr * slope
            if step % 20 == 0:
                ways.append(u.detach().numpy().copy())
        np.testing.assert_allclose(theta, flat(ways[-1]), rtol=0, atol=1e-12)
        turns = np.einsum("ki,tkj->tij", U, ways)
        expected = np.unwrap(np.arctan2(turns[:, 0, 1] - turns[:, 1, 0], turns[:, 0, 0] + turns[:, 1, 1]))
        np.testing.assert_allclose(angles, expected, atol=1e-12)

    def test_angle_counts_whole_turns_and_runs_do_not_depend_on_how_they_are_cut(self, evaluate):
        whole, pieces = evaluate(
            """(u) => [[400000], [1, 7, 19, 99973, 300000]].map((cuts) => {
                const motor = makeMotor(u, { lr: 0.01, seed: 3 });
                for (const steps of cuts) motor.advance(steps, [0, 0, 1.2]);
                return [motor.t, motor.angle, ...motor.theta];
            })""",
            flat(U),
        )
        assert whole[0] == pieces[0] == 400_000 and whole[2:] == pieces[2:]
        assert whole[1] == pytest.approx(pieces[1], abs=1e-12)
        assert whole[1] < -4 * np.pi

    @pytest.mark.parametrize("levels", PRESETS.values())
    def test_sgd_turns_as_predicted(self, evaluate, levels):
        lr, steps, seeds = 0.003, 1_000_000, 6
        angles = evaluate(
            """([u, levels, lr, steps, seeds]) => Array.from({ length: seeds }, (_, seed) => {
                const motor = makeMotor(u, { lr, seed });
                motor.advance(steps, levels);
                return motor.angle;
            })""",
            [flat(U), levels, lr, steps, seeds],
        )
        rates = np.array(angles) / (steps * lr**2)
        error = rates.std(ddof=1) / np.sqrt(seeds)
        rate, _ = law(U, levels)
        # The prediction is right to first order in lr ||grad h||^2, whose largest is 4 lr |u_1|^2.
        assert rates.mean() == pytest.approx(rate, abs=5 * error + 4 * lr * abs(rate))
        assert error < 0.01  # so that the others are told from 0
