"""What the package does not do: change the state of the program that uses it."""

import inspect
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

import labelnoise_utils as ln

IMPORT = """
import signal, sys, warnings
import matplotlib, numpy, torch

def state():
    return [
        dict(matplotlib.rcParams),
        repr(numpy.random.get_state()),
        torch.get_rng_state().tolist(),
        numpy.geterr(),
        numpy.get_printoptions(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        signal.getsignal(signal.SIGINT),
        "matplotlib.pyplot" in sys.modules,
    ]

before = state()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    import labelnoise_utils
for one, other in zip(before, state(), strict=True):
    assert one == other, (one, other)
print([str(w.message) for w in caught if "labelnoise_utils" in w.filename])
"""


def test_import_changes_nothing():
    result = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[]\n"


def public_calls():
    """Every function of the package's face, once and briefly."""
    x, y = ln.twelve_points()
    noise = ln.LabelNoise(0.5, "gaussian")
    yield "twelve_points", lambda: ln.twelve_points("on", scale=2.0)
    yield "matrix_sensing", lambda: ln.matrix_sensing(3, 1, 4)
    yield "Measurements", lambda: ln.Measurements(*ln.matrix_sensing(3, 1, 4))
    yield "pack_measurements", lambda: ln.pack_measurements(torch.ones(2, 3, 3))
    yield "psd_uniqueness_bound", lambda: ln.psd_uniqueness_bound(3, 1)
    yield "Product", ln.Product
    yield "MatrixSensing", lambda: ln.MatrixSensing(3, init="gaussian", seed=1)
    yield "TwoLayerReLU", lambda: ln.TwoLayerReLU(4, seed=1)
    yield "TwoLayerSigmoidal", lambda: ln.TwoLayerSigmoidal(4, 2, "logistic", seed=1)
    yield "MLP", lambda: ln.MLP([2, 3, 1], "tanh", seed=1, bias_std=1.0)
    yield "LabelNoise", lambda: noise.draw(np.random.default_rng(0), (10,))
    for law in (ln.TwoCopies, ln.FrozenNoise, ln.ParameterNoise, ln.InputNoise, ln.LangevinNoise):
        for engine in ("compiled", "torch"):
            more = dict(noise=law(0.001), momentum=0.5, penalty=0.001, engine=engine)
            yield law.__name__, lambda a=more: ln.train(ln.TwoLayerReLU(4), x, y, lr=0.001, steps=9, progress=False, **a)
    yield "LabelFlip", lambda: ln.LabelFlip(0.5, 3)(torch.zeros(4, dtype=torch.int64), torch.Generator().manual_seed(0))
    yield "recorded_methods", ln.recorded_methods
    yield "sgd_draws", lambda: list(ln.sgd_draws(5, 100, noise=noise, batch_size=2))
    for engine in ("compiled", "torch"):
        arguments = dict(lr=0.001, steps=20, noise=noise, engine=engine, progress=False)
        yield "train", lambda a=arguments: ln.train(ln.TwoLayerReLU(4), x, y, **a)
        job = dict(x=x, y=y, **{k: v for k, v in arguments.items() if k != "progress"})
        yield (
            "train_many",
            lambda j=job: ln.train_many([dict(model=ln.TwoLayerReLU(4), **j) for _ in range(2)], progress=False),
        )
        yield (
            "train_stages",
            lambda e=engine: ln.train_stages([ln.TwoLayerReLU(4)], x, y, [(0.001, 10, noise)], engine=e, progress=False),
        )
        yield "DivergenceError", lambda a=arguments: diverge(x, y, a)
    yield "Run", lambda: ln.train(ln.Product(), x, y, lr=0.01, steps=9, progress=False).model_at(0)
    for method in ("auto", "vmap", "loop"):
        yield (
            "implicit_regularizer",
            lambda m=method: ln.implicit_regularizer(ln.TwoLayerReLU(4), x, method=m),
        )
    yield "implicit_regularizer", lambda: ln.implicit_regularizer(ln.MLP([1, 3, 1]), x[:, None], method="ghost")
    yield "regularizer_by_parameter", lambda: ln.regularizer_by_parameter(ln.TwoLayerReLU(4), x)
    yield "regularizer_by_module", lambda: ln.regularizer_by_module(ln.MLP([1, 3, 1]), x[:, None], depth=1)
    yield "evaluating", lambda: ln.evaluating(ln.MLP([1, 3, 1])).__enter__()
    yield "register_rule", lambda: ln.register_rule(type("Own", (torch.nn.Identity,), {}), lambda layer, a, g: {})
    yield "NotCoveredError", lambda: ln.NotCoveredError("parameter 'u' is shared")
    for seed in (None, 3):
        yield "estimate_regularizer", lambda s=seed: ln.estimate_regularizer(ln.TwoLayerReLU(4), x, seed=s)
    yield "estimate_regularizer_by_parameter", lambda: ln.estimate_regularizer_by_parameter(ln.TwoLayerReLU(4), x)
    yield "estimate_per_example_sq_norms", lambda: ln.estimate_per_example_sq_norms(ln.TwoLayerReLU(4), x)
    yield "Estimate", lambda: ln.Estimate(*ln.estimate_regularizer(ln.MLP([1, 3, 1]), x[:, None], chunk_size=1))
    yield "per_example_sq_norms", lambda: ln.per_example_sq_norms(ln.TwoLayerReLU(4), x)
    point = ln.MLP([1, 3, 1], "tanh"), x[:2, None], y[:2]
    yield "linearize", lambda: ln.linearize(*point[:2])
    yield "Linearization", lambda: ln.linearize(*point[:2]).project_tangent(torch.ones(10, dtype=torch.float64))
    yield "project_to_zero_error", lambda: ln.project_to_zero_error(*point)
    yield "is_non_repellent", lambda: ln.is_non_repellent(*point, error_tol=9.0)
    yield "tangential_gradient", lambda: ln.tangential_gradient(*point[:2])
    yield "tangential_curvature", lambda: ln.tangential_curvature(*point[:2])
    yield "drift", lambda: ln.drift(*point[:2], lr=0.01, noise_std=0.5)
    yield "stationary_variance", lambda: ln.stationary_variance(0.01, 0.5)
    yield "ornstein_uhlenbeck", lambda: ln.ornstein_uhlenbeck(1.0, lr=0.01, noise_std=0.5)
    yield (
        "update_terms",
        lambda: ln.update_terms(point[0], x[:1, None], y[:1], torch.ones(10, dtype=torch.float64), lr=0.01),
    )
    yield "expanded_sgd", lambda: ln.expanded_sgd(*point, lr=0.01, noise=noise, steps=10)
    yield "effective_flow", lambda: ln.effective_flow(*point, lr=0.01, noise_std=0.5, steps=10)
    yield "random_two_kinks", lambda: ln.random_two_kinks(2, seed=3)
    yield "TwoKinks", lambda: ln.random_two_kinks(1).apart(0.01)
    yield "regularizer_by_unit", lambda: ln.regularizer_by_unit(ln.TwoLayerReLU(4), x)
    yield "minimal_interpolant", lambda: ln.minimal_interpolant(x, y)
    yield "Interpolant", lambda: ln.minimal_interpolant(x, y)(x)
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]), torch.tensor([1.0, -1.0, -1.0, 1.0])
    yield "NetworkInterpolant", lambda: ln.minimal_interpolant(*corners, skip="constant", exact=False)(corners[0])
    yield "Unit", lambda: ln.Unit(*ln.minimal_interpolant(*corners).units[0])
    yield "minimum_convexity_changes", lambda: ln.minimum_convexity_changes(x, y)
    yield "dots_are_optimal", lambda: ln.dots_are_optimal(x)
    yield "curve_length", lambda: ln.curve_length(torch.sin, 0, 1)
    yield "convexity_changes", lambda: ln.convexity_changes(torch.sin, 0, 1, tol=0.1)
    yield "collinear_deviation", lambda: ln.collinear_deviation(torch.sin, x, y)
    yield "effective_rank", lambda: ln.effective_rank(torch.eye(3), tol=0.1)
    yield "nuclear_norm", lambda: ln.nuclear_norm(torch.eye(3))
    sigmoidal = ln.TwoLayerSigmoidal(4, 1), x[:1, None]
    yield "unit_classes", lambda: ln.unit_classes(*sigmoidal, tol=0.1)
    yield "UnitClasses", lambda: ln.UnitClasses(**vars(ln.unit_classes(*sigmoidal, tol=0.1)))
    yield "hand_over", lambda: ln.hand_over.certify(ln.hand_over.TWO)
    yield "one_data_point", lambda: ln.one_data_point.network([1.0, 2.0], torch.ones(1, 2), "tanh")
    yield "several_data_points", lambda: ln.several_data_points.descend([(torch.ones(1, 2), torch.ones(1))], 3)
    yield "check", lambda: ln.check("one", 1, 1)
    yield "push", lambda: ln.push(u=1.2, distance=-0.3)._repr_html_()
    yield "cloud_in_space", lambda: ln.cloud_in_space(seed=3)._repr_html_()
    yield "how_much_longer", lambda: ln.how_much_longer("batch", 4)._repr_html_()
    yield "live_hand_over", lambda: ln.live_hand_over(level=0.4)._repr_html_()
    yield "live_plane", lambda: ln.live_plane(width=20, seed=3)._repr_html_()
    yield "live_sensing", lambda: ln.live_sensing(dim=8, seed=3)._repr_html_()
    yield "live_solutions", lambda: ln.live_solutions(prices=(0.5, 0.1))._repr_html_()
    yield "live_units", lambda: ln.live_units("logistic", width=6)._repr_html_()
    yield "playground", lambda: ln.playground(lr=0.01, seed=3)._repr_html_()
    yield "live_network", lambda: ln.live_network(width=20, seed=3)._repr_html_()
    yield "explore", lambda: ln.explore(lambda lr: Figure(), lr=[0.1, 0.2])
    yield (
        "plots",
        lambda: ln.plots.functions(Figure().add_subplot(), [ln.TwoLayerReLU(4)], x, y, noise=True),
    )


