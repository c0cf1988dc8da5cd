"""Refusals of models that have no density on flat vectors; each says what to write instead."""

import inspect
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.infer.util import compute_log_probs

from numpyro_bridge._core.untyped_bases import Messenger
from numpyro_bridge.target.sites import family_of, has_no_integral, is_discrete


class ModelRefusedError(ValueError):
    """The model cannot be turned into a density on flat unconstrained vectors."""


def check_arguments(model: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise if `model` is not callable or does not accept these arguments.

    The signature is compared before the model runs, so a `TypeError` from inside the model
    reaches the user as it is.
    """
    if not callable(model):
        raise ModelRefusedError(
            "model: a NumPyro model is a function, but got an object of type "
            f"{type(model).__name__}. Pass the function itself, without calling it: the arguments "
            "of the model come after it, as in target_from_model(rng_key, model, x, y=y)."
        )
    try:
        signature = inspect.signature(model)
    except (TypeError, ValueError):  # some callables written in C have no signature
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = getattr(model, "__name__", type(model).__name__)
        raise ModelRefusedError(
            f"The model does not accept these arguments: {error}. Its signature is "
            f"{name}{signature}, and it was given ({described(args, kwargs)}). Pass the data "
            "that the model needs exactly as you would call the model yourself. (A log density is "
            "made a target by nb.target_from_log_density(log_density, dim).)"
        ) from error


def complex_log_density() -> ModelRefusedError:
    """The error for a model whose log density is no real number."""
    return ModelRefusedError(
        "The log density of the model is a complex number, so that it is no density. Distributions "
        "are of real numbers: observe jnp.real(...), jnp.imag(...) or jnp.abs(...) of complex data."
    )


def described(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Write the arguments of a model for an error message: arrays by type and shape."""
    named = [f"{name}={_describe(value)}" for name, value in kwargs.items()]
    return ", ".join([*map(_describe, args), *named])


def _describe(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value) if isinstance(value, int | float | str | None) else type(value).__name__


class RefuseSites(Messenger):
    """Effect handler that stops at the first site with no unconstrained density."""

    def __init__(self, fn: Callable[..., Any]):
        super().__init__(fn)
        self.params: set[str] = set()
        """Names of the `numpyro.param` sites that were not given a value from outside."""

    def process_message(self, msg: dict[str, Any]) -> None:
        """Look at one site, before a value is drawn for it."""
        if msg["type"] == "plate":
            _check_plate(msg)
        elif msg["type"] == "param" and msg["value"] is None:
            self.params.add(msg["name"])
        elif msg["type"] == "sample" and not msg["is_observed"]:
            _check_latent(msg["name"], msg["fn"], msg["infer"].get("enumerate"))


def _check_plate(site: dict[str, Any]) -> None:
    size, subsample_size = site["args"]
    if subsample_size is not None and subsample_size < size:
        raise ModelRefusedError(
            f"Plate '{site['name']}' takes a subsample of {subsample_size} of its {size} elements: "
            "the density would be a different random estimate at every evaluation, and weights and "
            "evidence would be wrong. Remove `subsample_size` (or set it to None) to use all data."
        )


def _check_latent(name: str, fn: dist.Distribution, enumerate_as: str | None) -> None:
    family = family_of(fn)
    if family == "Delta":
        raise ModelRefusedError(
            f"Latent site '{name}' has a Delta distribution: its value is certain and has no "
            f"density. Write numpyro.deterministic('{name}', value) instead."
        )
    if not is_discrete(fn):
        return
    if not fn.has_enumerate_support or enumerate_as not in (None, "parallel"):
        raise ModelRefusedError(
            f"Latent site '{name}' is discrete ({family}) and cannot be summed out as it is. If it "
            "is data, it was not given: pass it as `obs=` (was None passed to the model?). If it "
            "is latent, write the marginal density (numpyro.factor, or a compound distribution "
            "such as GammaPoisson), or use a distribution of finite support with "
            "infer={'enumerate': 'parallel'}."
        )
    if enumerate_as is None:
        warnings.warn(
            f"Discrete latent site '{name}' ({family}) is summed out. If that is meant, mark it "
            "with infer={'enumerate': 'parallel'}; if it is data, pass it as `obs=`.",
            UserWarning,
            stacklevel=2,
        )


def check_trace(trace: dict[str, dict[str, Any]]) -> None:
    """Raise if sites that are fine one by one make no density on R^dim together."""
    latent = [n for n, s in trace.items() if s["type"] == "sample" and not s["is_observed"]]
    if not any(not is_discrete(trace[name]["fn"]) for name in latent):
        raise ModelRefusedError(
            "The model has no continuous latent site: every sample site is observed, conditioned "
            "or discrete, so nothing is left to infer. Give the data only to the sites they belong "
            "to (`obs=`), and check handlers.condition and handlers.substitute around the model."
        )
    for name in latent:
        variable = name.removesuffix("_unwrapped")
        is_improper = has_no_integral(trace[name]["fn"])
        # These two sites are what CircularReparam leaves behind.
        if is_improper and variable != name and f"{variable}_factor" in trace:
            raise ModelRefusedError(
                f"Site '{variable}' uses CircularReparam: its density on the real line is periodic "
                "and has no finite integral, so there is no evidence and no sample from it. Remove "
                "CircularReparam (the angle is then mapped to the real line with a seam at ±π), or "
                "write the angle as jnp.arctan2 of a two-dimensional ProjectedNormal with "
                "ProjectedNormalReparam."
            )


def check_asked(trace: dict[str, dict[str, Any]], asked: set[str]) -> None:
    """Raise if a latent site has values of its own, whatever it is given.

    Args:
        trace: One run of the model.
        asked: Names by which sites asked for a value in this run.
    """
    for name, site in trace.items():
        if site["type"] == "sample" and not site["is_observed"] and name not in asked:
            raise ModelRefusedError(
                f"Latent site '{name}' does not take the value that it is given: it has another "
                "name inside of a scan than outside, and NumPyro would draw it at random in every "
                "evaluation, with NUTS too. Do not put handlers.scope around a scan; put it inside "
                "of the function that is scanned."
            )


def is_centring(name: str, trace: dict[str, dict[str, Any]]) -> bool:
    """Whether a `numpyro.param` says how far `LocScaleReparam(None)` centres a site.

    The posterior is the same whatever its value, which need not be learned then.
    """
    site = name.removesuffix("_centered")
    return site != name and f"{site}_decentered" in trace


def check_param(
    name: str, value: Any, model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Raise if the density depends on a `numpyro.param`.

    It does not where `random_flax_module` and its kin have put sample sites in the place of one.
    """
    arrays, rest = eqx.partition(value, eqx.is_array_like)

    def log_density(arrays):
        fixed = handlers.substitute(model, data={name: eqx.combine(arrays, rest)})
        terms, _ = compute_log_probs(fixed, args, kwargs, {})
        return sum(terms.values())

    if _depends_on_input(jax.make_jaxpr(log_density)(arrays).jaxpr):
        raise ModelRefusedError(
            f"Site '{name}' is a numpyro.param: it has no prior, and would silently stay at its "
            f"initial value. To infer it, write numpyro.sample('{name}', prior), or for a network "
            "random_flax_module, random_nnx_module or random_eqx_module with a prior for each of "
            "its parameters. To hold it fixed on purpose, pass "
            f"numpyro.handlers.substitute(model, data={{'{name}': value}})."
        )


def _depends_on_input(program: Any) -> bool:
    reached = {id(variable) for variable in program.invars}
    for step in program.eqns:
        if any(id(variable) in reached for variable in step.invars):
            reached |= {id(variable) for variable in step.outvars}
    return any(id(variable) in reached for variable in program.outvars)


NUMBER_NEEDED_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


def number_needed(error: Exception) -> ModelRefusedError:
    """Make the error for a model that reads numbers which compiled code does not have."""
    return ModelRefusedError(
        "The model needs the number behind a value that is only known when the compiled code runs: "
        f"{str(error).splitlines()[0]} If the value comes from data (int(x.max()), np.unique(x), "
        "x[x > 0]), pass NumPy arrays rather than JAX arrays, or compute it outside and pass the "
        "result as a Python number. If it comes from a latent site (if mu > 0: ...), write "
        "jnp.where or jax.lax.cond instead."
    )


def not_numbers(instead: Iterable[str], error: Exception) -> ModelRefusedError:
    """Make the error for a model that cannot compute with what it was given."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ModelRefusedError(
        f"The model cannot compute with its arguments: {'; '.join(instead)}. It raised: {first}"
    )


def unrepeatable() -> ModelRefusedError:
    """Make the error for a model that was run twice and computed with other numbers."""
    return ModelRefusedError(
        "The model does not compute the same each time that it is run: it uses numbers that change "
        "by themselves, such as those of np.random or of a clock. Draw them before, and pass them "
        "as arguments; or make them with numpyro.sample, or with numpyro.prng_key(), which gives "
        "the same key every time."
    )
