"""Laws that every sampler obeys at any parameters: both chains are what they are scored as."""

import dataclasses
import functools
from functools import partial

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
from numpyro_bridge.processes.base import State
from numpyro_bridge.processes.initial import InitialNormal, inverse_of_lower
from numpyro_bridge.processes.kernels import AbstractKernel, Gaussian
from numpyro_bridge.target.clipped import ClippedScore
from numpyro_bridge.trajectories.simulate import simulate_many, simulate_states
from numpyro_bridge.trajectories.trajectory import Trajectory
from tests import catalogue, targets
from tests.catalogue import narrow
from tests.statistics import assert_mean_at_most, assert_same_mean

NUM = 50_000

TARGETS = {
    "conjugate normal": targets.conjugate_normal,
    "skewed": targets.skewed,
    "two modes": targets.two_modes,
}

USUAL = {
    process: "conjugate normal" if process == catalogue.FROM_PRIOR else "skewed"
    for process in catalogue.PROCESSES
}

PAIRS = [
    *USUAL.items(),
    ("CMCD", "conjugate normal"),
    ("CMCD from a mixture", "two modes"),
    ("DBS from a mixture", "two modes"),
]

every_process = pytest.mark.parametrize("process", catalogue.PROCESSES)
every_pair = pytest.mark.parametrize(("process", "target"), PAIRS)

known_target = functools.cache(lambda name: TARGETS[name]())


@eqx.filter_jit
def run_both(rng_key, process, target, exact_draws) -> tuple[Trajectory, Trajectory]:
    """Trajectories of the forward chain, and of the backward chain from exact draws."""
    forward_key, backward_key = jax.random.split(rng_key)
    backward = jax.vmap(nb.trajectories.simulate_backward, in_axes=(0, None, None, 0))
    keys = jax.random.split(backward_key, NUM)
    return (
        simulate_many(forward_key, process, target, NUM),
        backward(keys, process, target, exact_draws),
    )


def run_known(process, known: targets.Known) -> tuple[Trajectory, Trajectory]:
    draw_key, run_key = jax.random.split(jax.random.key(3))
    return run_both(run_key, process, known.target, known.draw(draw_key, NUM))


@functools.cache
def runs_of(process: str, target: str) -> tuple[Trajectory, Trajectory]:
    return run_known(catalogue.untrained(process), known_target(target))


def features(runs: Trajectory):
    """Bounded functions of a path: one, how far its steps go, and where it starts and ends."""
    path = runs.states.position
    steps = jnp.mean(jnp.diff(path, axis=1) ** 2, axis=(1, 2))
    ends = [bounded_moments(path[:, 0]), bounded_moments(path[:, -1])]
    return jnp.concatenate([jnp.ones((len(path), 1)), jnp.tanh(steps)[:, None], *ends], axis=1)


def bounded_moments(x):
    """Where positions in two dimensions are, and how wide they lie along and across a diagonal."""
    along, across = x[:, 0] + x[:, 1], x[:, 0] - x[:, 1]
    return jnp.tanh(jnp.stack([*x.T, across, across**2, along**2 / 9], axis=1))


def assert_bridge_identity(runs: tuple[Trajectory, Trajectory], log_evidence: float) -> None:
    """`E_forward[h sigmoid(l)] = E_backward[h sigmoid(-l)]`, `l` the normalised log weight.

    It holds for any function `h` of the path, since `p_forward sigmoid(l)` and
    `p_backward sigmoid(-l)` are the same function. Everything is bounded on both sides, so no tail
    of the weights can hide or fake a difference.
    """
    forward, backward = runs
    on_forward = jax.nn.sigmoid(forward.log_weight - log_evidence)[:, None] * features(forward)
    on_backward = jax.nn.sigmoid(log_evidence - backward.log_weight)[:, None] * features(backward)
    # Both chains visit the same paths: an identity of two zeros would say nothing.
    assert 0.02 < float(jnp.mean(on_forward[:, 0])) < 0.98
    assert_same_mean(on_forward, on_backward)


@every_pair
def test_bridge_identity(process, target):
    assert_bridge_identity(runs_of(process, target), known_target(target).log_evidence)


