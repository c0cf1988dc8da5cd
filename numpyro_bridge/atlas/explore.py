"""Exploration: the places where a posterior has mass, by climbs from many starts."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.checks import check_count
from numpyro_bridge._core.keys import split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.arguments import check_stage
from numpyro_bridge.atlas.climbs import Tops, climb_from, compile_climbs_ahead
from numpyro_bridge.atlas.distinct import distinct_tops
from numpyro_bridge.atlas.effort import share_of_effort
from numpyro_bridge.atlas.hiding import why_modes_may_hide
from numpyro_bridge.atlas.highest_elbo import normals_of_highest_elbo
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.probes import (
    NUM_GROUPS,
    Probed,
    compile_probes_ahead,
    probed_starts,
)
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.atlas.starts import NUM_PRIOR_DRAWS, first_starts
from numpyro_bridge.target import Target
from numpyro_bridge.target.improper import refuse_flat
from numpyro_bridge.target.undefined import undefined_at_prior_draws

MAX_ROUNDS = 8
"""Rounds of climbs at most."""

QUIET_ROUNDS, MANY_QUIET_ROUNDS, RARE = 2, 4, (0.02, 0.2)
"""Rounds in a row without a new place that end the exploration of a posterior with several places:
the second number if a place was met by less than this share of the climbs, and of what each place
would have if all were met as often."""

CONTINUED, MAX_CONTINUED, WORTH_WAITING = 2, 12, 1 / 64
"""How often climbs go on where most of them have not arrived; and how often in the first round at
most, while each time at least this share of them arrives. In valleys that bend, the climbs to some
modes take several times as long as those to others."""

MAX_PLACES = 64
"""Places at most; the heaviest are kept."""

MAX_DEFICIT = 12.0
"""Places lighter than the heaviest by more nats than this are left out."""

MANY_DIMENSIONS = 100
"""From this dimension on a single place is believed after one round of climbs from draws of the
prior, since a round takes as long there as the rest of a run. Without a prior all starts lie around
zero, and probes look for what these miss."""


class Exploration(NamedTuple):
    """What was seen of a posterior before any chart was fitted.

    >>> target = nb.target_from_model(key, model, x, y=y)
    >>> exploration = nb.atlas.explore(key, target)
    >>> exploration
    Exploration(1 place by 512 climbs, settled=True)
    """

    normals: DenseMap
    """A normal distribution at each place, the heaviest first; stacked."""
    log_mass: Float[np.ndarray, " places"]
    """A first guess of the mass at each place, in nats."""
    num_at_place: tuple[int, ...]
    """How many climbs ended at each."""
    num_new: int
    """How many of the places the last round of climbs found."""
    num_climbs: int
    settled: bool
    """Whether the last rounds of climbs found nothing new, and there are not too many places; in
    many dimensions, whether there is a single place."""
    num_gradient_evaluations: int
    may_hide: str = ""
    """Why a mode may be hidden, in words; empty if nothing says so."""
    undefined: str = ""
    """At which share of prior draws the density is no number, in words; empty if at few."""
    num_prior_draws: int | None = None
    """At how many prior draws modes were looked for: zero if there is no prior, and None if nobody
    looked."""

    def __repr__(self) -> str:
        """Say what is inside, not every number."""
        num = len(self.log_mass)
        places = f"{num} {'place' if num == 1 else 'places'} by {self.num_climbs} climbs"
        return f"Exploration({places}, settled={self.settled})"

    @property
    def overflows(self) -> bool:
        """Whether there are more places than charts, so that no repair could add them all."""
        return not self.settled and len(self.log_mass) >= MAX_PLACES


def explore(rng_key: RNGKey, target: Target, *, max_rounds: int = MAX_ROUNDS) -> Exploration:
    """Climb to the tops of the density, round after round, until a round finds nothing new.

    >>> target = nb.target_from_model(key, model, x, y=y)
    >>> exploration = nb.atlas.explore(key, target)
    >>> exploration.settled
    True

    The first climbs start from prior draws, wide draws, and where NUTS would. Later ones start
    where the density is higher than the places found so far explain. Where one evaluation takes
    long, as with many data, each round has fewer climbs.

    A density may have no tops, as that of a centred hierarchy, which rises without limit; then the
    normal distributions of highest ELBO take their place.

    In a hundred dimensions and more there are fewer climbs, and beside a prior none after the first
    where these agree.

    Args:
        rng_key: The same key gives the same exploration.
        target: The target in its own coordinates.
        max_rounds: How many rounds of climbs at most.

    Raises:
        ValueError: if the target is a log density that does not fall along a coordinate.
    """
    check_stage(rng_key, target)
    max_rounds = check_count("max_rounds", max_rounds, 1)
    climb_key, fit_key = split(rng_key)
    seen, tops = _climbed(climb_key, target, max_rounds)
    if len(seen.log_mass):
        return seen
    if not target.sites:
        ends = np.asarray(tops.normals.location)
        refuse_flat(target, ends[np.all(np.isfinite(ends), axis=1)])
    fits = normals_of_highest_elbo(fit_key, target, tops)
    return seen._replace(
        normals=fits.normals,
        log_mass=fits.elbo,
        num_at_place=tuple(map(int, fits.counts)),
        num_new=0,
        settled=True,
        num_gradient_evaluations=seen.num_gradient_evaluations + fits.num_evaluations,
    )


def num_climbs(dim: int, effort: float = 1.0) -> int:
    """How many climbs a round has.

    Args:
        dim: Dimensions: in many of them there are fewer climbs, since each takes a large matrix.
        effort: A share of that number, if evaluations are dear.
    """
    by_cost = 16_384 // dim if dim < MANY_DIMENSIONS else 640_000 // dim**2
    return NUM_GROUPS * int(np.clip(min(by_cost // NUM_GROUPS, 8 * effort), 1, 8))


def _climbed(rng_key: RNGKey, target: Target, max_rounds: int) -> tuple[Exploration, Tops]:
    """What the climbs found, and where all of them ended."""
    has_loops = target.innermost.has_loops
    num = NUM_GROUPS if has_loops else num_climbs(target.dim, share_of_effort(target))
    rounds: list[Tops] = []
    places, mass, chosen = None, np.zeros(0), np.zeros(0, int)
    counts, num_new, settled, evaluations, quiet = chosen, 0, False, 0, 0
    share_arrived, undefined, num_drawn = 1.0, "", 0
    compile_climbs_ahead(rng_key, target, num)
    for key in split(rng_key, max_rounds):
        prior_key, start_key, shape_key = split(key, 3)
        prior = target.prior_positions(prior_key, NUM_PRIOR_DRAWS)
        if places is None:
            starts = first_starts(start_key, target, num, prior)
            num_drawn += num // 4  # the others are drawn in, wide, or as NUTS would start
            if target.dim < MANY_DIMENSIONS or prior is None:
                compile_probes_ahead(start_key, target, num, prior)
        else:
            probed = probed_starts(start_key, target, num, places, mass[chosen], prior)
            starts = on_device(probed.starts)
            evaluations += probed.num_probes
            num_drawn += probed.num_prior_draws
            undefined = undefined or _where_undefined(target, probed, prior)
        most = MAX_CONTINUED if places is None else CONTINUED
        found, spent, share = _until_most_arrive(shape_key, target, starts, most)
        share_arrived = share if places is None else share_arrived
        evaluations += spent
        rounds.append(found)
        tops = jax.tree.map(lambda *parts: np.concatenate(parts), *rounds)
        mass = np.where(tops.arrived, tops.log_mass, -np.inf).astype(float)
        chosen, counts = distinct_tops(
            tops.normals, mass, max_deficit=MAX_DEFICIT, max_number=MAX_PLACES
        )
        places = row(tops.normals, chosen)
        num_new = int(np.sum(chosen >= len(mass) - num))
        quiet = quiet + 1 if num_new == 0 else 0
        wanted = _quiet_rounds(counts)
        settled = quiet > 0 and len(chosen) < MAX_PLACES
        if target.dim >= MANY_DIMENSIONS and len(chosen) == 1 and prior is not None:
            settled, wanted = True, 0
        if len(chosen) == 0 or (settled and quiet >= wanted):
            break
    assert places is not None
    seen_normals = jax.tree.map(on_device, places)
    may_hide = ""
    if prior is None:
        may_hide = why_modes_may_hide(rng_key, target, seen_normals, share_arrived)
    seen = Exploration(
        normals=seen_normals,
        log_mass=mass[chosen],
        num_at_place=tuple(map(int, counts)),
        num_new=num_new,
        num_climbs=num * len(rounds),
        settled=settled,
        num_gradient_evaluations=evaluations,
        may_hide=may_hide,
        undefined=undefined,
        num_prior_draws=0 if prior is None else num_drawn,
    )
    return seen, tops


def _where_undefined(target: Target, probed: Probed, prior) -> str:
    """At which share of prior draws the density is no number, in words; empty if at few."""
    if prior is None or not probed.many_without:
        return ""
    return undefined_at_prior_draws(target, prior)


def _quiet_rounds(counts: np.ndarray) -> int:
    """How many rounds in a row have to find nothing new, where few probes hit a narrow mode.

    If a place was met by few climbs only, there may be others that are met as rarely.
    """
    if len(counts) <= 1:
        return 1
    of_all, of_equal = RARE
    rare = min(of_all, of_equal / len(counts)) * np.sum(counts)
    return MANY_QUIET_ROUNDS if np.min(counts) < rare else QUIET_ROUNDS


def _until_most_arrive(
    rng_key: RNGKey, target: Target, starts, most_continued: int
) -> tuple[Tops, int, float]:
    """Climb from each start, and go on from the ends while most have not arrived at a top.

    In bent valleys of many dimensions a climb takes longer than climbs are given at first. After
    `CONTINUED` times they go on only while it pays.

    Returns:
        Where the climbs ended, how many gradients they evaluated, and which share of them had
        arrived the first time.
    """
    spent, shares = 0, [0.0]
    for continued in range(most_continued + 1):
        tops = climb_from(rng_key, target, starts)
        spent += int(np.max(np.asarray(tops.num_evaluations))) * len(starts)
        shares.append(float(np.mean(np.asarray(tops.arrived))))
        if continued <= CONTINUED and shares[-1] > 0.5:
            break
        if continued >= CONTINUED and shares[-1] - shares[-2] < WORTH_WAITING:
            break
        starts = tops.normals.location
    return tops, spent, shares[1]