def diverge(x, y, arguments):
    try:
        ln.train(ln.Product(9.0, 9.0), x, y, **arguments | dict(lr=10.0, steps=100))
    except ln.DivergenceError:
        return
    raise AssertionError("should have diverged")


def test_no_function_touches_global_random_state_or_settings():
    called = set()
    for name, call in public_calls():
        np.random.seed(1)  # noqa: NPY002, this is the state to watch
        torch.manual_seed(1)
        numpy_state, torch_state = repr(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
        settings = dict(mpl.rcParams), torch.get_num_threads(), torch.get_default_dtype()
        call()
        assert repr(np.random.get_state()) == numpy_state, name  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), torch_state), name
        assert (dict(mpl.rcParams), torch.get_num_threads(), torch.get_default_dtype()) == settings
        assert torch.is_grad_enabled()
        called.add(name)
    assert called == set(ln.__all__), "every public name should be here"


def test_results_do_not_depend_on_global_random_state():
    x, y = ln.twelve_points()
    thetas = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        for engine in ("compiled", "torch"):
            arguments = dict(lr=0.001, steps=50, noise=ln.LabelNoise(0.5), engine=engine)
            thetas.append(ln.train(ln.TwoLayerReLU(4), x, y, progress=False, **arguments).theta)
    np.testing.assert_array_equal(thetas[0], thetas[2])
    np.testing.assert_array_equal(thetas[1], thetas[3])


def test_every_public_name_says_what_it_is():
    for name in ln.__all__:
        public = getattr(ln, name)
        assert inspect.getdoc(public), name
        if inspect.isfunction(public):
            doc = inspect.getdoc(public)
            for argument in inspect.signature(public).parameters:
                assert f"{argument}: " in doc, f"{name} does not say what {argument} is"