class Wider(AbstractKernel):
    """Samples five percent wider than it scores."""

    inner: Gaussian

    def sample(self, rng_key):
        mean, scale, target = self.inner.mean, self.inner.scale, self.inner.target
        return Gaussian(mean, 1.05 * scale, target).sample(rng_key)

    def log_prob(self, point):
        return self.inner.log_prob(point)


class Broken(nb.processes.AbstractProcess):
    """A process one of whose chains is not what it is scored as."""

    inner: nb.processes.AbstractProcess
    chain: str = eqx.field(static=True)

    def __init__(self, inner, chain):
        self.inner = inner
        self.chain = chain

    @property
    def num_steps(self):
        return self.inner.num_steps

    def start(self, target):
        return self.inner.start(target)

    def controls(self, step, point):
        return self.inner.controls(step, point)

    def forward(self, step, state, target):
        kernel = self.inner.forward(step, state, target)
        assert isinstance(kernel, Gaussian)
        return Wider(kernel) if self.chain == "forward" else kernel

    def backward(self, step, state, target):
        kernel = self.inner.backward(step, state, target)
        assert isinstance(kernel, Gaussian)
        return Wider(kernel) if self.chain == "backward" else kernel


@pytest.mark.parametrize("chain", ["forward", "backward"])
def test_bridge_identity_notices_a_kernel_five_percent_wider_than_its_score(chain):
    process = Broken(catalogue.untrained("CMCD"), chain)
    known = known_target("skewed")
    with pytest.raises(AssertionError, match="standard errors"):
        assert_bridge_identity(run_known(process, known), known.log_evidence)


@every_process
def test_a_trajectory_is_the_same_however_it_is_scored(process):
    """`rescore` gives the numbers of `simulate`, `simulate_states` its states."""
    known, process = known_target(USUAL[process]), catalogue.untrained(process)
    target = process.prepared(known.target)

    @jax.vmap
    def three_ways(key):
        run = nb.trajectories.simulate(key, process, target)
        return (
            run,
            nb.trajectories.rescore(process, target, run.states),
            simulate_states(key, process, target),
        )

    run, rescored, states = jax.jit(three_ways)(jax.random.split(jax.random.key(0), 50))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    jax.tree.map(close, rescored, run)
    jax.tree.map(close, states, run.states)


@every_pair
def test_bounds_hold_on_both_sides(process, target):
    (forward, backward), log_evidence = runs_of(process, target), known_target(target).log_evidence
    assert_mean_at_most(forward.log_weight, log_evidence)
    assert_mean_at_most(-backward.log_weight, -log_evidence)


# The mean of a weight is a check only where its variance is finite, as the identity above is not in
# need of: a Langevin step without control has heavy weights in the tails of the skewed law.
@pytest.mark.parametrize(
    ("process", "target"), [pair for pair in PAIRS if pair[0].startswith(("CMCD", "DBS"))]
)
def test_mean_weight_is_the_evidence(process, target):
    (forward, _), log_evidence = runs_of(process, target), known_target(target).log_evidence
    assert_same_mean(jnp.exp(forward.log_weight - log_evidence), 1.0)


# --- exactness at zero control --------------------------------------------------------------------


def spread_at(process, known: targets.Known) -> float:
    runs = eqx.filter_jit(simulate_many)(jax.random.key(0), process, known.target, 2_000)
    np.testing.assert_allclose(jnp.mean(runs.log_weight), known.log_evidence, atol=0.2)
    return float(jnp.std(runs.log_weight))


def assert_first_order(spread: dict[int, float]) -> None:
    """Four times the steps over the same time, a quarter of the spread."""
    few, many = spread.values()
    assert few > 0.01
    assert abs(few / many - 4) < 0.4, few / many


STEPS = (8, 32)


def test_untrained_cmcd_that_starts_at_its_target_is_exact_to_first_order_in_the_step():
    """Langevin dynamics in equilibrium: reversible but for the size of its steps."""
    known = targets.normal([0.4, -0.3], 0.8**2 * np.eye(2))
    law = eqx.tree_at(lambda law: law.mean, InitialNormal(2, scale=0.8), jnp.asarray([0.4, -0.3]))

    def process(num_steps):
        settings = catalogue.SMALL | {"num_steps": num_steps, "diffusion": num_steps**-0.5}
        return nb.CMCD(jax.random.key(0), 2, initial=law, **settings)

    assert_first_order({num_steps: spread_at(process(num_steps), known) for num_steps in STEPS})


