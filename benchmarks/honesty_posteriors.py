"""Posteriors of many kinds, numbered, whose evidence and moments are exact by construction."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import special

import numpyro_bridge as nb
from benchmarks import honesty_models
from benchmarks.honesty_models import (
    LARGEST_LOG_SCALE,
    LARGEST_LOG_VOLUME,
    MAX_PARTS,
    Mixture,
    SkewedProduct,
    default_float,
    log_uniform,
    scales_of,
)

SEED = 20_240_607
DIMS = (1, 2, 3, 5, 8, 12, 20, 30)
SEPARATIONS = (3.0, 30.0)
LEAST_MASS = 0.01

Draw = Callable[[np.random.Generator, int], dict[str, np.ndarray]]


@dataclass(frozen=True)
class ExactPosterior:
    """A posterior with its exact answer; a log density has the one site "x"."""

    number: int
    kind: str
    about: str
    """What it is made of, in a few words."""
    target: Any
    """What `nb.BridgeSampler` is made from: a target, or a NumPyro model that takes `args`."""
    args: tuple
    dim: int
    log_evidence: float
    mean: dict[str, np.ndarray]
    sd: dict[str, np.ndarray]
    sample: Draw
    """Makes exact draws, from a generator and their number to values by site."""
    heavy: dict[str, np.ndarray] = field(default_factory=dict)
    """Where a site's variance comes from Student tails of at most four degrees of freedom."""

    @cached_property
    def sd_is_checked(self) -> dict[str, np.ndarray]:
        """Whether 4,000 weighted draws can show the standard deviation of a coordinate to 10 %.

        Even exact draws show it with a relative error of sqrt((kurtosis - 1) / 16,000) only, which
        has to be a third of the tolerance at most. Up to four degrees of freedom it is infinite.
        Medians are no way out: between two modes they move far if a mass is off by a little.
        """
        draws = self.sample(np.random.default_rng(0), 50_000)
        return {
            site: (np.mean(((value - self.mean[site]) / self.sd[site]) ** 4, axis=0) < 18.0)
            & ~np.asarray(self.heavy.get(site, False))
            for site, value in draws.items()
        }


def posterior_of(number: int) -> ExactPosterior:
    """Make the posterior of this number; always the same one.

    Args:
        number: 0 or more; each has its own kind, dimension, shape, scale and evidence.
    """
    rng = np.random.default_rng([SEED, number])
    kind = str(rng.choice(list(KINDS), p=[share for share, _ in KINDS.values()]))
    return KINDS[kind][1](rng, number, kind)


def _rotation(rng: np.random.Generator, dim: int, share: float) -> np.ndarray:
    """A random rotation in this share of the cases, an order of the coordinates otherwise."""
    if rng.uniform() < share:
        return np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return np.eye(dim)[rng.permutation(dim)]


# --- mixtures of normal, Student, bent and flaring parts ------------------------------------------


