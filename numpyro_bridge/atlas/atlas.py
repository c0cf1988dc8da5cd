"""Atlas: the charts of a posterior, and what was seen while they were made."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.positions import in_words, middle_one
from numpyro_bridge.atlas.charted_target import ChartedTarget
from numpyro_bridge.atlas.explore import MAX_PLACES, Exploration
from numpyro_bridge.atlas.judge import FEWEST, NUM_DRAWS, quality_of, suffices
from numpyro_bridge.atlas.maps import AbstractMap, DenseMap
from numpyro_bridge.atlas.roughness import sentence_about
from numpyro_bridge.atlas.stacked import (
    in_rows,
    mixture_partition,
    padded_logs,
    student_partition,
)
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.atlas.starts import WIDTHS_WITHOUT_PRIOR
from numpyro_bridge.target import Target

SMALLEST_SHARE = FEWEST / NUM_DRAWS
"""Share of the draws that the lightest charts make at least, as when they were judged."""

UNMET = 3.0
"""What has a chance of this number divided by that of the draws is met by none of them with a
probability of five percent (the rule of three)."""

FEW_DRAWS = 100
"""With fewer prior draws than this it is not worth saying which modes they may all have missed."""

MOST_SHARES = 8
"""Charts whose shares are printed."""


class Witness(eqx.Module):
    """Particles of tempered sequential Monte Carlo, which judge the charts from outside.

    >>> bimodal.atlas.witness.position.shape
    (512, 2)
    """

    position: Float[np.ndarray, "num dim"] | None
    """Equally weighted particles; None where there are none."""
    log_evidence: float | None = None
    """The particles' own estimate, in nats, which is rough."""
    log_evidence_error: float | None = None
    reason: str | None = None
    """Why there are no particles."""
    num_gradient_evaluations: int = 0

    @classmethod
    def absent(cls, reason: str) -> "Witness":
        """No particles, for this reason."""
        return cls(None, reason=reason)


