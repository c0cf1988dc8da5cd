"""A trained denoiser as a pair of chains: ancestral sampling forward, noising backward."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from numpyro_bridge._core.checks import MOST_STEPS, check_count
from numpyro_bridge._core.types import Scalar, Vector
from numpyro_bridge.diffusion.denoiser import Denoiser, ancestral_coefficients, check_schedule
from numpyro_bridge.diffusion.noise import AbstractNoiseSchedule, Level, unit_level
from numpyro_bridge.processes.base import AbstractProcess, State
from numpyro_bridge.processes.diffusion import Diffusion
from numpyro_bridge.processes.initial import InitialNormal
from numpyro_bridge.processes.kernels import Gaussian
from numpyro_bridge.target import Point, Target


class DenoisingProcess(AbstractProcess[Vector]):
    r"""DDPM with weights: the reverse chain of a denoiser, and the noising chain it reverses.

    >>> process = nb.diffusion.DenoisingProcess(denoiser, dim=2, num_steps=16)
    >>> process.log_snrs.shape, float(process.log_snrs[-1])
    ((17,), inf)

    States are noisy vectors of unit scale at rising log-SNRs. The last state is the clean vector;
    the target is evaluated there and nowhere else.

    $$\overleftarrow{p}(z_k \mid z_{k+1}) = \mathcal{N}\left(\tfrac{\alpha_k}{\alpha_{k+1}}
      z_{k+1},\ \sigma_k^2 (1 - e^{\lambda_k - \lambda_{k+1}})\right)$$
    $$\vec{p}(z_{k+1} \mid z_k) = \mathcal{N}\left(c_z z_k + c_x \hat x(z_k),\ s_k^2 \left(
      \sigma_{k+1}^2 (1 - e^{\lambda_k - \lambda_{k+1}}) + c_x^2 V_k\right)\right)$$

    $V_k$ is the variance of the clean vector given $z_k$ if the data are standard normal; on such
    data the two chains are the same at any number of steps. The last step draws the clean vector
    with this variance. It is positive, so every kernel has a density, and close to the variance of
    the exact reverse kernel, so the weights have a finite variance where the denoiser is good. The
    scales $s_k$ are one at first. They may be trained afterwards by `reverse_kl_ld`, with or
    without the network.

    Choose it to weigh what a denoiser learned from draws: evidence, effective sample size and
    corrected draws are then exact, however well it was trained.

    Args:
        denoiser: Trained on draws of the target, in its coordinates.
        dim: Dimension of the target.
        num_steps: Steps of the bridge.
        schedule: Its time is divided into `num_steps` equal parts, and the noisy levels are those
            at their middles; the denoiser's own by default.

    Raises:
        ValueError: if `num_steps` is below 1, or `denoiser` is not a `Denoiser`.

    Reference: Ho, Jain and Abbeel (2020), arXiv:2006.11239. Departs from it in the variances, and
    in the weights.
    """

    denoiser: Denoiser
    scales: Diffusion
    initial: InitialNormal
    first_log_snr: Scalar
    log_gaps: Float[Array, " gaps"]
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        denoiser: Denoiser,
        dim: int,
        *,
        num_steps: int = 64,
        schedule: AbstractNoiseSchedule | None = None,
    ):
        if not isinstance(denoiser, Denoiser):
            raise ValueError(
                "denoiser: a DenoisingProcess is made from a trained denoiser, as "
                f"nb.DiffusionSampler does; got {type(denoiser).__name__} in its place"
            )
        dim = check_count("dim", dim, 1, MOST_STEPS)
        num_steps = check_count("num_steps", num_steps, 1, MOST_STEPS)
        if schedule is not None:
            check_schedule(schedule)
        levels = middle_levels(denoiser.schedule if schedule is None else schedule, num_steps)
        self.denoiser = denoiser
        self.scales = Diffusion(num_steps, dim, 1.0)
        self.initial = InitialNormal(dim)
        # Gaps are stored instead of levels, so that training cannot bring the levels out of order.
        self.first_log_snr = levels[0]
        self.log_gaps = jnp.log(jnp.diff(levels))
        self.num_steps = num_steps

    def start(self, target: Target) -> Gaussian:
        return self.initial.kernel(unevaluated(target))

    def controls(self, step: Int[Array, ""], point: Point) -> Vector:
        """The denoiser's estimate of the clean vector, which is not used at the last state."""
        level = self._at(jnp.minimum(step, self.num_steps - 1))
        return self.denoiser.at_level(point.position, level).clean

    def forward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        now, then = self._at(step), self._at(step + 1)
        of_noisy, of_clean, variance = ancestral_coefficients(now, then)
        mean = of_noisy * state.point.position + of_clean * state.controls
        scale = jnp.sqrt(variance) * self.scales(step)
        return Gaussian(mean, scale, EvaluatedIf(step == self.num_steps - 1, target))

    def backward(self, step: Int[Array, ""], state: State[Vector], target: Target) -> Gaussian:
        noisier, now = self._at(step), self._at(step + 1)
        added = noisier.sigma * jnp.sqrt(-jnp.expm1(noisier.log_snr - now.log_snr))
        mean = noisier.alpha / now.alpha * state.point.position
        return Gaussian(mean, jnp.full_like(mean, added), unevaluated(target))

    @property
    def log_snrs(self) -> Float[Array, " states"]:
        """Log-SNR of every state, infinite at the last."""
        rise = jnp.cumsum(jnp.exp(self.log_gaps))
        return jnp.concatenate([self.first_log_snr + jnp.append(0.0, rise), jnp.array([jnp.inf])])

    def _at(self, step: Int[Array, ""]) -> Level:
        return unit_level(self.log_snrs[step])


class EvaluatedIf(Target):
    """A target that is evaluated only where it is needed; elsewhere its log density is zero."""

    needed: Bool[Array, ""]
    target: Target
    dim: int = eqx.field(static=True)

    def __init__(self, needed: Bool[Array, ""], target: Target):
        self.needed = needed
        self.target = target
        self.dim = target.dim

    def at(self, position: Vector) -> Point:
        # `needed` is not batched, so only one of the two branches is run. It must be hashable, as a
        # lambda is; a bound method with traced arrays is not.
        return jax.lax.cond(self.needed, lambda x: self.target.at(x), _constant, position)

    def log_density(self, position: Vector) -> Scalar:
        return self.at(position).log_density

    def constrain(self, position: Vector) -> dict[str, Array]:
        return self.target.constrain(position)


def unevaluated(target: Target) -> EvaluatedIf:
    """The target, for states at which it is not needed."""
    return EvaluatedIf(jnp.asarray(False), target)


def _constant(position: Vector) -> Point:
    zero = jnp.zeros((), position.dtype)
    return Point(position, zero, jnp.zeros_like(position), jnp.asarray(True))


def middle_levels(schedule: AbstractNoiseSchedule, num: int) -> Float[Array, " {num}"]:
    """Log-SNRs at the middles of `num` equal parts of time, where they are always finite."""
    times = (jnp.arange(num, dtype=jnp.result_type(float)) + 0.5) / num
    return jax.vmap(schedule.log_snr)(times)