class Parts(NamedTuple):
    """What a mixture is made of, before it is padded; the leading axis is that of its parts."""

    mass: np.ndarray
    mean: np.ndarray
    factor: np.ndarray
    bend: np.ndarray
    flare: np.ndarray
    df: np.ndarray
    """Infinite for a part that is not Student."""

    def covariances(self) -> np.ndarray:
        """The exact covariance of each part, shape `(num, dim, dim)`."""
        student = np.ones(len(self.df))
        finite = np.isfinite(self.df)
        student[finite] = self.df[finite] / (self.df[finite] - 2)
        diagonal = (1 + 2 * self.bend**2) * np.exp(2 * self.flare**2) * student[:, None]
        return np.einsum("kij,kj,klj->kil", self.factor, diagonal, self.factor)

    def placed(self, place: np.ndarray, scales: np.ndarray) -> "Parts":
        """The same mixture, shifted and scaled to this mean and these standard deviations."""
        centre = self.mass @ self.mean
        variances = np.diagonal(self.covariances(), axis1=1, axis2=2)
        sd = np.sqrt(self.mass @ (variances + (self.mean - centre) ** 2))
        mean = place + (self.mean - centre) * scales / sd
        return self._replace(mean=mean, factor=(scales / sd)[:, None] * self.factor)

    def share_of_heavy_tails(self) -> np.ndarray:
        """How much of each variance is inside parts of at most four degrees of freedom."""
        variances = np.diagonal(self.covariances(), axis1=1, axis2=2)
        between = (self.mean - self.mass @ self.mean) ** 2
        return (self.mass * (self.df <= 4)) @ variances / (self.mass @ (variances + between))

    def draw(self, rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
        """Draw exactly."""
        part = rng.choice(len(self.mass), num, p=self.mass)
        noise = rng.normal(size=(num, self.mean.shape[1]))
        df = np.where(np.isfinite(self.df), self.df, 1.0)[part]
        student = np.sqrt(df / rng.chisquare(df))
        noise *= np.where(np.isfinite(self.df)[part], student, 1.0)[:, None]
        bent = noise + self.bend[part] * (np.roll(noise, 1, axis=1) ** 2 - 1)
        log_scale = self.flare[part] * bent[:, :1]
        bent *= np.exp(np.clip(log_scale, -LARGEST_LOG_SCALE, LARGEST_LOG_SCALE))
        return {"x": self.mean[part] + np.einsum("nij,nj->ni", self.factor[part], bent)}

    def log_density(self, log_evidence: float) -> Mixture:
        """The log density, with as many parts as any mixture has."""
        num, dim = self.mean.shape
        is_student = np.isfinite(self.df)
        df = np.where(is_student, self.df, 10.0)
        student = special.gammaln((df + dim) / 2) - special.gammaln(df / 2)
        student -= dim / 2 * np.log(np.pi * df)
        normal = -dim / 2 * math.log(2 * math.pi)
        log_weight = np.log(self.mass) + np.where(is_student, student, normal)
        log_weight -= np.linalg.slogdet(self.factor)[1]
        inverse = np.linalg.inv(self.factor)
        padding = np.concatenate([np.arange(num), np.zeros(MAX_PARTS - num, int)])
        log_weight = np.where(np.arange(MAX_PARTS) < num, log_weight[padding], -1e30)
        return Mixture(
            constant=default_float(log_evidence),
            log_weight=default_float(log_weight),
            mean=default_float(self.mean[padding]),
            inverse=default_float(inverse[padding]),
            bend=default_float(self.bend[padding]),
            flare=default_float(self.flare[padding]),
            df=default_float(df[padding]),
            is_student=jnp.asarray(is_student[padding]),
        )


def _mixture(rng, number, kind, *, shape: Callable, dims, most_parts: int) -> ExactPosterior:
    """A mixture whose parts have one of the shapes below."""
    dim, num = int(rng.choice(dims)), int(rng.integers(1, most_parts + 1))
    mass = np.exp(rng.uniform(-4.0, 0.0, num))
    mass = LEAST_MASS + (1 - num * LEAST_MASS) * mass / mass.sum()
    zeros = np.zeros((num, dim))
    parts = Parts(mass, zeros, np.zeros((num, dim, dim)), zeros, zeros, np.full(num, np.inf))
    parts = shape(rng, parts)
    parts = parts._replace(mean=_separated_means(rng, parts.covariances()))
    scales, in_words = scales_of(rng, dim)
    place = scales * rng.uniform(0.0, 2.0) * rng.normal(size=dim)
    log_evidence = float(rng.uniform(-1_000.0, 100.0))
    parts = parts.placed(place, scales)
    target = nb.target_from_log_density(parts.log_density(log_evidence), dim)
    about = f"{num} part{'s' if num > 1 else ''}, least mass {mass.min():.3f}, {in_words}"
    heavy = {"x": parts.share_of_heavy_tails() > 0.1}
    moments = ({"x": place}, {"x": scales})
    return ExactPosterior(
        number, kind, about, target, (), dim, log_evidence, *moments, parts.draw, heavy
    )


def _separated_means(rng, covariances: np.ndarray, num_tries: int = 1_000) -> np.ndarray:
    """Each at a random distance from an earlier one, and no two closer than the least distance.

    Distances are in standard deviations of the mean of the two covariances.
    """
    num, dim = covariances.shape[:2]
    means = np.zeros((1, dim))
    for new in range(1, num):
        inverses = np.linalg.inv((covariances[:new] + covariances[new]) / 2)
        for _ in range(num_tries):
            old, direction = rng.integers(new), rng.normal(size=dim)
            distance = log_uniform(rng, *SEPARATIONS)
            unit = direction / np.sqrt(direction @ inverses[old] @ direction)
            candidate = means[old] + distance * unit
            apart = np.einsum("ki,kij,kj->k", candidate - means, inverses, candidate - means)
            if np.min(apart) >= 0.999 * SEPARATIONS[0] ** 2:
                means = np.concatenate([means, candidate[None]])
                break
        else:
            raise RuntimeError(f"no place for part {new} of {num} in {dim} dimensions")
    return means


def _factors(rng, num: int, dim: int, share_rotated: float) -> np.ndarray:
    """Directions of each part, with scales that differ between parts and between directions."""
    rotations = np.stack([_rotation(rng, dim, share_rotated) for _ in range(num)])
    sizes = log_uniform(rng, 0.2, 2.0, (num, dim))
    # Volumes that differ by a factor of a million hide a mode from every method but luck.
    volume = rng.uniform(-LARGEST_LOG_VOLUME, LARGEST_LOG_VOLUME, (num, 1))
    sizes *= np.exp((volume - np.log(sizes).sum(axis=1, keepdims=True)) / dim)
    return rotations * sizes[:, None, :]


def _normal_shape(rng, parts: Parts) -> Parts:
    return parts._replace(factor=_factors(rng, *parts.mean.shape, share_rotated=0.7))


def _student_shape(rng, parts: Parts) -> Parts:
    """Degrees of freedom from 3 to 10; of several parts, some are normal."""
    df = rng.uniform(3.0, 10.0, len(parts.mass))
    is_normal = rng.uniform(size=df.size) < 0.25
    is_normal[0] = False
    return _normal_shape(rng, parts)._replace(df=np.where(is_normal, np.inf, df))


def _banana_shape(rng, parts: Parts) -> Parts:
    """Pairs of coordinates, whose second is bent by up to 14 times its thickness in the sd."""
    num, dim = parts.mean.shape
    bend = np.zeros((num, dim))
    bend[:, 1::2] = log_uniform(rng, 0.5, 10.0, (num, dim // 2)) * rng.choice((-1, 1), (num, 1))
    bend[:, 1::2] *= rng.uniform(size=(num, dim // 2)) < 0.7
    bend[:, 1] = np.where(bend[:, 1] == 0, 1.0, bend[:, 1])
    factor = _factors(rng, num, dim, share_rotated=0.5)
    # Thin in the bent direction, so that bananas are not longer than the parts of other kinds.
    thin = np.where(bend == 0, 1.0, 1 / np.maximum(1.0, np.abs(bend)))
    return parts._replace(bend=bend, factor=factor * thin[:, None, :])


def _funnel_shape(rng, parts: Parts) -> Parts:
    """Neal's funnel: coordinate 0 is the log variance of the others, of scale 1 to 3."""
    num, dim = parts.mean.shape
    scale = rng.uniform(1.0, 3.0, num)
    flare = np.repeat(scale[:, None] / 2, dim, axis=1)
    flare[:, 0] = 0.0
    sizes = np.ones((num, dim))
    sizes[:, 0] = scale
    rotations = np.stack([_rotation(rng, dim, 0.3) for _ in range(num)])
    return parts._replace(flare=flare, factor=rotations * sizes[:, None, :])


# --- products of skewed marginals -----------------------------------------------------------------


def _skewed(rng, number, kind) -> ExactPosterior:
    """A product of skewed marginals, rotated in half of the cases."""
    dim = int(rng.choice(DIMS))
    left, right = log_uniform(rng, 0.3, 20.0, (2, dim))
    is_logit = rng.uniform(size=dim) < 0.5
    mean = np.where(
        is_logit,
        special.digamma(left) - special.digamma(right),
        math.sqrt(2 / math.pi) * (right - left),
    )
    variance = np.where(
        is_logit,
        special.polygamma(1, left) + special.polygamma(1, right),
        (1 - 2 / math.pi) * (right - left) ** 2 + left * right,
    )
    log_integral = np.where(
        is_logit, special.betaln(left, right), np.log((left + right) * math.sqrt(math.pi / 2))
    )
    # Each of standard deviation one before it is rotated, so that none is lost among the others.
    scales, in_words = scales_of(rng, dim)
    linear = scales[:, None] * _rotation(rng, dim, 0.5) / np.sqrt(variance)
    exact_mean = scales * rng.uniform(0.0, 2.0) * rng.normal(size=dim)
    place = exact_mean - linear @ mean

    def draw(generator: np.random.Generator, num: int) -> dict[str, np.ndarray]:
        gammas = [generator.gamma(side, size=(num, dim)) for side in (left, right)]
        logit = np.log(gammas[0]) - np.log(gammas[1])
        is_left = generator.uniform(size=(num, dim)) < left / (left + right)
        size = np.abs(generator.normal(size=(num, dim)))
        y = np.where(is_logit, logit, np.where(is_left, -left * size, right * size))
        return {"x": place + y @ linear.T}

    log_evidence = float(rng.uniform(-1_000.0, 100.0))
    constant = log_evidence - np.sum(log_integral) - np.linalg.slogdet(linear)[1]
    density = SkewedProduct(
        constant=default_float(constant),
        place=default_float(place),
        inverse=default_float(np.linalg.inv(linear)),
        left=default_float(left),
        right=default_float(right),
        is_logit=jnp.asarray(is_logit),
    )
    target = nb.target_from_log_density(density, dim)
    moments = ({"x": exact_mean}, {"x": scales})
    return ExactPosterior(number, kind, in_words, target, (), dim, log_evidence, *moments, draw)


# --- models with constraints ----------------------------------------------------------------------


def _constrained(rng, number, kind, *, has_data: bool) -> ExactPosterior:
    """A NumPyro model with conjugate priors, and a constant factor that sets its evidence."""
    name = str(rng.choice(list(honesty_models.FAMILIES)))
    family = honesty_models.FAMILIES[name]
    dim = int(rng.choice([dim for dim in DIMS if dim % family.dim == 0]))
    exact = family.make(rng, dim // family.dim, has_data)
    log_evidence = float(rng.uniform(-1_000.0, 100.0))
    given = {**exact.given, "log_constant": np.asarray(log_evidence - exact.log_marginal)}
    args = ({site: default_float(value) for site, value in given.items()},)
    return ExactPosterior(
        number=number,
        kind=kind,
        about=name,
        target=family.model,
        args=args,
        dim=dim,
        log_evidence=log_evidence,
        mean={site: mean for site, (mean, _) in exact.moments.items()},
        sd={site: sd for site, (_, sd) in exact.moments.items()},
        sample=exact.draw,
        heavy=exact.heavy,
    )


KINDS: dict[str, tuple[float, Callable]] = {
    "normal modes": (0.22, partial(_mixture, shape=_normal_shape, dims=DIMS, most_parts=MAX_PARTS)),
    "Student modes": (
        0.18,
        partial(_mixture, shape=_student_shape, dims=DIMS, most_parts=MAX_PARTS),
    ),
    "bananas": (0.16, partial(_mixture, shape=_banana_shape, dims=DIMS[1:], most_parts=4)),
    "funnels": (0.14, partial(_mixture, shape=_funnel_shape, dims=DIMS[1:], most_parts=2)),
    "skewed product": (0.12, _skewed),
    "prior with constraints": (0.07, partial(_constrained, has_data=False)),
    "conjugate model": (0.11, partial(_constrained, has_data=True)),
}
"""The share of each kind, and what makes one of it."""
