"""FlowGuide: a denoiser's flow as a guide for NumPyro's neural transport."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro import handlers

from numpyro_bridge._core.types import Vector
from numpyro_bridge._core.untyped_bases import AutoContinuous, Transform
from numpyro_bridge.atlas.charted_target import ChartedTarget
from numpyro_bridge.atlas.seen_target import SeenTarget
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.process import DenoisingProcess
from numpyro_bridge.diffusion.reflow import carried
from numpyro_bridge.draws.prediction import model_of
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.target import joined_in_order


class FlowGuide(AutoContinuous):
    """The deterministic flow of a trained denoiser in a few steps; made by `posterior.as_guide()`.

    As a transport for NUTS::

        guide = posterior.as_guide()
        neutra = NeuTraReparam(guide, params={})
        mcmc = MCMC(NUTS(neutra.reparam(model)), num_warmup=500, num_samples=1_000)
        mcmc.run(rng_key, x, y=y)
        samples = neutra.transform_sample(mcmc.get_samples()["flow_shared_latent"])

    NUTS then works in coordinates in which the learned posterior is standard normal. The result is
    exact for any denoiser, as long as the steps of the flow are a bijection, since the density is
    corrected by the exact determinant of these steps and not by that of the differential equation.
    The guide has no parameters and is not trained.

    Args:
        denoiser: The denoiser, trained in standardised coordinates.
        target: The posterior of a NumPyro model, in standardised coordinates.
        num_steps: Steps of Heun's method from noise to draw; each evaluates the network twice.

    Reference: Hoffman et al. (2019), arXiv:1903.03704.
    """

    def __init__(self, denoiser: Denoiser, target: StandardisedTarget, num_steps: int = 8):
        instead = "for draws and density of its flow use posterior.as_distribution()"
        base = model_of(target.base, "a guide", instead)
        super().__init__(base.model, prefix="flow")
        with handlers.block(), handlers.seed(rng_seed=0):
            self._setup_prototype(*base.model_args, **base.model_kwargs)
        self._transform = FlowTransform(denoiser, target, num_steps, tuple(self._init_locs))

    def get_base_dist(self) -> dist.Distribution:
        """Standard normal noise, one vector."""
        return dist.Normal(jnp.zeros(self.latent_dim), 1.0).to_event(1)

    def get_transform(self, params: Any) -> "FlowTransform":
        """The steps of the flow, from noise to unconstrained values; `params` are not read."""
        return self._transform

    def _get_posterior(self) -> dist.Distribution:
        return dist.TransformedDistribution(self.get_base_dist(), self._transform)


class FlowTransform(Transform):
    """A few Heun steps of a flow, from noise to NumPyro's unconstrained vector.

    Args:
        denoiser: The denoiser, trained in standardised coordinates.
        target: The posterior, in standardised coordinates.
        num_steps: Number of steps.
        order: Names of the sites in the order in which the guide joins them, which is the model's.
    """

    domain: Any = dist.constraints.real_vector
    codomain: Any = dist.constraints.real_vector

    def __init__(
        self,
        denoiser: Denoiser,
        target: StandardisedTarget,
        num_steps: int,
        order: tuple[str, ...],
    ):
        self.denoiser = denoiser
        self.target = target
        self.num_steps = num_steps
        self.order = order

    def __call__(self, x: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
        return jnp.vectorize(self._one, signature="(n)->(n)")(x)

    def log_abs_det_jacobian(
        self, x: Float[Array, "*batch dim"], y: Any, intermediates: Any = None
    ) -> Float[Array, "*batch"]:
        """Log absolute determinant of all steps together, from one pass for each coordinate."""

        def one(noise: Vector) -> Array:
            return jnp.linalg.slogdet(jax.jacfwd(self._one)(noise))[1]

        return jnp.vectorize(one, signature="(n)->()")(x)

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Name the parts with arrays, and the static fields, as NumPyro's transforms do."""
        names = ("denoiser", "target")
        return (self.denoiser, self.target), (
            names,
            {"num_steps": self.num_steps, "order": self.order},
        )

    def _one(self, noise: Vector) -> Vector:
        position = self.target.map(carried(noise, self.denoiser, self.num_steps))
        return joined_in_order(self.order, self.target.base.by_site(position))


def trained_flow(
    process: AbstractProcess[Any], target: SeenTarget
) -> tuple[Denoiser, StandardisedTarget]:
    """The denoiser of a process that has one, and the target on its only chart.

    Raises:
        ValueError: if the process has no flow, or there are several charts.
    """
    if isinstance(process, DenoisingProcess) and isinstance(target, ChartedTarget):
        raise ValueError(
            f"this posterior is on {target.num_charts} charts, each with a flow of its own: "
            "for a single flow write nb.DiffusionSampler(model, max_charts=1)"
        )
    if not (isinstance(process, DenoisingProcess) and isinstance(target, StandardisedTarget)):
        raise ValueError(
            f"{type(process).__name__} has no density of its ends alone; train a flow on its "
            "draws: nb.DiffusionSampler(model).run(..., draws=posterior.sample(rng_key))"
        )
    return process.denoiser, target