def test_untrained_dbs_on_a_standard_normal_is_exact_to_first_order_in_the_step():
    known = targets.normal(np.zeros(2), np.eye(2))

    def process(num_steps):
        settings = catalogue.SMALL | {"num_steps": num_steps, "diffusion": num_steps**-0.5}
        return nb.DBS(jax.random.key(0), 2, **settings)

    assert_first_order({num_steps: spread_at(process(num_steps), known) for num_steps in STEPS})


def test_untrained_dis_is_exact_to_first_order_in_the_step():
    known = targets.normal(np.zeros(2), np.eye(2))

    def process(num_steps):
        settings = catalogue.SMALL | {"num_steps": num_steps, "diffusion": num_steps**-0.5}
        return nb.DIS(jax.random.key(0), 2, **settings)

    assert_first_order({num_steps: spread_at(process(num_steps), known) for num_steps in STEPS})


@pytest.mark.parametrize(
    ("process", "scale"), [(nb.DDS, 1.0), (partial(nb.PIS, diffusion=0.5), 1.25**0.5)]
)
def test_untrained_dds_and_pis_are_exact_on_their_reference(process, scale):
    """At any number of steps, to rounding."""
    known = targets.normal(np.zeros(2), scale**2 * np.eye(2))
    process = process(jax.random.key(0), 2, num_steps=4, control=narrow(8))
    runs = eqx.filter_jit(simulate_many)(jax.random.key(0), process, known.target, 100)
    np.testing.assert_allclose(runs.log_weight, known.log_evidence, rtol=1e-9)


@pytest.mark.parametrize(
    "integrator", [nb.processes.OBABO(), nb.processes.BAOAB(), nb.processes.OBAB()]
)
def test_underdamped_annealing_in_equilibrium_is_exact_to_second_order_in_the_step(integrator):
    """Four times the steps over the same time, a sixteenth of the spread."""
    known = targets.normal([0.4, -0.3], 0.8**2 * np.eye(2))
    law = eqx.tree_at(lambda law: law.mean, InitialNormal(2, scale=0.8), jnp.asarray([0.4, -0.3]))

    def process(num_steps):
        return nb.UHA(
            jax.random.key(0),
            2,
            num_steps=num_steps,
            step_size=2 / num_steps,
            integrator=integrator,
            initial=law,
        )

    few, many = (spread_at(process(num_steps), known) for num_steps in STEPS)
    assert few > 0.003
    assert abs(few / many - 16) < 3, few / many


# --- parts ----------------------------------------------------------------------------------------


def test_initial_laws_have_the_score_of_their_density():
    """Noise on every array: also where a factor is no longer as it was made."""
    target = known_target("skewed").target
    for name in ("CMCD", "CMCD from a mixture"):
        law = catalogue.untrained(name).initial
        positions = jax.random.normal(jax.random.key(0), (5, 2))
        points = jax.jit(lambda x: jax.vmap(target.at)(x))(positions)

        def log_prob(position, law=law, points=points):
            point = jax.tree.map(lambda leaf: leaf[0], points)
            return law.kernel(target).log_prob(point._replace(position=position))

        scores = jax.jit(jax.vmap(jax.grad(log_prob)))(positions)
        ours = jax.jit(lambda x, law=law: jax.vmap(law.score)(x))(points)
        np.testing.assert_allclose(ours, scores, rtol=1e-10)


