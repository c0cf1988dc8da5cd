"""Reading a NumPyro model: the layout of its sites, and refusals that say what to write instead."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.infer.initialization import init_to_uniform
from numpyro.infer.util import compute_log_probs
from numpyro.primitives import Messenger
from numpyro.util import _validate_model


class ModelRefusedError(ValueError):
    """The model cannot be turned into a density on flat unconstrained vectors."""


def check_arguments(model: object, args: tuple, kwargs: dict) -> None:
    """Raise if `model` is not callable or does not accept these arguments.

    The signature is compared before the model runs, so a `TypeError` from inside the model
    reaches the user as it is.
    """
    if not callable(model):
        raise ModelRefusedError(
            f"A NumPyro model is a function, but got an object of type {type(model).__name__}. "
            "Pass the function itself, without calling it: the arguments of the model come after "
            "it, as in target_from_model(rng_key, model, x, y=y)."
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


def described(args: tuple, kwargs: dict) -> str:
    """Arguments of a model as a reader knows them: arrays by type and shape."""
    named = [f"{name}={_describe(value)}" for name, value in kwargs.items()]
    return ", ".join([*map(_describe, args), *named])


def _describe(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value) if isinstance(value, int | float | str | None) else type(value).__name__


def innermost(fn: dist.Distribution) -> dist.Distribution:
    """The distribution inside plates (`expand`), masks and `to_event`."""
    while isinstance(fn, dist.ExpandedDistribution | dist.MaskedDistribution | dist.Independent):
        fn = fn.base_dist
    return fn


def family_of(fn: dist.Distribution) -> str:
    """The name of its innermost distribution."""
    return type(innermost(fn)).__name__


def is_discrete(fn: dist.Distribution) -> bool:
    """Whether the values of a distribution cannot be moved continuously."""
    return fn.support is not None and fn.support.is_discrete


def is_factor(site: dict) -> bool:
    """Whether a sample site was made by `numpyro.factor` (log-determinants are made so too)."""
    return isinstance(innermost(site["fn"]), dist.Unit)


class Repeatable(Messenger):
    """Effect handler, to be the innermost, that makes every run of a model the same."""

    def process_message(self, msg: dict) -> None:
        """Give `numpyro.prng_key()` the key that NUTS gives it, and sites notes of their own."""
        if msg["type"] == "prng_key" and msg["value"] is None:
            msg["value"] = jax.random.key(0)
        elif msg["type"] == "sample":
            # Enumeration writes its axes into this dictionary, which the model may use twice.
            axes = ("dim_to_name", "name_to_dim")
            msg["infer"] = {k: v for k, v in msg["infer"].items() if k not in axes}


class RefuseSites(Messenger):
    """Effect handler that stops at the first site with no unconstrained density."""

    def __init__(self, fn: Callable):
        super().__init__(fn)
        self.params: set[str] = set()
        """Names of the `numpyro.param` sites that were not given a value from outside."""

    def process_message(self, msg: dict) -> None:
        """Look at one site, before a value is drawn for it."""
        if msg["type"] == "plate":
            _check_plate(msg)
        elif msg["type"] == "param" and msg["value"] is None:
            self.params.add(msg["name"])
        elif msg["type"] == "sample" and not msg["is_observed"]:
            _check_latent(msg["name"], msg["fn"], msg["infer"].get("enumerate"))


def _check_plate(site: dict) -> None:
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


def check_trace(trace: dict) -> None:
    """Raise if a whole trace, whose single sites are all fine, makes no density on R^dim."""
    latent = [n for n, s in trace.items() if s["type"] == "sample" and not s["is_observed"]]
    if not any(not is_discrete(trace[name]["fn"]) for name in latent):
        raise ModelRefusedError(
            "The model has no continuous latent site: every sample site is observed, conditioned "
            "or discrete, so nothing is left to infer. Give the data only to the sites they belong "
            "to (`obs=`), and check handlers.condition and handlers.substitute around the model."
        )
    for name in latent:
        variable = name.removesuffix("_unwrapped")
        is_improper = isinstance(innermost(trace[name]["fn"]), dist.ImproperUniform)
        # These two sites are what CircularReparam leaves behind.
        if is_improper and variable != name and f"{variable}_factor" in trace:
            raise ModelRefusedError(
                f"Site '{variable}' uses CircularReparam: its density on the real line is periodic "
                "and has no finite integral, so there is no evidence and no sample from it. Remove "
                "CircularReparam (the angle is then mapped to the real line with a seam at ±π), or "
                "write the angle as jnp.arctan2 of a two-dimensional ProjectedNormal with "
                "ProjectedNormalReparam."
            )


def _check_param(name: str, value: Any, model: Callable, args: tuple, kwargs: dict) -> None:
    """Raise if the density depends on a `numpyro.param`.

    It does not where `random_flax_module` and its like have put sample sites in its place.
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
    """The error for a model that reads numbers which compiled code does not have."""
    return ModelRefusedError(
        "The model needs the number behind a value that is only known when the compiled code runs: "
        f"{str(error).splitlines()[0]} If the value comes from data (int(x.max()), np.unique(x), "
        "x[x > 0]), pass NumPy arrays rather than JAX arrays, or compute it outside and pass the "
        "result as a Python number. If it comes from a latent site (if mu > 0: ...), write "
        "jnp.where or jax.lax.cond instead."
    )


class Layout(NamedTuple):
    """What one run of a model says about its sites; hashable, free of data."""

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    """Unconstrained shapes of the continuous latent sites, sorted by name."""
    dims: tuple[tuple[str, tuple[str, ...]], ...]
    """Names of the leading axes of all sites that have values."""
    improper: tuple[str, ...]
    """Latent sites whose prior has no finite integral."""
    prior_can_be_drawn: bool
    sums_out: bool
    """Whether there are discrete latent sites."""
    num_plate_dims: int
    hidden: frozenset[str]
    """Deterministic sites that depend on discrete latent ones."""


