"""The benchmarks' own mathematics: metrics against closed forms, densities against their draws."""

import ast
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import multivariate_normal

from benchmarks import (
    cox_evidence,
    densities,
    losses_rankings,
    metrics,
    posteriordb,
    posteriordb_models,
    rows,
    source,
    structure,
)
from tests.statistics import assert_same_mean

# --- distances ------------------------------------------------------------------------------------


def quantiles(mean: float, scale: float, num: int = 200):
    """A normal distribution as equally weighted points on the line."""
    levels = (jnp.arange(num) + 0.5) / num
    return (mean + scale * jax.scipy.stats.norm.ppf(levels))[:, None]


def entropic_cost_of_normals(distance, first, second, epsilon):
    """Between normal distributions on the line, Janati et al. (2020), arXiv:2006.02572."""
    root = math.sqrt(4 * (first * second) ** 2 + epsilon**2 / 4)
    overlap = (
        root - epsilon / 2 * (1 - math.log(epsilon)) - epsilon / 2 * math.log(root + epsilon / 2)
    )
    return distance**2 + first**2 + second**2 - overlap


@pytest.mark.parametrize("epsilon", [0.3, 2.0])
def test_entropic_cost_between_normal_distributions(epsilon):
    cost = metrics.entropic_cost(quantiles(0.0, 1.0), quantiles(1.5, 0.6), epsilon)
    np.testing.assert_allclose(cost, entropic_cost_of_normals(1.5, 1.0, 0.6, epsilon), rtol=0.01)


def test_entropic_cost_between_two_pairs_of_points():
    """One number is left free in the plan, and the minimum over it has a closed form."""
    x, y = jnp.asarray([[0.0, 0.0], [1.0, 2.0]]), jnp.asarray([[1.0, 0.0], [0.0, 2.0]])
    cost, epsilon = np.asarray([[1.0, 4.0], [4.0, 1.0]]), 2.0
    ratio = math.exp(3.0 / epsilon)
    share = 0.5 * ratio / (1 + ratio)
    plan = np.asarray([[share, 0.5 - share], [0.5 - share, share]])
    expected = np.sum(plan * cost + epsilon * plan * np.log(4 * plan))
    value = metrics.entropic_cost(x, y, epsilon, tolerance=1e-9)
    np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_entropic_cost_tends_to_that_of_the_sorted_coupling():
    """On the line the best plan takes the points in order."""
    x, y = jnp.asarray([[3.0], [-1.0], [0.5]]), jnp.asarray([[0.0], [4.0], [-2.5]])
    best = np.mean((np.sort(x, axis=0) - np.sort(y, axis=0)) ** 2)
    values = [float(metrics.entropic_cost(x, y, epsilon)) for epsilon in (1.0, 0.1, 0.01)]
    assert values == sorted(values, reverse=True)
    # What is left is the entropy of a plan without freedom.
    np.testing.assert_allclose(values[-1] - 0.01 * math.log(3), best, atol=1e-3)


def test_an_iteration_that_has_not_ended_has_no_value():
    x, y = quantiles(0.0, 1.0, 50), quantiles(1.0, 2.0, 50)
    assert np.isnan(metrics.entropic_cost(x, y, 0.01, max_iterations=5))


def test_sinkhorn_divergence_of_a_shift_is_its_square():
    x = quantiles(0.0, 1.0)
    np.testing.assert_allclose(metrics.sinkhorn_divergence(x, x, 0.5), 0.0, atol=1e-9)
    np.testing.assert_allclose(metrics.sinkhorn_divergence(x, x + 0.7, 0.5), 0.49, rtol=0.01)


def test_mmd_is_unbiased():
    """Over many small batches, against the closed form for two normal distributions."""
    width, shift = 1.3, jnp.asarray([0.8, 0.0])
    x, y = jax.random.normal(jax.random.key(0), (2, 2_000, 10, 2))
    values = jax.vmap(metrics.squared_mmd, in_axes=(0, 0, None))(x, y + shift, width)
    apart = math.exp(-0.5 * 0.8**2 / (width**2 + 2))
    assert_same_mean(values, 2 * width**2 / (width**2 + 2) * (1 - apart))


def test_median_distance():
    np.testing.assert_allclose(metrics.median_distance(jnp.asarray([[0.0], [1.0], [3.0]])), 2.0)


def test_mode_coverage():
    modes = jnp.asarray([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]])
    shares = metrics.mode_shares(
        jnp.asarray([[0.1, 0.3], [3.8, 0.0], [3.0, 1.0], [4.0, 5.0]]), modes
    )
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.0, 0.25])
    np.testing.assert_allclose(metrics.entropic_mode_coverage(shares), 0.75)
    np.testing.assert_allclose(metrics.entropic_mode_coverage(jnp.full(5, 0.2)), 1.0)
    np.testing.assert_allclose(metrics.entropic_mode_coverage(jnp.asarray([1.0, 0.0])), 0.0)


