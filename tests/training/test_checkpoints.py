"""Checkpoints: a run resumes its own file, and refuses that of another run."""

import shutil
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core.storage import save_tree
from tests.catalogue import narrow
from tests.hill import TOP, Hill, climb, climb_on_rough_ground, fit


def test_checkpoints_of_other_runs_are_refused(tmp_path):
    path = tmp_path / "checkpoint"
    run = partial(fit, jax.random.key(0), loss=climb, checkpoint=path)
    run(Hill(), data=TOP, num_iterations=30)
    with pytest.raises(
        ValueError, match="another num_iterations .it has 30, this run 40.*delete it"
    ):
        run(Hill(), data=TOP, num_iterations=40)
    with pytest.raises(ValueError, match="another data; delete it"):
        run(Hill(), data=TOP + 1, num_iterations=30)
    with pytest.raises(ValueError, match="another data; delete it"):
        run(Hill(), data=TOP[::-1], num_iterations=30)
    with pytest.raises(ValueError, match="another rng_key"):
        fit(jax.random.key(1), Hill(), climb, TOP, checkpoint=path, num_iterations=30)
    with pytest.raises(ValueError, match="another loss .it has 'climb', this run 'climb_on_rough"):
        fit(
            jax.random.key(0),
            Hill(),
            climb_on_rough_ground,
            TOP,
            checkpoint=path,
            num_iterations=30,
        )
    with pytest.raises(ValueError, match=r"in its state .*position float64\[3\].*float64\[4\]"):
        run(Hill(4), data=TOP, num_iterations=30)
    save_tree(path, {"kind": "posterior"}, [])
    with pytest.raises(ValueError, match="not a checkpoint of this run"):
        run(Hill(), data=TOP, num_iterations=30)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="not a file of numpyro_bridge"):
        run(Hill(), data=TOP, num_iterations=30)


@pytest.mark.parametrize("missing", [jnp.nan, jnp.inf])
def test_a_run_whose_data_are_not_all_finite_resumes(tmp_path, missing):
    """Such as observations that a model masks."""

    def loss(rng_key, hill, data):
        return climb(rng_key, hill, data[:3])

    again = partial(fit, jax.random.key(0), Hill(), loss, num_iterations=30)
    path, data = tmp_path / "checkpoint", jnp.append(TOP, missing)
    before = again(data, checkpoint=path)
    after = again(data, checkpoint=path)
    np.testing.assert_array_equal(after.module.position, before.module.position)
    with pytest.raises(ValueError, match="another data"):
        again(jnp.append(missing, TOP), checkpoint=path)


def short_run(path, log_density, process=nb.CMCD, objective=nb.reverse_kl_ld, **settings):
    return nb.BridgeSampler(
        nb.target_from_log_density(log_density, 2),
        process=partial(process, num_steps=2, control=narrow(4), **settings),
        objective=objective,
        standardise=nb.no_standardisation,
        num_iterations=2,
        num_trajectories=4,
        checkpoint=path,
        progress_bar=False,
    ).run(jax.random.key(0))


def normal(x):
    return -0.5 * jnp.sum(x**2)


def wider(x):
    return -0.25 * jnp.sum(x**2)


@pytest.mark.slow
def test_a_checkpoint_of_another_sampler_or_loss_is_refused(tmp_path):
    """Also where the arrays that are trained are the same."""
    run = partial(short_run, tmp_path / "checkpoint", normal)
    run(nb.UnderdampedCMCD)
    with pytest.raises(ValueError, match="network .it has 'UnderdampedCMCD', this run 'LDVI'"):
        run(nb.LDVI)
    with pytest.raises(ValueError, match="network .it has 'OBABO', this run 'BAOAB'"):
        run(nb.UnderdampedCMCD, integrator=nb.processes.BAOAB())
    (tmp_path / "checkpoint").unlink()

    def from_draws(seed):
        positions = jax.random.normal(jax.random.key(seed), (9, 2))
        part = nb.forward_kl_from_draws(positions)
        return nb.mixed((0.5, nb.reverse_kl_ld), (0.5, part))

    run(nb.CMCD, from_draws(0))
    run(nb.CMCD, from_draws(0))
    with pytest.raises(ValueError, match="other arrays in its loss"):
        run(nb.CMCD, from_draws(1))


class SteepHill(Hill):
    """A hill with a setting that no array shows."""

    steepness: float = eqx.field(static=True)

    def __init__(self, steepness):
        super().__init__()
        self.steepness = steepness


def test_a_run_is_its_arrays_names_and_densities(tmp_path):
    """A changed scalar setting goes unnoticed: the run of the file is resumed."""
    settings = {"checkpoint": tmp_path / "checkpoint", "num_iterations": 30}
    first = fit(jax.random.key(0), SteepHill(1.0), climb, TOP, **settings)
    again = fit(jax.random.key(0), SteepHill(2.0), climb, TOP, **settings)
    np.testing.assert_array_equal(again.module.position, first.module.position)
    with pytest.raises(ValueError, match="network .it has 'SteepHill', this run 'Hill'"):
        fit(jax.random.key(0), Hill(), climb, TOP, **settings)
    moved = eqx.tree_at(lambda hill: hill.position, SteepHill(1.0), TOP)
    with pytest.raises(ValueError, match="another start; delete it"):
        fit(jax.random.key(0), moved, climb, TOP, **settings)
    with pytest.raises(ValueError, match="in its state .it has 'optimizer.*this run"):
        fit(jax.random.key(0), SteepHill(1.0), climb, TOP, optimizer=optax.sgd(0.1), **settings)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    """The model is another formula with the same numbers."""
    run = partial(short_run, tmp_path / "checkpoint")
    run(normal)
    run(normal)
    with pytest.raises(ValueError, match="another model .the log density at a fixed point"):
        run(wider)


def test_a_checkpoint_that_cannot_be_written_is_refused_before_and_forgiven_later(tmp_path):
    with pytest.raises(ValueError, match="checkpoint='.*' cannot be written: .*before anything"):
        path = tmp_path / ("x" * 300)
        fit(jax.random.key(0), Hill(), climb, TOP, checkpoint=path, num_iterations=30)
    folder = tmp_path / "folder"

    def loss(rng_key, hill, data):
        """Something takes the place of the folder while the training runs."""
        if folder.is_dir():
            shutil.rmtree(folder)
            folder.touch()
        return climb(rng_key, hill, data)

    with pytest.warns(UserWarning, match="could not be written.*The training goes on"):
        done = fit(
            jax.random.key(0), Hill(), loss, TOP, checkpoint=folder / "file", num_iterations=30
        )
    assert done.num_iterations == 30