@pytest.mark.parametrize("process", ["CMCD", "CMCD from a mixture"])
def test_initial_law_samples_what_it_scores(process):
    """Noise on every array: also on those entries of a triangular factor that are not read."""
    process = catalogue.PROCESSES[process](jax.random.key(1), 2)
    law = catalogue.perturbed(jax.random.key(7), process.initial, size=0.4)
    kernel = law.kernel(known_target("skewed").target)
    keys = jax.random.split(jax.random.key(0), NUM)
    draws = jax.jit(lambda x: jax.vmap(kernel.sample)(x).position)(keys)
    # Importance weights of the score against a wide normal law.
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
    law = nb.processes.InitialPrior()
    with pytest.raises(ValueError, match="LogDensityTarget has none; use a NumPyro model"):
        law.prepared(known_target("skewed").target)
    plain = known_target("conjugate normal").target
    with pytest.raises(ValueError, match=r"run the process on target.with_prior\(\)"):
        law.score(plain.at(jnp.zeros(2)))

    def improper():
        numpyro.sample("x", dist.ImproperUniform(dist.constraints.real, (), (2,)))
        numpyro.factor("bounded", -1.0)

    target = nb.target_from_model(jax.random.key(0), improper)
    with pytest.raises(ValueError, match="improper, masked or scaled, or has discrete sites"):
        law.prepared(target)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_factor_of_either_sign_stands_for_the_same_law(sign):
    """Training may carry a diagonal entry through zero: the law is that of its square."""
    law, target = catalogue.two_normals(), known_target("skewed").target
    turned = eqx.tree_at(lambda law: law.factors, law, sign * law.factors)
    point = target.at(jnp.asarray([0.3, -0.4]))
    expected = law.kernel(target).log_prob(point)
    np.testing.assert_allclose(turned.kernel(target).log_prob(point), expected, rtol=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 5, 8])
def test_a_factor_is_inverted_whatever_lies_above_its_diagonal(dim):
    factor = jax.random.normal(jax.random.key(dim), (dim, dim)) + 2 * jnp.eye(dim)
    inverse = jnp.linalg.inv(jnp.tril(factor))
    np.testing.assert_allclose(inverse_of_lower(factor), inverse, rtol=1e-9, atol=1e-12)


def test_processes_refuse_what_is_no_bridge():
    for process in (nb.CMCD, nb.DBS, nb.PIS, nb.DDS, nb.DIS, nb.MCD, nb.AnnealedLangevin):
        with pytest.raises(ValueError, match="num_steps must be a whole number >= 1.*got 0"):
            process(jax.random.key(0), 2, num_steps=0)
        with pytest.raises(ValueError, match="must be positive, got 0"):
            process(jax.random.key(0), 2, diffusion=0.0)
    for process in (nb.UnderdampedCMCD, nb.UnderdampedDBS, nb.UnderdampedDIS, nb.UHA, nb.LDVI):
        with pytest.raises(ValueError, match="num_steps must be a whole number >= 1.*got 0"):
            process(jax.random.key(0), 2, num_steps=0)
        with pytest.raises(ValueError, match="friction must be a positive number.*got 0"):
            process(jax.random.key(0), 2, friction=0.0)


def test_a_clipped_score_is_seen_by_both_chains():
    """A score that is cut changes the chains, not the meaning of the weights."""
    known = known_target("skewed")
    clipped = dataclasses.replace(known, target=ClippedScore(known.target, bound=0.5))
    process = nb.CMCD(jax.random.key(1), 2, **catalogue.SMALL)
    runs = run_known(catalogue.perturbed(jax.random.key(2), process, 0.1), clipped)
    lengths = jnp.sqrt(jnp.mean(runs[0].states.score ** 2, axis=-1))
    assert float(jnp.mean(lengths > 0.5)) > 0.1  # the bound is met
    assert_bridge_identity(runs, known.log_evidence)


def test_a_state_holds_a_point_and_what_was_learned_there():
    known = known_target("skewed")
    process = catalogue.untrained("DBS")
    point = known.target.at(jnp.asarray([0.1, -0.2]))
    state = State(point, process.controls(jnp.asarray(1), point))
    forward = process.forward(jnp.asarray(1), state, known.target)
    backward = process.backward(jnp.asarray(1), state, known.target)
    diffusion = process.diffusion(1)
    np.testing.assert_allclose(forward.scale, diffusion)
    np.testing.assert_allclose(backward.scale, diffusion)
    moved = point.position + diffusion**2 * state.controls.forward
    np.testing.assert_allclose(forward.mean, moved)
    assert not np.allclose(forward.mean, backward.mean)