# --- densities ------------------------------------------------------------------------------------

CENTRES = np.asarray([[-3.0, 0.5], [1.0, 2.0], [2.0, -1.5]])
DENSITIES = {
    "funnel": lambda: densities.funnel(3),
    "double wells": lambda: densities.double_wells(2),
    "many well": lambda: densities.many_well(1),
    "normal mixture": lambda: densities.normal_mixture(CENTRES),
    "student mixture": lambda: densities.student_mixture(CENTRES),
}


@eqx.filter_jit
def two_sides(rng_key, target, log_evidence, exact):
    """Bounded functions under the target and under a normal one, whose means must agree.

    As in the identity of the samplers: `p sigmoid(-l)` and `q sigmoid(l)` are the same function.
    """
    mean, covariance = jnp.zeros(target.dim), 6.0 * jnp.eye(target.dim)
    normal = jax.random.multivariate_normal(rng_key, mean, covariance, (len(exact),))

    def log_ratio(x):
        return (
            target.log_density(x) - log_evidence - multivariate_normal.logpdf(x, mean, covariance)
        )

    def side(x, sign):
        features = jnp.concatenate([jnp.ones(1), jnp.tanh(x), jnp.tanh(x[:1] * x[1:])])
        return jax.nn.sigmoid(sign * log_ratio(x)) * features

    return jax.vmap(side, in_axes=(0, None))(exact, -1.0), jax.vmap(side, in_axes=(0, None))(
        normal, 1.0
    )


@pytest.mark.parametrize("name", DENSITIES)
def test_density_evidence_and_draws_belong_together(name):
    density = DENSITIES[name]()
    assert density.draw is not None
    exact = density.draw(jax.random.key(1), 20_000)
    on_target, on_normal = two_sides(jax.random.key(2), density.target, density.log_evidence, exact)
    assert float(jnp.mean(on_target[:, 0])) > 0.05  # they overlap
    assert_same_mean(on_target, on_normal)


def test_the_evidence_of_the_published_sizes():
    """Given to the last digit that other implementations print."""
    np.testing.assert_allclose(densities.double_wells().log_evidence, -0.5410555128794535)
    np.testing.assert_allclose(densities.many_well().log_evidence, 164.69567531318188)


def test_modes_of_equal_mass_are_covered_by_exact_draws():
    density = densities.double_wells()
    assert density.draw is not None and density.modes.shape == (32, 5)
    shares = metrics.mode_shares(density.draw(jax.random.key(0), 20_000), density.modes)
    assert metrics.entropic_mode_coverage(shares) > 0.999
    np.testing.assert_allclose(shares, 1 / 32, atol=5 * math.sqrt(1 / 32 / 20_000))


def test_a_cox_process_without_correlation_is_a_product_of_cells():
    """One cell holds all points: a normal prior times a Poisson likelihood without factorial."""
    density = densities.cox_process([[0.2, 0.9], [0.4, 0.1]], 1)
    normal = -0.5 * (0.3 - densities.COX_MEAN) ** 2 / densities.COX_VARIANCE
    normal -= 0.5 * math.log(2 * math.pi * densities.COX_VARIANCE)
    value = density.target.log_density(jnp.asarray([0.3]))
    np.testing.assert_allclose(value, normal + 2 * 0.3 - math.exp(0.3), rtol=1e-6)


# --- reference evidences --------------------------------------------------------------------------


def test_bridge_sampling_between_two_normal_distributions(key):
    """The draws have 3/2 of the normal distribution's scale, and mass e²."""

    def log_ratio(x):
        return 2.0 - 0.5 * (x / 1.5) ** 2 - math.log(1.5) + 0.5 * x**2

    def estimate(key):
        draws, normal = jax.random.normal(key, (2, 2_000))
        return cox_evidence.bridge_sampling(log_ratio(1.5 * draws), log_ratio(normal))

    assert_same_mean(jax.vmap(estimate)(jax.random.split(key, 100)), 2.0)


def test_evidence_by_importance_sampling_is_that_in_closed_form():
    """Coefficients integrated out, under flat priors; the draws need only be near the posterior."""
    rng = np.random.default_rng(0)
    design = np.stack([np.ones(12), np.linspace(-1, 1, 12)], axis=1)
    y = design @ [1.0, 2.0] + 0.5 * rng.normal(size=12)
    near = {
        "beta": [1.0, 2.0] + 0.2 * rng.normal(size=(500, 2)),
        "sigma": 0.5 * np.exp(0.25 * rng.normal(size=500)),
    }
    expected = posteriordb.regression_evidence(design, y, posteriordb.half_cauchy)
    value = posteriordb.importance_evidence(
        posteriordb_models.regression_with_flat_priors, {"design": design, "y": y}, near, num=20_000
    )
    np.testing.assert_allclose(value, expected, atol=0.06)


