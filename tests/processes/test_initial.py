"""Initial distributions: their draws, densities and scores belong together."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import numpyro_bridge as nb
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.processes.initial import inverse_of_lower
from tests import catalogue
from tests.bridge_identity import NUM, bounded_moments, known_target
from tests.statistics import assert_same_mean


def test_initial_distributions_have_the_score_of_their_density():
    """Noise on every array: also where a factor is no longer as it was made."""
    target = known_target("skewed").target
    for name in ("CMCD", "CMCD from a mixture"):
        initial = catalogue.untrained(name).initial
        positions = jax.random.normal(jax.random.key(0), (5, 2))
        points = jax.jit(lambda x: jax.vmap(target.at)(x))(positions)

        def log_prob(position, initial=initial, points=points):
            point = jax.tree.map(lambda leaf: leaf[0], points)
            return initial.kernel(target).log_prob(point._replace(position=position))

        scores = jax.jit(jax.vmap(jax.grad(log_prob)))(positions)
        ours = jax.jit(lambda x, initial=initial: jax.vmap(initial.score)(x))(points)
        np.testing.assert_allclose(ours, scores, rtol=1e-10)


@pytest.mark.parametrize("process", ["CMCD", "CMCD from a mixture"])
def test_an_initial_distribution_samples_what_it_scores(process):
    """Noise on every array: also on those entries of a triangular factor that are not read."""
    process = catalogue.PROCESSES[process](jax.random.key(1), 2)
    initial = catalogue.perturbed(jax.random.key(7), process.initial, size=0.4)
    kernel = initial.kernel(known_target("skewed").target)
    keys = jax.random.split(jax.random.key(0), NUM)
    draws = jax.jit(lambda x: jax.vmap(kernel.sample)(x).position)(keys)
    # Importance weights of the score against a wide normal distribution.
    wide = 2.5 * jax.random.normal(jax.random.key(1), (NUM, 2))
    log_prob = jax.jit(jax.vmap(lambda x: kernel.log_prob(kernel.target.at(x))))(wide)
    weight = jnp.exp(log_prob - jnp.sum(jax.scipy.stats.norm.logpdf(wide, scale=2.5), axis=1))
    assert_same_mean(weight, 1.0)
    assert_same_mean(bounded_moments(draws), weight[:, None] * bounded_moments(wide))


def test_a_path_from_the_prior_tempers_the_likelihood():
    process = catalogue.untrained(catalogue.FROM_PRIOR)
    target = StandardisedTarget(
        known_target("conjugate normal").target.with_prior(),
        DenseMap(jnp.asarray([0.2, -0.1]), jnp.asarray([[0.5, 0.0], [0.2, 0.8]])),
    )

    def log_tempered(position, temperature):
        unstandardised = target.map(position)
        log_prior, log_likelihood = (
            getattr(target.base, name)(unstandardised) for name in ("log_prior", "log_likelihood")
        )
        return log_prior + temperature * log_likelihood

    @eqx.filter_jit
    def langevin_drift(step, position):
        return process.controls(step, target.at(position))[0]

    position = jnp.asarray([0.3, -0.7])
    score_of = jax.jit(jax.grad(log_tempered))
    for step, temperature in enumerate(process.annealing()):
        langevin = langevin_drift(jnp.asarray(step), position)
        score = score_of(position, temperature)
        np.testing.assert_allclose(langevin, 0.5 * score, rtol=1e-9)


def test_a_path_from_the_prior_needs_a_prior():
    initial = nb.processes.InitialPrior()
    with pytest.raises(ValueError, match="LogDensityTarget has none; use a NumPyro model"):
        initial.prepared(known_target("skewed").target)
    plain = known_target("conjugate normal").target
    with pytest.raises(ValueError, match=r"run the process on target.with_prior\(\)"):
        initial.score(plain.at(jnp.zeros(2)))

    def improper():
        x = numpyro.sample("x", dist.ImproperUniform(dist.constraints.real, (), (2,)))
        numpyro.factor("bounded", -jnp.sum(x**2))

    target = nb.target_from_model(jax.random.key(0), improper)
    with pytest.raises(ValueError, match="improper, masked or scaled, or has discrete sites"):
        initial.prepared(target)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_factor_of_either_sign_stands_for_the_same_distribution(sign):
    """Training may carry a diagonal entry through zero: what counts is its square."""
    initial, target = catalogue.two_normals(), known_target("skewed").target
    turned = eqx.tree_at(lambda initial: initial.factors, initial, sign * initial.factors)
    point = target.at(jnp.asarray([0.3, -0.4]))
    expected = initial.kernel(target).log_prob(point)
    np.testing.assert_allclose(turned.kernel(target).log_prob(point), expected, rtol=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 5, 8])
def test_a_factor_is_inverted_whatever_lies_above_its_diagonal(dim):
    factor = jax.random.normal(jax.random.key(dim), (dim, dim)) + 2 * jnp.eye(dim)
    inverse = jnp.linalg.inv(jnp.tril(factor))
    np.testing.assert_allclose(inverse_of_lower(factor), inverse, rtol=1e-9, atol=1e-12)
