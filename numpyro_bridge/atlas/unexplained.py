"""Charts for mass that probes find where no draw of the charts so far goes."""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.keys import split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.distinct import distinct_fits
from numpyro_bridge.atlas.effort import is_heavy
from numpyro_bridge.atlas.fit_normal import PIECE_STEPS, climb_on_pieces, draws_per_step
from numpyro_bridge.atlas.judge import Judgement, log_weights_at
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.mixture_fit import numpy_generator, spread_out
from numpyro_bridge.atlas.partition import Piece
from numpyro_bridge.atlas.probes import draw_probes
from numpyro_bridge.atlas.repair import WeightedNormals, normal_of
from numpyro_bridge.atlas.roughness import are_rough
from numpyro_bridge.atlas.stacked import joined, row, student_partition
from numpyro_bridge.atlas.standardised_target import weights_of_draws
from numpyro_bridge.atlas.starts import NUM_PRIOR_DRAWS
from numpyro_bridge.target import Target

NUM_STARTS, FEW_STARTS = 8, 2
"""Probes from which normal distributions are fitted; the second where evaluations are dear."""

NUM_CANDIDATES = 64
"""Unexplained probes of highest density, among which the starts are chosen far apart."""

NARROW = 0.1
"""Every other fit starts so much narrower than the heaviest chart."""

MAX_DEFICIT = 7.0
"""Mass that is smaller than the whole by more nats than this is not worth a chart."""


class Unexplained(NamedTuple):
    """What probes found."""

    charts: WeightedNormals | None = None
    """The charts with those that were added; None where nothing was found."""
    num_gradient_evaluations: int = 0
    rough: Float[np.ndarray, " dim"] | None = None
    """A place that was left out, since rounding hides what the density is there."""


def with_unexplained(
    rng_key: RNGKey, target: Target, normals: DenseMap, seen: Judgement, most: int
) -> Unexplained:
    """Add charts where probes lie whose weights would exceed those of all draws.

    A single such probe says little: in a tail that is heavier than that of its chart there are
    many, and hardly any mass. So normal distributions are fitted from a few of them, and those that
    end at a new place, with mass, become charts.

    Args:
        rng_key: Randomness of the probes and the fits.
        target: The target in its own coordinates.
        normals: The charts so far, stacked.
        seen: What their draws say.
        most: Number of charts at most.
    """
    if len(seen.log_mass) >= most or not np.isfinite(seen.log_evidence):
        return Unexplained()
    prior_key, probe_key, pick_key, fit_key, draw_key = split(rng_key, 5)
    prior = target.prior_positions(prior_key, NUM_PRIOR_DRAWS)
    probes = np.asarray(draw_probes(probe_key, normals, seen.log_mass, prior))
    log_density, log_weight = log_weights_at(target, seen.partition, probes)
    far = np.flatnonzero(seen.is_beyond(log_weight))
    cost = len(probes)
    if not len(far):
        return Unexplained(None, cost)
    highest = far[np.argsort(-log_density[far], kind="stable")[:NUM_CANDIDATES]]
    num = FEW_STARTS if is_heavy(target) else NUM_STARTS
    starts = _apart(pick_key, probes[highest], num)
    # As wide as the heaviest chart, or much narrower: nothing is known of what is there.
    like = row(normals, np.full(num, np.argmax(seen.log_mass)))
    factor = np.asarray(like.factor)
    width = np.resize(np.asarray([1.0, NARROW], factor.dtype), num)
    moved = on_device(starts), on_device(width[:, None, None] * factor)
    maps = eqx.tree_at(lambda rows: (rows.location, rows.factor), like, moved)
    everything = _everything(target, normals)
    charts = on_device(np.zeros(num, int))
    fits = climb_on_pieces(fit_key, target, everything.partition, charts, maps, on_device(num))
    cost += num * PIECE_STEPS * draws_per_step(target.dim)
    found, rough = _added(draw_key, everything, normals, seen, fits, most)
    return Unexplained(found, cost, rough)


def _everything(target: Target, normals: DenseMap) -> Piece:
    """The whole target as the piece of a single chart, for programs that take pieces."""
    only = np.full(len(normals.location), -np.inf)
    only[0] = 0.0
    return Piece(target, student_partition(normals, only), on_device(0))


def _apart(rng_key: RNGKey, candidates: np.ndarray, num: int) -> np.ndarray:
    """Starts that are far from each other; where there are few, some of them twice."""
    inside = np.linalg.solve(np.asarray(normal_of(candidates).factor, float), candidates.T).T
    chosen = spread_out(numpy_generator(rng_key), inside, num)
    return candidates[np.resize(chosen, num)]


def _added(rng_key, whole: Piece, normals: DenseMap, seen: Judgement, fits: DenseMap, most: int):
    """The charts with those fits that are apart and carry mass, and a place that is too rough.

    None where there are none.
    """
    each = [weights_of_draws(rng_key, row(fits, k), whole) for k in range(len(fits.location))]
    elbos = [np.mean(np.asarray(log_weight)) for log_weight in each]
    elbo = np.where(np.isfinite(elbos), np.asarray(elbos, float), -np.inf)
    elbo = np.where(elbo > seen.log_evidence - MAX_DEFICIT, elbo, -np.inf)
    if not np.any(np.isfinite(elbo)):
        return None, None
    is_rough = np.asarray(are_rough(rng_key, whole, fits)) & np.isfinite(elbo)
    rough = np.asarray(fits.location)[np.argmax(is_rough)] if np.any(is_rough) else None
    elbo = np.where(is_rough, -np.inf, elbo)
    every = joined([normals, fits])
    # The charts so far come first, whatever they weigh, so that none of them is left out.
    old = len(seen.log_mass)
    rank = np.concatenate([np.full(old, 1e9), elbo])
    chosen, _ = distinct_fits(every, rank, max_deficit=np.inf, max_number=most)
    new = [index for index in chosen if index >= old]
    if not new:
        return None, rough
    keep = np.concatenate([np.arange(old), new])
    masses = np.concatenate([seen.log_mass, elbo[np.asarray(new) - old]])
    return (row(every, keep), masses), rough