class Atlas(eqx.Module):
    """The charts of a posterior: where its mass is, in pieces that are nearly normal.

    >>> atlas = bimodal.atlas
    >>> atlas.num_charts, atlas.share.round(2).tolist()
    (2, [0.7, 0.3])

    Attributes:
        maps: From standard normal coordinates to those of the model, one for each chart; the
            heaviest chart comes first.
        normals: The normal distribution that each map was made from, stacked.
        log_mass: Log of the mass that each chart is responsible for, in nats, up to a constant.
        log_evidence: Estimate from draws of the charts alone, in nats.
        ess: Effective share of these draws.
        tail_share: The share of the mass that the heaviest of these draws, and those beyond it, may
            carry.
        num_climbs: Climbs of the exploration.
        num_places: Distinct places where they ended.
        num_new: Places that the last climbs found.
        settled: Whether the last climbs found nothing new.
        witness: Particles of another method, with an evidence of their own.
        uncovered: The particles that no chart covers.
        num_repairs: How often charts were divided or added.
        num_gradient_evaluations: What all of this cost, roughly.
        may_hide: Why a mode may be hidden, in words; empty if nothing says so.
        rough: A place that is left out, since rounding hides what the density is there; None if
            there is none.
        undefined: At which share of prior draws the density is no number, in words; empty if at
            few.
        num_prior_draws: At how many prior draws modes were looked for; zero if there is no prior,
            None if none looked.
        reached_limit: The number of gradient evaluations that ended the repairs; None where they
            ended by themselves.
    """

    maps: tuple[AbstractMap, ...]
    normals: DenseMap
    log_mass: Float[np.ndarray, " charts"]
    log_evidence: float
    ess: float
    tail_share: float
    num_climbs: int
    num_places: int
    num_new: int
    settled: bool
    witness: Witness
    uncovered: Float[np.ndarray, "uncovered dim"]
    num_repairs: int
    num_gradient_evaluations: int
    reached_limit: int | None = None
    may_hide: str = ""
    rough: Float[np.ndarray, " dim"] | None = None
    undefined: str = ""
    num_prior_draws: int | None = None

    def __repr__(self) -> str:
        """Say what is inside, not every number."""
        heaviest = ", ".join(f"{share:.3f}" for share in self.share[:MOST_SHARES])
        more = ", …" if self.num_charts > MOST_SHARES else ""
        charts = "1 chart" if self.num_charts == 1 else f"{self.num_charts} charts"
        return f"Atlas({charts}, share=[{heaviest}{more}], ess={self.ess:.3f})"

    @property
    def num_charts(self) -> int:
        """Number of charts."""
        return len(self.maps)

    @property
    def share(self) -> Float[np.ndarray, " charts"]:
        """The share of the posterior mass on each chart."""
        return np.exp(self.log_mass - np.logaddexp.reduce(self.log_mass))

    @property
    def good(self) -> bool:
        """Whether draws of the charts suffice as they are, without a bridge."""
        return suffices(self.ess, self.tail_share)

    def target(self, base: Target, *, bridged: bool) -> StandardisedTarget | ChartedTarget:
        """The target as samplers see it: standardised, and divided where there are several charts.

        Args:
            base: The target in its own coordinates.
            bridged: Whether bridges carry the draws of the charts further. If so, the pieces are
                fixed by Student densities; if not, by the charts' own densities, which gives the
                smallest variance.
        """
        if self.num_charts == 1:
            return StandardisedTarget(base, self.maps[0])
        share = np.maximum(self.share, SMALLEST_SHARE)
        log_share = np.log(share / share.sum())
        if not bridged:
            partition = mixture_partition(self.maps, log_share)
            return ChartedTarget(base, partition.maps, partition, partition.log_share)
        partition = student_partition(self.normals, self.log_mass)
        return ChartedTarget(base, in_rows(self.maps), partition, padded_logs(log_share))

    @property
    def overflows(self) -> bool:
        """Whether there are more places than charts can be made of, so that none can mend it."""
        return not self.settled and self.num_places >= MAX_PLACES

    def raised(self, log_scale: float) -> "Atlas":
        """The same with what was left out of the log densities, in nats."""

        def evidences(atlas: Any) -> list[Any]:
            both = (atlas.log_evidence, atlas.witness.log_evidence)
            return [each for each in both if each is not None]

        raised = [each + log_scale for each in evidences(self)]
        return eqx.tree_at(evidences, self, raised)

    def judged_again(
        self, log_evidence: float, uncovered: Float[np.ndarray, "uncovered dim"]
    ) -> "Atlas":
        """The atlas with the evidence of bridges on its charts, and what they do not cover."""
        return eqx.tree_at(
            lambda atlas: (atlas.log_evidence, atlas.uncovered), self, (log_evidence, uncovered)
        )

    @property
    def doubts(self) -> tuple[str, ...]:
        """Sentences about what the charts may have missed."""
        return tuple(_doubts(self))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what nobody looked for."""
        return tuple(_notes(self))


def one_chart(
    chosen: Standardisation, exploration: Exploration, log_weight: Float[np.ndarray, " draws"]
) -> Atlas:
    """The atlas of the only place that was found in many dimensions.

    Args:
        chosen: The map, and how it was fitted.
        exploration: What the climbs found.
        log_weight: Log weights of draws of the map.
    """
    dim = exploration.normals.location.shape[1]
    ess, tail = quality_of(log_weight)
    evidence = float(np.logaddexp.reduce(log_weight) - np.log(len(log_weight)))
    return Atlas(
        maps=(chosen.map,),
        normals=exploration.normals,
        log_mass=np.array([evidence]),
        log_evidence=evidence,
        ess=ess,
        tail_share=tail,
        num_climbs=exploration.num_climbs,
        num_places=1,
        num_new=exploration.num_new,
        settled=exploration.settled,
        witness=Witness.absent(f"the posterior has {dim} dimensions"),
        uncovered=no_uncovered(dim),
        num_repairs=0,
        num_gradient_evaluations=exploration.num_gradient_evaluations
        + chosen.num_gradient_evaluations,
        may_hide=exploration.may_hide,
        undefined=exploration.undefined,
        num_prior_draws=exploration.num_prior_draws,
    )


def _notes(atlas: Atlas):
    if atlas.num_prior_draws is not None:
        yield _where_modes_were_looked_for(atlas.num_climbs, atlas.num_prior_draws)
    if atlas.witness.reason is not None:
        yield f"No particles looked for what the charts may lack: {atlas.witness.reason}."
    if atlas.reached_limit is not None:
        yield (
            f"The repair of the charts ended at the limit of {atlas.reached_limit:,} gradient "
            "evaluations; charts=partial(nb.atlas.chart, max_gradient_evaluations=...) raises it."
        )
    if atlas.rough is not None:
        yield sentence_about(atlas.rough)
    if atlas.undefined:
        yield atlas.undefined


def _where_modes_were_looked_for(num_climbs: int, num_prior_draws: int) -> str:
    if num_prior_draws == 0:
        return (
            f"There is no prior to draw from: modes were looked for by {num_climbs:,} climbs, from "
            f"near zero to about {10 ** WIDTHS_WITHOUT_PRIOR[1]:.0f} away in every unconstrained "
            "coordinate, and around those found."
        )
    if num_prior_draws < FEW_DRAWS:
        return (
            f"Modes were looked for at no more than {num_prior_draws} prior draws; any but the "
            "widest may be unseen."
        )
    return (
        f"Modes were looked for at {num_prior_draws:,} prior draws; one that fewer than 1 in "
        f"{float(f'{num_prior_draws / UNMET:.1e}'):,.0f} of them lead to may be unseen."
    )


def _doubts(atlas: Atlas):
    witness = atlas.witness
    if len(atlas.uncovered) and witness.position is not None:
        one = in_words(middle_one(np.asarray(atlas.uncovered, float)))
        share = len(atlas.uncovered) / len(witness.position)
        yield (
            f"{share:.1%} of the particles of an independent method lie where the sampler does not "
            f"go, one of them at the unconstrained position {one}: some of the posterior is "
            "probably missing."
        )
    # Where all particles are covered, an evidence that is too high is that of particles which
    # hardly mixed: mass that is missing would hold some of them.
    evidence, error = witness.log_evidence, witness.log_evidence_error
    if len(atlas.uncovered) and evidence is not None and error is not None:
        more = evidence - atlas.log_evidence
        # An error that comes from two groups may be small by chance.
        if more > 1 + 4 * max(error, 0.1):
            yield (
                f"Particles of an independent method estimate a log evidence that is higher by "
                f"{more:.1f} ± {error:.1f}: some of the posterior is "
                "probably missing."
            )
    if atlas.may_hide:
        yield (
            f"{atlas.may_hide}. No prior says where to look; a model whose priors can be drawn "
            "from is explored from these."
        )
    if atlas.overflows:
        yield (
            f"The climbs ended at {MAX_PLACES} places or more, and there are no more charts than "
            "that: some of the posterior is probably missing."
        )
    elif not atlas.settled and atlas.num_new > 0.1 * atlas.num_places:
        yield (
            f"{atlas.num_new} of the {atlas.num_places} places that the climbs ended at "
            "were found by the last of them: there are probably modes that none has found."
        )


def no_uncovered(dim: int) -> Float[np.ndarray, "0 dim"]:
    """No positions."""
    return np.zeros((0, dim), jnp.result_type(float))
