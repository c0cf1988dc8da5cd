"""What a user copies runs: the examples, and the Python blocks of the README and of the pages."""

import importlib.util
import inspect
import math
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import equinox as eqx
import jax
import numpy as np
import pytest
from matplotlib import pyplot
from scipy.integrate import quad
from scipy.stats import norm

import numpyro_bridge as nb
from numpyro_bridge.atlas.fit_normal import laplace
from numpyro_bridge.training.optimizer import parameter_kinds
from tests.as_users import without_type_checks
from tests.catalogue import narrow

ROOT = Path(__file__).parents[1]
SMALL = {"num_samples": 2_000, "progress_bar": False}
TRAINED = {"num_iterations": 150, "num_steps": 16, **SMALL}


def load_example(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_evidence(draws: nb.Draws, log_evidence: float):
    """The estimate is within four errors, the errors are small, and the bound is a bound."""
    assert draws.log_evidence_error < 0.05
    # A floor for quadrature, and for weights so equal that their own error is all but zero.
    assert abs(draws.log_evidence - log_evidence) < 4 * draws.log_evidence_error + 1e-3
    assert draws.elbo < log_evidence + 4 * draws.elbo_error


def eight_schools_log_evidence(effect, standard_error) -> float:
    """Effects and mean integrated out in closed form, their spread by quadrature."""

    def integrand(tau):
        covariance = np.diag(standard_error**2 + tau**2) + 5.0**2
        _, log_det = np.linalg.slogdet(2 * math.pi * covariance)
        log_likelihood = -0.5 * (log_det + effect @ np.linalg.solve(covariance, effect))
        return math.exp(log_likelihood) * 2 / (math.pi * 5 * (1 + (tau / 5) ** 2))

    return math.log(quad(integrand, 0, np.inf, epsabs=0, epsrel=1e-8)[0])


def logistic_log_evidence(design, damaged) -> float:
    """A sum over a grid of coefficients, which is as good as exact for so smooth a function."""
    grid = np.linspace(-12, 12, 401)
    coefficients = np.stack(np.meshgrid(*[grid] * design.shape[1]), axis=-1)
    logits = coefficients @ design.T
    log_joint = norm.logpdf(coefficients, scale=2).sum(-1)
    log_joint += (damaged * logits - np.logaddexp(0, logits)).sum(-1)
    cell = (grid[1] - grid[0]) ** design.shape[1]
    return math.log(np.exp(log_joint).sum() * cell)


def test_eight_schools_has_the_evidence_of_quadrature(as_users, capsys):
    example = load_example("eight_schools")
    draws = example.main(**SMALL)
    effect, error = np.asarray(example.EFFECT), np.asarray(example.STANDARD_ERROR)
    assert_evidence(draws, eight_schools_log_evidence(effect, error))
    assert "theta[7]" in capsys.readouterr().out


@pytest.mark.slow
def test_logistic_evidence_finds_the_bayes_factor_of_a_grid(as_users, capsys):
    example = load_example("logistic_evidence")
    draws = example.main(**SMALL)
    damaged = np.asarray(example.DAMAGED)
    expected = {
        name: logistic_log_evidence(np.asarray(design), damaged)
        for name, design in example.DESIGNS.items()
    }
    for name, value in expected.items():
        assert_evidence(draws[name], value)
    log_bayes_factor, error = example.compare(draws["temperature"], draws["constant risk"])
    difference = expected["temperature"] - expected["constant risk"]
    assert abs(log_bayes_factor - difference) < 4 * error + 1e-3
    assert f"{log_bayes_factor:.3f} ± {error:.3f}" in capsys.readouterr().out


@pytest.mark.slow
def test_raw_log_density_has_the_evidence_of_the_closed_form(as_users, capsys):
    example = load_example("raw_log_density")
    draws = example.main(**TRAINED)
    along, across = np.meshgrid(np.linspace(-14, 14, 701), np.linspace(-10, 70, 801))
    integral = np.exp(example.log_density((along, across))).sum() * 0.04 * 0.1
    assert math.log(integral) == pytest.approx(example.LOG_EVIDENCE, abs=1e-6)
    assert_evidence(draws, example.LOG_EVIDENCE)
    assert "closed form" in capsys.readouterr().out


@pytest.mark.slow
def test_two_sides_have_the_masses_of_a_grid(as_users, capsys, tmp_path):
    example = load_example("two_sides")
    found = example.main(tmp_path / "picture.png")
    assert abs(found.by_charts - found.exact) < 4 * found.error + 1e-4
    assert set(found.by_chain) == {0.0, 1.0}  # every chain of NUTS stays where it started
    assert pyplot.imread(tmp_path / "picture.png").shape[1] == 1_300
    assert "by the masses of the charts" in capsys.readouterr().out


def small_kernel(kernel, settings: dict, model, **given):
    """A kernel that trains has settings of training."""
    return kernel(model, **given, **(settings if callable(model) else {}))


def run_code(page: str, names: dict, fewer: dict[str, str] | None = None, **settings) -> dict:
    """Run a page's Python blocks, with small settings, and return the names they leave behind.

    The keys of `fewer` are numbers of the page, its values what the test puts in their place.
    """
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    assert blocks
    code = "\n".join(blocks)
    for printed, tested in (fewer or {}).items():
        assert printed in code, f"{page} does not print {printed}"
        code = re.sub(rf"\b{printed}\b", tested, code)
    small = partial(
        nb.BridgeSampler,
        process=partial(nb.CMCD, num_steps=8, control=narrow(16)),
        num_iterations=50,
        num_trajectories=64,
        progress_bar=False,
        **settings,
    )
    bridge = {name: small.keywords[name] for name in {"process", "standardise"} & {*small.keywords}}
    compare = partial(nb.compare_with_nuts, num_samples=200, num_warmup=100, nuts_samples=100)
    small_versions = {
        "BridgeSampler": small,
        "BridgeKernel": partial(small_kernel, nb.BridgeKernel, small.keywords),
        "AutoBridge": partial(nb.AutoBridge, **bridge),
        "TraceReverseKLLD": partial(nb.TraceReverseKLLD, 32),
        "as_blackjax": partial(nb.as_blackjax, num_trajectories=32, **bridge),
        "compare_with_nuts": compare,
    }
    with without_type_checks(), pytest.MonkeyPatch.context() as patch:
        for name, version in small_versions.items():
            patch.setattr(nb, name, version)
        exec(compile(code, page, "exec"), names)
    return names


@pytest.fixture(scope="module")
def readme():
    # A bent map makes everything that the pages do with this posterior slow to compile; the
    # examples, on the same model, have one.
    return run_code("README.md", {}, standardise=partial(nb.standardise, nonlinear=False))


def test_the_code_of_the_readme_runs(readme):
    assert readme["draws"].num_samples == 4_000
    assert readme["idata"].posterior["theta"].shape == (4, 1_000, 8)
    assert -34 < readme["draws"].log_evidence < -30


@pytest.fixture
def names(readme):
    """The pages go on from a model, its posterior and its draws, with the usual imports done."""
    import arviz
    import equinox

    imports = {"arviz": arviz, "eqx": equinox, "partial": partial}
    return {**imports, **readme, "model": readme["eight_schools"]}


def test_the_code_of_the_front_page_runs():
    names = {"model": nb.target_from_log_density(lambda x: -0.5 * x @ x, dim=1), "model_args": ()}
    draws = run_code("docs/index.md", names, standardise=nb.no_standardisation)["draws"]
    assert_evidence(draws, 0.5 * math.log(2 * math.pi))


def test_the_code_of_the_diagnostics_page_runs(names):
    draws = names["draws"]
    nuts = SimpleNamespace(get_samples=lambda: draws.resample(jax.random.key(3), 200))
    runs = run_code("docs/how_to/read_the_diagnostics.md", {**names, "mcmc": nuts})["runs"]
    assert runs.eubo > draws.elbo


def test_the_code_of_the_settings_page_runs_and_holds_the_noise_fixed(names, key):
    sampler = run_code("docs/how_to/choose.md", names)["fixed_noise"]
    sampler.num_iterations, sampler.standardise = 2, nb.no_standardisation
    posterior = sampler.run(key, names["error"], effect=names["effect"])
    untrained = sampler.process(key, posterior.target.dim)
    assert np.array_equal(posterior.process.diffusion.log_noise, untrained.diffusion.log_noise)
    assert not np.array_equal(posterior.process.initial.mean, untrained.initial.mean)


# A bridge this small and eight observations: the leave-one-out k-hat of one may be above 0.7.
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")
def test_the_code_of_the_interfaces_page_runs(names):
    standardise = partial(nb.standardise, candidates=(laplace,), num_starts=2, nonlinear=False)
    fewer = {"1_000": "200", "500": "100", "300": "100"}
    after = run_code("docs/how_to/use_from_numpyro.md", names, fewer, standardise=standardise)
    draws = after["of_guide"].sample(jax.random.key(6), 2_000)
    assert -32.5 < draws.elbo < draws.log_evidence < -30.5
    assert after["predicted"].shape == (100, 8) and after["new_schools"].shape == (1_000, 8)
    assert after["mcmc"].get_samples()["theta"].shape == (800, 8)
    assert after["mixed"].get_samples()["theta"].shape == (200, 8)
    factor, _ = after["models"].log_bayes_factor("hierarchical", "no pooling")
    assert factor == pytest.approx(-31.311 - no_pooling_log_evidence(after), abs=0.3)
    assert after["loo"].pareto_k.shape == (8,)
    pyplot.close("all")


def no_pooling_log_evidence(names) -> float:
    scale = np.hypot(np.asarray(names["error"]), 15.0)
    return float(np.sum(norm.logpdf(np.asarray(names["effect"]), scale=scale)))


@pytest.mark.filterwarnings("ignore::numpyro_bridge.ReliabilityWarning")  # hardly trained
def test_the_parts_of_the_extending_page_are_trained_saved_loaded_and_known_by_type(
    monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)  # the page saves to the present folder
    fewer = {
        "num_iterations=200": "num_iterations=10",
        "num_trajectories=128": "num_trajectories=16",
    }
    fewer |= {"num_steps=32": "num_steps=4", "num_steps=24": "num_steps=4"}
    names = run_code("docs/explanation/extending.md", {}, fewer, standardise=nb.no_standardisation)
    assert {path.stem for path in tmp_path.iterdir()} == {"decay", "linear", "langevin", "robust"}
    process = names["langevin"](jax.random.key(0), 2)
    kinds = parameter_kinds(process)
    assert kinds.noise.log_noise == kinds.initial.mean == "diffusion"
    assert set(jax.tree.leaves(kinds.control)) == {"control"}
    wide = process.widened(2.0)
    np.testing.assert_allclose(
        wide.noise.log_noise, process.noise.log_noise + math.log(2), rtol=1e-6
    )
    np.testing.assert_allclose(wide.initial.log_scale, math.log(2), rtol=1e-6)
    assert eqx.tree_equal(wide.control, process.control)
    # The posterior that the page read last was trained with its noise held fixed.
    untrained = names["short"](jax.random.key(0), 2)
    trained = names["posterior"].process
    np.testing.assert_array_equal(trained.diffusion.log_noise, untrained.diffusion.log_noise)
    assert not np.array_equal(trained.annealing.increments, untrained.annealing.increments)


def test_the_reference_has_every_public_name():
    folder = ROOT / "docs" / "reference" / "api"
    pages = "\n".join(page.read_text() for page in folder.glob("*.md"))
    described = re.findall(r"^\.\. auto\w+:: (?:\w+\.)*(\w+)$", pages, re.M)
    summarised = re.findall(r"^   (?:\w+\.)*(\w+)$", (folder / "index.md").read_text(), re.M)
    namespaces = {name for name in nb.__all__ if inspect.ismodule(getattr(nb, name))}
    missing = set(nb.__all__) - namespaces - set(described)
    assert not missing, f"give {sorted(missing)} a place in a page of docs/reference/api"
    missing = set(nb.__all__) - set(summarised)
    assert not missing, f"give {sorted(missing)} a line in docs/reference/api/index.md"
