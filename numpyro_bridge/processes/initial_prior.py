"""The prior of a model as an initial distribution: a path from its prior to its posterior."""

from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.processes.initial import AbstractInitialDistribution
from numpyro_bridge.processes.kernels import AbstractKernel
from numpyro_bridge.target import Point, Prior, Target


class InitialPrior(AbstractInitialDistribution):
    r"""Start from the prior of the NumPyro model, and temper its likelihood.

    >>> process = partial(nb.CMCD, initial=nb.processes.InitialPrior())
    >>> sampler = nb.BridgeSampler(model, process=process)

    With $p_0$ the prior, the annealed path $p_0^{1-\beta} \gamma^{\beta}$ is the prior times
    $\text{likelihood}^{\beta}$. The prior is evaluated at each state as well. Choose it where the
    prior is informative and covers all modes; where it is vague, the normal distribution that
    standardisation fits is far closer to the posterior.

    Raises:
        ValueError: when a sampler runs, if the target has no prior that can be drawn from.

    Reference: the path of annealed importance sampling from a prior, Neal (2001).
    """

    def kernel(self, target: Target) -> "PriorKernel":
        return PriorKernel(target)

    def score(self, point: Point) -> Vector:
        return _prior_of(point).score

    def prepared(self, target: Target) -> Target:
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
