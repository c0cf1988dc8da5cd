"""The prior as an initial law: a path from the prior of a model to its posterior."""

import equinox as eqx

from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.processes.initial import AbstractInitialDistribution
from numpyro_bridge.processes.kernels import AbstractKernel
from numpyro_bridge.target import Point, Prior, Target
from numpyro_bridge.target.clipped import clipped_score


class InitialPrior(AbstractInitialDistribution):
    r"""Start from the prior of the NumPyro model, and temper its likelihood.

        nb.BridgeSampler(model, process=partial(nb.CMCD, initial=nb.processes.InitialPrior()))

    With $p_0$ the prior, the annealed path $p_0^{1-\beta} \gamma^{\beta}$ is prior times
    $\text{likelihood}^{\beta}$. Each state costs one more evaluation, that of the prior. Choose it
    where the prior is informative and covers all modes; where it is vague, the normal law that
    standardisation fits is far closer to the posterior.

    Args:
        score_bound: Root-mean-square entry beyond which the score of the prior is shortened, in
            both chains alike.

    Raises:
        ValueError: when a sampler runs, if the target has no prior that can be drawn from.

    Reference: the path of annealed importance sampling from a prior, Neal (2001).
    """

    score_bound: float = eqx.field(static=True, default=10.0)

    def kernel(self, target: Target) -> "PriorKernel":
        return PriorKernel(target)

    def score(self, point: Point) -> Vector:
        return clipped_score(_prior_of(point).score, bound=self.score_bound)

    def seen_by(self, target: Target) -> Target:
        return target.with_prior()


class PriorKernel(AbstractKernel):
    """The prior of a target that was made by `with_prior`."""

    target: Target

    def sample(self, rng_key: RNGKey) -> Point:
        return self.target.at(self.target.draw_prior(rng_key))

    def log_prob(self, point: Point) -> Scalar:
        return _prior_of(point).log_density


def _prior_of(point: Point) -> Prior:
    if point.prior is None:
        raise ValueError(
            "InitialPrior needs points that carry the prior: run the process on target.with_prior()"
        )
    return point.prior
