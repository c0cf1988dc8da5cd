"""Reference evidences of the models in the atlas benchmark, in NumPy, without any sampler.

    python -m benchmarks.atlas_evidence --data FOLDER

Most are quadratures, made anew wherever they are needed. Those of the mixtures with exchangeable
components are long importance-sampling runs over one order of the labels, times the number of
orders; they are kept in `RECORDED`, and this module prints them beside new ones.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize
from scipy.special import gammaln, logsumexp

from benchmarks import atlas_models as models
from benchmarks import command_line

RECORDED = {"lines_3": -136.0717, "lines_4": -245.2453, "gauss_mix_unordered": -2114.9900}
"""Log evidences by `importance_evidence`; their standard errors are below 0.002."""

LOG_2PI = math.log(2 * math.pi)

# --- quadratures ----------------------------------------------------------------------------------


def schools_evidence(sigma, y, log_prior: Callable[[np.ndarray], np.ndarray]) -> float:
    """Log evidence of eight schools, by quadrature over the log variance and the mean.

    Args:
        sigma: Standard errors.
        y: Effects.
        log_prior: Log density of the log of the variance between schools.
    """
    log_variance, mean = np.linspace(-25.0, 40.0, 2_601), np.linspace(-40.0, 40.0, 801)
    total = np.square(sigma, dtype=float) + np.exp(log_variance)[:, None]
    log_joint = -0.5 * (mean / 5) ** 2 - math.log(5) - 0.5 * LOG_2PI
    log_joint = log_joint + log_prior(log_variance)[:, None]
    for school, effect in enumerate(np.asarray(y, float)):
        variance = total[:, school, None]
        log_joint += -0.5 * ((effect - mean) ** 2 / variance + np.log(variance) + LOG_2PI)
    return _log_integral(log_joint, log_variance, mean)


def log_half_cauchy(log_variance):
    """Log density of the log variance, if the standard deviation is half-Cauchy of scale 5."""
    scale = np.exp(0.5 * log_variance)
    return np.log(1 / (5 * np.pi)) - np.log1p((scale / 5) ** 2) + 0.5 * log_variance


def log_inverse_gamma(log_variance, shape: float = 0.001):
    """Log density of the log variance, if the variance is inverse-gamma with two equal numbers."""
    constant = shape * math.log(shape) - gammaln(shape)
    return constant - shape * log_variance - shape * np.exp(-log_variance)


def cauchy_location(y) -> tuple[float, np.ndarray]:
    """Log evidence and mass of each cluster, by quadrature over the plane."""
    grid = np.linspace(-40.0, 40.0, 1_601)
    place = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1)
    log_joint = -0.5 * np.sum(place**2, axis=-1) / models.LOCATION_SCALE**2
    log_joint -= LOG_2PI + 2 * math.log(models.LOCATION_SCALE)
    for observation in np.asarray(y, float):
        log_joint -= LOG_2PI + 1.5 * np.log1p(np.sum((place - observation) ** 2, axis=-1))
    nearest = models.nearest_cluster(place)
    masses = [
        _log_integral(np.where(nearest == cluster, log_joint, -np.inf), grid, grid)
        for cluster in range(2)
    ]
    log_evidence = float(_log_sum(masses))
    return log_evidence, np.exp(np.asarray(masses) - log_evidence)


def orthogonal_horseshoe_evidence(design, y) -> float:
    """Log evidence of the horseshoe with orthogonal columns of equal length.

    Given the global scale, the coefficients are independent of each other; that of each is an
    integral over its local scale, inside the integral over the global one.
    """
    design, y = np.asarray(design, float), np.asarray(y, float)
    num_rows, num = design.shape
    squared_length = np.mean(np.sum(design**2, axis=0))
    estimate, variance = design.T @ y / squared_length, 1 / squared_length
    log_scale = np.linspace(-25.0, 25.0, 1_001)
    log_local = np.log(2 / np.pi) + log_scale - np.logaddexp(0.0, 2 * log_scale)
    log_tau = log_scale + math.log(models.GLOBAL_SCALE)
    log_joint = log_local.copy()
    for index, log_global in enumerate(log_tau):
        total = variance + np.exp(2 * (log_global + log_scale))
        log_likelihood = -0.5 * (estimate[:, None] ** 2 / total + np.log(total) + LOG_2PI)
        log_joint[index] += np.sum(_log_sum(log_likelihood + log_local, axis=1))
    log_joint += num * math.log(log_scale[1] - log_scale[0])
    rest = y @ y - squared_length * estimate @ estimate
    constant = -0.5 * (num_rows * LOG_2PI + rest) + 0.5 * num * (LOG_2PI + math.log(variance))
    return constant + _log_integral(log_joint, log_tau)


def _log_sum(values, axis: int | None = None, keepdims: bool = False) -> np.ndarray:
    return np.asarray(logsumexp(values, axis=axis, keepdims=keepdims))


def _log_integral(log_density, *grids) -> float:
    """The log of an integral whose integrand is negligible at the ends of all grids."""
    cells = [grid[1] - grid[0] for grid in grids]
    return float(_log_sum(log_density) + np.sum(np.log(cells)))


# --- importance sampling over one order of the labels ---------------------------------------------


def importance_evidence(
    log_density: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    *,
    num: int = 400_000,
    num_rounds: int = 4,
    degrees: float = 6.0,
) -> tuple[float, float]:
    """The log of the integral of a density with one mode, and its standard error.

    Draws come from a Student distribution, at first at the mode with its curvature, then in a few
    rounds with the moments of the density.

    Args:
        log_density: From positions, shape `(num, dim)`, to the density of each.
        start: A position near the mode.
        num: Draws of the last round; those before have a tenth.
        num_rounds: Rounds that only serve the moments.
        degrees: Degrees of freedom of the Student distribution.
    """
    rng = np.random.default_rng(0)
    mean = minimize(lambda position: -log_density(position[None])[0], start).x
    covariance = np.linalg.inv(_negative_hessian(log_density, mean))
    for _ in range(num_rounds):
        positions, log_weight = _student_round(
            rng, log_density, mean, covariance, num // 10, degrees
        )
        weight = np.exp(log_weight - _log_sum(log_weight))
        mean = weight @ positions
        covariance = np.cov(positions.T, aweights=weight)
    batches = [
        _student_round(rng, log_density, mean, covariance, num // 20, degrees)[1] for _ in range(20)
    ]
    log_weight = np.concatenate(batches)
    log_evidence = _log_sum(log_weight) - math.log(num)
    error = np.std(np.exp(log_weight - log_evidence)) / math.sqrt(num)
    return float(log_evidence), float(error)


def _student_round(rng, log_density, mean, covariance, num, degrees):
    dim = len(mean)
    factor = np.linalg.cholesky(covariance * (degrees - 2) / degrees)
    normal = rng.normal(size=(num, dim))
    scale = np.sqrt(rng.chisquare(degrees, num) / degrees)
    positions = mean + (normal / scale[:, None]) @ factor.T
    squares = np.sum(solve_triangular(factor, (positions - mean).T, lower=True) ** 2, axis=0)
    log_proposal = gammaln((degrees + dim) / 2) - gammaln(degrees / 2)
    log_proposal -= 0.5 * dim * math.log(degrees * math.pi) + np.sum(np.log(np.diag(factor)))
    log_proposal = log_proposal - 0.5 * (degrees + dim) * np.log1p(squares / degrees)
    return positions, log_density(positions) - log_proposal


def _negative_hessian(log_density, position, step: float = 1e-3):
    """By central differences, all of them in one call."""
    dim = len(position)
    moves = step * np.eye(dim)
    signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    places = [position + a * moves[:, None] + b * moves[None] for a, b in signs]
    values = log_density(np.reshape(places, (-1, dim))).reshape(4, dim, dim)
    return (values[1] + values[2] - values[0] - values[3]) / (4 * step**2)


def _log_normal(values, scale):
    return -0.5 * (values / scale) ** 2 - math.log(scale) - 0.5 * LOG_2PI


def lines_log_density(positions, x, concentration, y):
    """Log density of the mixture of lines where the slopes are in order, elsewhere minus infinity.

    Args:
        positions: Logs of the weights over the last weight, intercepts, slopes and the log of the
            noise, shape `(num, 3 * lines)`.
        x: Covariates.
        concentration: Of the prior of the weights.
        y: Responses.
    """
    num_lines = len(concentration)
    cuts = np.cumsum([num_lines - 1, num_lines, num_lines])
    logits, intercept, slope, log_sigma = np.split(positions, cuts, axis=1)
    logits = np.concatenate([logits, np.zeros((len(logits), 1))], axis=1)
    log_weights = logits - _log_sum(logits, axis=1, keepdims=True)
    sigma = np.exp(log_sigma)
    total = gammaln(np.sum(concentration)) - np.sum(gammaln(concentration))
    # The determinant of the logits adds one to each exponent.
    total = total + log_weights @ np.asarray(concentration, float)
    total += np.sum(_log_normal(intercept, models.INTERCEPT_SCALE), axis=1)
    total += np.sum(_log_normal(slope, models.SLOPE_SCALE), axis=1)
    total += (math.log(2) + _log_normal(sigma, 1.0) + log_sigma)[:, 0]
    for covariate, response in zip(np.asarray(x, float), np.asarray(y, float), strict=True):
        residual = (response - intercept - slope * covariate) / sigma
        parts = log_weights - 0.5 * residual**2
        top = np.max(parts, axis=1)
        total += top + np.log(np.sum(np.exp(parts - top[:, None]), axis=1))
    total -= len(y) * (log_sigma[:, 0] + 0.5 * LOG_2PI)
    return np.where(np.all(np.diff(slope, axis=1) > 0, axis=1), total, -np.inf)


def two_log_density(positions, y):
    """Log density of the mixture of two normal distributions where the means are in order.

    Args:
        positions: Means, logs of the standard deviations and the logit of the first share, shape
            `(num, 5)`.
        y: Observations.
    """
    mu, log_sigma, logit = positions[:, :2], positions[:, 2:4], positions[:, 4]
    log_shares = -np.logaddexp(0.0, np.stack([-logit, logit], axis=1))
    total = np.sum(_log_normal(mu, 2.0), axis=1)
    total += np.sum(math.log(2) + _log_normal(np.exp(log_sigma), 2.0) + log_sigma, axis=1)
    total += gammaln(10) - 2 * gammaln(5) + 5 * np.sum(log_shares, axis=1)
    for observation in np.asarray(y, float):
        residual = (observation - mu) * np.exp(-log_sigma)
        total += np.logaddexp(*(log_shares - log_sigma - 0.5 * residual**2).T)
    total -= 0.5 * len(y) * LOG_2PI
    return np.where(mu[:, 0] < mu[:, 1], total, -np.inf)


def lines_evidence(num: int) -> tuple[float, float]:
    """Log evidence of the mixture of this many lines, and its standard error."""
    values = models.lines_data(num)
    intercept, slope = np.asarray(models.LINES[num]).T
    logits = np.log(np.asarray(models.WEIGHTS[num])[:-1] / models.WEIGHTS[num][-1])
    start = np.concatenate([logits, intercept, slope, [math.log(models.LINES_NOISE)]])
    one_order = importance_evidence(lambda p: lines_log_density(p, **values), start)
    return one_order[0] + math.lgamma(num + 1), one_order[1]


def two_evidence(data: Path) -> tuple[float, float]:
    """Log evidence of the mixture of two without an order, and its standard error."""
    values = models.mixture_of_two_data(data)
    start = np.asarray([-2.7, 2.9, 0.0, 0.0, 0.5])
    # A thousand observations pin the mode down: few draws are enough.
    one_order = importance_evidence(lambda p: two_log_density(p, **values), start, num=100_000)
    return one_order[0] + math.log(2), one_order[1]


def main() -> None:
    """Print every recorded evidence beside a new one."""
    options = command_line.parser(__doc__).parse_args()
    found = {"lines_3": lines_evidence(3), "lines_4": lines_evidence(4)}
    found["gauss_mix_unordered"] = two_evidence(options.data)
    for name, (value, error) in found.items():
        print(f"{name}: recorded {RECORDED[name]:.4f}, anew {value:.4f} ± {error:.4f}")


if __name__ == "__main__":
    main()