def test_evidence_of_a_regression_tends_to_that_of_a_flat_prior_as_its_prior_widens():
    rng = np.random.default_rng(1)
    design, y = rng.normal(size=(10, 2)), rng.normal(size=10)
    flat = posteriordb.regression_evidence(design, y, posteriordb.half_cauchy)
    wide = posteriordb.regression_evidence(design, y, posteriordb.half_cauchy, 1e8)
    # The wide prior's density, of two coefficients, is all that differs.
    np.testing.assert_allclose(wide, flat - math.log(2 * math.pi * 1e8), atol=1e-5)


# --- tables ---------------------------------------------------------------------------------------


def rows_of(target, gaps_by_loss):
    """Rows of the study of losses, two keys each."""
    same = {"process": "CMCD", "noise": "learned", "standardised": "no", "gap_error": "0.001"}
    budget = {"num_steps": "16", "num_trajectories": "128", "num_iterations": "400"}
    return [
        {"target": target, "objective": loss, "key": str(key), "gap": str(gap), **same, **budget}
        for loss, gaps in gaps_by_loss.items()
        for key, gap in enumerate(gaps)
    ]


def test_a_claim_is_counted_where_keys_decide_it():
    rows = [
        *rows_of("clear", {"reverse_kl_ld": (0.1, 0.11), "log_variance": (0.5, 0.51)}),
        *rows_of("noisy", {"reverse_kl_ld": (0.1, 0.9), "log_variance": (0.5, 1.1)}),
        *rows_of("close", {"reverse_kl_ld": (0.1, 0.1), "log_variance": (0.104, 0.104)}),
        *rows_of("lost", {"reverse_kl_ld": (0.3, 0.31), "log_variance": (0.1, 0.11)}),
        *rows_of("diverged", {"reverse_kl_ld": (9.0, 9.1), "log_variance": (0.1, math.nan)}),
    ]
    lines = losses_rankings.rankings(rows)
    claim = "`reverse_kl_ld` is better than `log_variance`, noise learned"
    assert f"| {claim} | as it is | 2 / 2 / 1 | 2 / 2 / 1 |" in lines
    assert f"- {claim}, as it is: CMCD: lost." in lines
    assert sum(claim in line for line in lines) == 2


# --- structure ------------------------------------------------------------------------------------

COMPARED = """
if name == "a" or name in ("b", None) or "c" != name: ...  # three
if site["type"] == "sample" or header.get("kind") != "posterior": ...  # tags
if name == other or number in (1, 2) or name is None: ...  # no literal string
match name:
    case "d": ...  # the fourth
"""


def test_strings_are_counted_but_for_the_tags_of_formats():
    assert source.string_comparisons(ast.parse(COMPARED)) == 4


def checkout(root, files: dict[str, str]):
    for name, text in files.items():
        path = root / "numpyro_bridge" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_chain_of_imports_leads_through_folders_and_stops_at_a_circle(tmp_path):
    root = checkout(
        tmp_path,
        {
            "__init__.py": "from numpyro_bridge.high import top\n__all__ = ['top']\n",
            "high.py": "def top():\n    from numpyro_bridge.low import base\n",
            "low/__init__.py": "from numpyro_bridge.low.base import base\n",
            "low/base.py": "from .ground import base\n",
            "low/ground.py": "import numpyro_bridge.low.base\n",
        },
    )
    measured = structure.measure(root)
    assert measured.entries == ["high.py", "low"]
    assert measured.imports.longest_chain == ["high", "low.base", "low.ground"]
    assert measured.imports.circles == [("low.ground", "low.base")]
    lines = structure.table(root, against=root).splitlines()
    assert "| public names | 1 | 1 | ≤ 60 |" in lines
    assert lines[-1] == "Longest chain of imports, after: high -> low.base -> low.ground."
    with pytest.raises(FileNotFoundError, match="is no checkout of this project"):
        structure.measure(tmp_path / "elsewhere")


class Case(NamedTuple):
    """Columns that tell one row of a study from another."""

    target: str
    key: int


def test_cases_that_a_file_lacks_are_measured_once_and_shown_by_the_numbers_they_have(
    tmp_path, capsys
):
    measured = []

    def measure(case: Case) -> dict:
        measured.append(case)
        return {**case._asdict(), "elbo": -1.25, "note": "a word"}

    path, cases = tmp_path / "rows.csv", [Case("seeds", 0), Case("seeds", 1)]
    rows.complete(path, cases[:1], measure)
    found = rows.complete(path, cases, measure, shown=("elbo", "gap"))
    assert measured == cases and [row["key"] for row in found] == ["0", "1"]
    assert "seeds 1 elbo -1.25" in capsys.readouterr().out
