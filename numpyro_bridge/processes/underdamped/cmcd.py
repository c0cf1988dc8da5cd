"""Underdamped controlled Monte Carlo diffusion."""

from jaxtyping import Array, Int

from numpyro_bridge._core.types import Vector
from numpyro_bridge.processes.underdamped.base import AbstractControlledForce
from numpyro_bridge.target import Point

_constructor = AbstractControlledForce.__init__


class UnderdampedCMCD(AbstractControlledForce):
    r"""Annealed Hamiltonian dynamics with friction, corrected by one control.

    >>> sampler = nb.BridgeSampler(model, process=partial(nb.UnderdampedCMCD, step_size=0.1))

    The force is $\nabla \log \pi_{\beta_{k+1}}$ with $\pi_\beta \propto p_0^{1-\beta}
    \gamma^{\beta}$, and the control of the backward chain is minus that of the forward chain.
    Untrained it is annealed importance sampling with the integrator's moves, exact to second
    order in the step where CMCD is to first.

    Choose it for comparison. At equal budgets of up to 64 steps and 300 iterations it has not had
    the better bound of the two on Seeds, a funnel or a random walk (`benchmarks/underdamped.md`),
    and it costs up to four times as many evaluations of the network.

    Args:
        rng_key: Randomness of the control's first weights.
        dim: Dimension of the unconstrained target.
        num_steps: Steps of the bridge; the gap to the log evidence falls as it grows.
        step_size: First length of every step in time; with masses of one, positions move by about
            this much in units of the standardised coordinates.
        friction: First rate at which momentum is renewed.
        integrator: The order of moves: `OBABO()`, `BAOAB()`, `OBAB()` or `EulerMaruyama()` of
            `nb.processes`. With any but the first, losses that hold the states fixed cannot learn
            step sizes and masses, nor, with BAOAB and OBAB, the force; they leave them as they are.
        initial: Where the bridge starts; standard normal if not given.
        control: Makes the control from `(rng_key, dim, num_inputs=2 * dim)`.

    Raises:
        ValueError: if `num_steps` is below 1, or `step_size` or `friction` is not positive.

    Reference: Blessing, Berner, Richter and Neumann (2025), arXiv:2503.01006. Departs
    from it in putting both half kicks of a step at one inverse temperature.
    """

    __init__ = _constructor  # type checkers would make one of the fields

    def forward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        return self._evaluated(self.control, step, point)

    def backward_control(self, step: Int[Array, ""], point: Point) -> Vector:
        return -self._evaluated(self.control, step, point)