def read_layout(model: Callable, args: tuple, kwargs: dict) -> Layout:
    """Run a model once, at an arbitrary position, and refuse it or note what its sites are.

    The run may be abstract (`jax.eval_shape`): no number is looked at.
    """
    checked = RefuseSites(handlers.seed(Repeatable(model), 0))
    started = handlers.substitute(checked, substitute_fn=init_to_uniform)
    trace = handlers.trace(started).get_trace(*args, **kwargs)
    for name in sorted(checked.params):
        _check_param(name, trace[name]["value"], started, args, kwargs)
    check_trace(trace)
    samples = {name: site for name, site in trace.items() if site["type"] == "sample"}
    latent = {name: samples[name] for name in sorted(samples) if not samples[name]["is_observed"]}
    discrete = {name for name, site in latent.items() if is_discrete(site["fn"])}
    continuous = {name: site for name, site in latent.items() if name not in discrete}
    frames = [frame for site in samples.values() for frame in site["cond_indep_stack"]]
    num_plate_dims = max((-frame.dim for frame in frames), default=0)
    _validate_model(trace, plate_warning="error" if discrete else "loose")
    hidden = _hidden_sites(model, args, kwargs, trace, num_plate_dims) if discrete else frozenset()
    improper = tuple(name for name, site in continuous.items() if _is_improper(site["fn"]))
    is_scaled = any(site["scale"] is not None for site in latent.values())
    with_values = {n: s for n, s in trace.items() if _has_value(s) and n not in discrete | hidden}
    return Layout(
        shapes=tuple((name, _unconstrained_shape(site)) for name, site in continuous.items()),
        dims=tuple((name, _dims(site)) for name, site in with_values.items()),
        improper=improper,
        prior_can_be_drawn=not (improper or discrete or is_scaled),
        sums_out=bool(discrete),
        num_plate_dims=num_plate_dims,
        hidden=hidden,
    )


def _has_value(site: dict) -> bool:
    return site["type"] == "deterministic" or site["type"] == "sample" and not is_factor(site)


def _unconstrained_shape(site: dict) -> tuple[int, ...]:
    return jnp.shape(dist.biject_to(site["fn"].support).inv(site["value"]))


def _is_improper(fn: dist.Distribution) -> bool:
    is_masked = isinstance(fn, dist.MaskedDistribution) and fn._mask is not True
    return is_masked or isinstance(innermost(fn), dist.ImproperUniform)


def enumerated(model: Callable, num_plate_dims: int) -> Callable:
    """Spread discrete latent sites over axes of their own, to the left of all plates."""
    try:
        from numpyro.contrib.funsor import config_enumerate, enum
    except ImportError as error:
        raise ImportError(
            "The model has discrete latent sites, which NumPyro sums out with the package funsor. "
            "Install it with: pip install funsor"
        ) from error
    return enum(config_enumerate(model), first_available_dim=-num_plate_dims - 1)


def _hidden_sites(
    model: Callable, args: tuple, kwargs: dict, trace: dict, num_plate_dims: int
) -> frozenset[str]:
    """The deterministic sites whose shape changes when discrete sites are enumerated.

    Those in a scan over discrete sites do not come out of it, and count as dependent.
    """
    spread = enumerated(handlers.seed(Repeatable(model), 0), num_plate_dims)
    spread = handlers.substitute(spread, substitute_fn=init_to_uniform)
    from numpyro.contrib.funsor.infer_util import plate_to_enum_plate

    with plate_to_enum_plate():
        spread_trace = handlers.trace(spread).get_trace(*args, **kwargs)

    def is_same(name: str) -> bool:
        site = spread_trace.get(name)
        return site is not None and jnp.shape(site["value"]) == jnp.shape(trace[name]["value"])

    names = [name for name, site in trace.items() if site["type"] == "deterministic"]
    return frozenset(name for name in names if not is_same(name))


def _dims(site: dict) -> tuple[str, ...]:
    """Name the axes of a site by its plates, up to the last axis that has a name."""
    shape, num_batch = jnp.shape(site["value"]), _num_batch_dims(site)
    names = {num_batch + frame.dim: frame.name for frame in _fitting_frames(site, num_batch)}
    event_names = site.get("infer", {}).get("event_dims", ())
    names |= {num_batch + axis: name for axis, name in enumerate(event_names)}
    last = min(max(names, default=-1), len(shape) - 1)
    return tuple(names.get(axis, f"{site['name']}_dim_{axis}") for axis in range(last + 1))


def _fitting_frames(site: dict, num_batch: int) -> list:
    """The plates of a site that are an axis of its value."""
    shape = jnp.shape(site["value"])
    frames = [
        frame for frame in site["cond_indep_stack"] if 0 <= num_batch + frame.dim < len(shape)
    ]
    return [frame for frame in frames if shape[num_batch + frame.dim] == frame.size]


def _num_batch_dims(site: dict) -> int:
    """The number of axes before the event: plates count from the last of them."""
    ndim, frames = jnp.ndim(site["value"]), site["cond_indep_stack"]
    if site["type"] == "sample":
        return ndim - site["fn"].event_dim
    # A deterministic value does not say where its event starts. If all plates fit in front, after
    # them; if some are missing, because the value does not depend on them, there is no event.
    depth = max((-frame.dim for frame in frames), default=0)
    return depth if len(_fitting_frames(site, depth)) == len(frames) else ndim
