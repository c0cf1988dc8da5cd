"""A trained bridge side by side with NUTS: parameters, costs, and whether the two agree."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import MCMC

from numpyro_bridge import plots
from numpyro_bridge._typing import RNGKey
from numpyro_bridge.backward import BackwardRuns
from numpyro_bridge.draws import Draws, Verdict
from numpyro_bridge.infer.posterior import MIN_MODE_SHARE, Posterior
from numpyro_bridge.inference_data import Groups, to_inference_data
from numpyro_bridge.inference_data import _assemble as assemble
from numpyro_bridge.inference_data import _import_arviz as import_arviz
from numpyro_bridge.nuts import Nuts, NutsRun, Watch, numpyro_nuts, run_of, stopwatch
from numpyro_bridge.predictive import pointwise_log_likelihood
from numpyro_bridge.target import ModelTarget, Target

MAX_R_HAT = 1.01
"""Chains that differ by more have not seen the same posterior."""

MIN_BACKWARD_ESS = 0.05
"""Effective share, as NUTS's draws see it, below which the bridge misses some of the posterior."""

NUM_BACKWARD = 1_000
"""Draws of NUTS that the bridge is run backward from."""

FALSE_ALARM = 0.01
"""Probability that two exact samplers are said to differ, over all parameters together."""

COST_LABELS = {
    "standardise_seconds": "standardise, with its compilation [s]",
    "compile_seconds": "compile [s]",
    "train_seconds": "train, or warm up [s]",
    "draw_seconds": "draw [s]",
    "total_seconds": "total [s]",
    "gradients_before": "gradients before drawing",
    "gradients_drawing": "gradients while drawing",
    "min_ess_bulk": "smallest bulk ESS",
    "ess_per_second": "ESS per second, of all",
    "ess_per_second_drawing": "ESS per second, of drawing",
}
"""The rows of `Comparison.costs`, and what they are called in print."""


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What `compare_with_nuts` found; print it, or read its parts.

    Attributes:
        bridge: corrected draws of the bridge, an ArviZ object.
        nuts: draws of NUTS, an ArviZ object.
        table: a pandas data frame with a row for every parameter that varies, deterministic ones
            included. `bridge_mean`, `bridge_sd`, `nuts_mean`, `nuts_sd`; `difference`, of the
            means, in posterior standard deviations as NUTS sees them; `z`, the same in Monte Carlo
            standard errors, of both samplers together; `wasserstein`, the distance between the two
            marginals in posterior standard deviations (two exact samplers with 1,000 effective
            draws each are about 0.05 apart); `bridge_r_hat`, `nuts_r_hat`, `bridge_ess`,
            `nuts_ess` (bulk).
        costs: a data frame with columns `bridge` and `nuts` and the rows of `COST_LABELS`; NaN
            where a cost does not arise or is not known. `compile_seconds` is what JAX reports
            as tracing, lowering and compiling, so that the other seconds are those that a second
            run would take.
        draws: the bridge's draws and weights, with the evidence.
        backward: the bridge run backward from draws of NUTS: an upper bound on the evidence, and
            what the bridge's own weights cannot see.
        nuts_modes: the share of NUTS's draws at each mode that standardisation saw; empty if one.
        posterior: the trained bridge.
    """

    bridge: Any
    nuts: Any
    table: Any
    costs: Any
    draws: Draws
    backward: BackwardRuns
    nuts_modes: np.ndarray
    posterior: Posterior

    @property
    def verdict(self) -> Verdict:
        """Whether both samplers are to be trusted and agree, and why, in words."""
        doubts = list(_doubts_about_nuts(self))
        agree, comparison = _agreement(self.table)
        own = self.draws.verdict
        unseen = list(_unseen_by_the_bridge(self))
        text = " ".join([f"Bridge: {own.text}", *unseen])
        text += f" NUTS: {' '.join(doubts) or 'no doubts.'}"
        trustworthy = own.trustworthy and agree and not doubts and not unseen
        return Verdict(trustworthy, f"{text}\n{comparison}")

    def __repr__(self) -> str:
        """Say how much was compared."""
        return f"Comparison(bridge, NUTS: {len(self.table)} parameters)"

    def __str__(self) -> str:
        """Both tables, the evidence and the verdict."""
        evidence = _format_evidence(self.draws, self.backward)
        parts = [_format_table(self.table), _format_costs(self.costs), evidence]
        return "\n\n".join([*parts, self.verdict.text])

    def print(self) -> None:
        """Print both tables, the evidence and the verdict.

        A site of more than ten elements is shown by its worst, the one of largest `|z|`; `table`
        has all of them.
        """
        print(f"\n{self}\n")

    def plot(self, folder: str | PathLike | None = None) -> dict[str, Any]:
        """Draw the marginals, a forest, pairs of parameters, the training and the weights.

        Args:
            folder: where to write the figures to, as `marginals.png` and so on; made if needed.

        Returns:
            Matplotlib figures: `marginals`, `forest`, `pairs`, `training` and `weights`.

        Raises:
            ImportError: if Matplotlib is not installed.
        """
        samples = {"bridge": self.bridge, "NUTS": self.nuts}
        labels = list(self.table.index)
        draws = self.draws
        figures = {
            "marginals": plots.plot_marginals(samples, labels),
            "forest": plots.plot_forest(samples, labels),
            "pairs": plots.plot_pairs(samples, labels),
            "training": plots.plot_training(
                self.posterior.metrics, draws.log_evidence, draws.log_evidence_error
            ),
            "weights": plots.plot_weights(draws.log_weight, draws.pareto_k, draws.ess),
        }
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            for name, figure in figures.items():
                figure.savefig(Path(folder) / f"{name}.png", dpi=150)
        return figures


def compare_with_nuts(
    posterior: Posterior,
    rng_key: RNGKey,
    *,
    num_samples: int = 4_000,
    num_chains: int = 4,
    num_warmup: int = 1_000,
    nuts_samples: int = 1_000,
    nuts: Nuts = numpyro_nuts,
    mcmc: MCMC | None = None,
    log_likelihood: bool = False,
    coords: Mapping[str, Sequence] | None = None,
    progress_bar: bool = True,
) -> Comparison:
    """Draw from a trained bridge and from NUTS, and compare parameters and costs.

    Both samplers get the same model and data. The bridge's draws are corrected by independence
    Metropolis-Hastings, as `to_inference_data` does by default, so that ESS, r-hat and Monte Carlo
    errors mean the same for both. NUTS runs its chains in one batch, with the defaults of NumPyro
    or of BlackJAX.

    Args:
        posterior: what `BridgeSampler.run` returned.
        rng_key: a JAX key.
        num_samples: draws of the bridge, over all chains.
        num_chains: chains of each sampler; r-hat needs at least two.
        num_warmup: warm-up steps of each chain of NUTS.
        nuts_samples: draws of each chain of NUTS.
        nuts: whose NUTS, `nb.numpyro_nuts` or `nb.blackjax_nuts`; or any function with their
            arguments.
        mcmc: a finished `numpyro.infer.MCMC` to compare with instead; its seconds are not known.
        log_likelihood: whether to compute the pointwise log likelihood of both, for `arviz.loo`.
        coords: dimension name to labels, for both.
        progress_bar: whether NUTS shows progress.

    Returns:
        The comparison: `print` it, `plot` it, or read `table`, `costs`, `bridge` and `nuts`.

    Raises:
        ImportError: if ArviZ is not installed.
        ValueError: if a number is not positive, or `mcmc` is not a finished run of this model on
            these data.

    Warns:
        ReliabilityWarning: if the bridge's draws are not to be trusted.
    """
    _check_numbers(
        num_samples=num_samples,
        num_chains=num_chains,
        num_warmup=num_warmup,
        nuts_samples=nuts_samples,
    )
    target = posterior.target.base
    draw_key, correct_key, nuts_key, backward_key = jax.random.split(rng_key, 4)
    if mcmc is not None:
        _check_same_posterior(mcmc, target)
    with stopwatch() as watch:
        draws = posterior.sample(draw_key, num_samples)
    bridge = to_inference_data(
        draws,
        num_chains=num_chains,
        rng_key=correct_key,
        prior=False,
        predictive=False,
        log_likelihood=log_likelihood,
        coords=coords,
    )
    if mcmc is None:
        run = nuts(
            nuts_key,
            target,
            num_chains=num_chains,
            num_warmup=num_warmup,
            num_samples=nuts_samples,
            progress_bar=progress_bar,
        )
    else:
        run = run_of(mcmc)
    reference = _nuts_to_arviz(run, target, bridge, coords)
    nuts_draws = _some_draws(run, target)
    backward = posterior.run_backward(backward_key, nuts_draws)
    nuts_modes = posterior.mode_shares(nuts_draws)
    table = _table(bridge, reference, _order(target, bridge))
    costs = _costs(table, {"bridge": _bridge_costs(posterior, draws, watch), "nuts": run.costs})
    return Comparison(bridge, reference, table, costs, draws, backward, nuts_modes, posterior)


def _some_draws(run: NutsRun, target: Target) -> Any:
    """A thousand draws of NUTS, evenly spaced, as `Posterior.run_backward` takes them."""
    samples: Any = run.samples
    if not isinstance(target, ModelTarget):
        (samples,) = jax.tree.leaves(samples)
    samples = jax.tree.map(lambda values: values.reshape(-1, *values.shape[2:]), samples)
    total = len(jax.tree.leaves(samples)[0])
    rows = np.linspace(0, total - 1, min(total, NUM_BACKWARD)).astype(int)
    return jax.tree.map(lambda values: values[rows], samples)


def _check_numbers(**numbers: int) -> None:
    wrong = {name: number for name, number in numbers.items() if number < 1}
    if wrong:
        raise ValueError(f"these should be at least 1: {wrong}")


def _nuts_to_arviz(
    run: NutsRun, target: Target, bridge: Any, coords: Mapping[str, Sequence] | None
) -> Any:
    """The groups that the bridge has, for NUTS, with the same dimensions and data.

    `arviz.from_numpyro` would run the model once more at a draw from the prior, which a vague prior
    can turn into parameters that NumPyro refuses.
    """
    samples = run.samples
    groups: Groups = {"posterior": samples, "sample_stats": run.stats}
    dims = {}
    for group in ("posterior", "observed_data", "constant_data"):
        data = getattr(bridge, group, None)
        if data is None:
            continue
        skip = 2 if group == "posterior" else 0
        dims |= {name: list(array.dims[skip:]) for name, array in data.data_vars.items()}
        if group != "posterior":
            groups[group] = {name: array.values for name, array in data.data_vars.items()}
    if isinstance(target, ModelTarget) and getattr(bridge, "log_likelihood", None) is not None:
        latents = {name: samples[name] for name in target.sites}
        groups["log_likelihood"] = pointwise_log_likelihood(target, latents)
    library: dict[str, str | int | float] = {
        "inference_library": run.library,
        "inference_library_version": version(run.library),
    }
    return assemble(import_arviz(), groups, dims, coords, library)


def _check_same_posterior(mcmc: MCMC, target: Target) -> None:
    """Refuse a run that has not finished, or was of another model or of other data."""
    if mcmc.last_state is None:
        raise ValueError(
            "mcmc has not run yet: call mcmc.run(rng_key, ...) with the model's arguments first, "
            "or leave mcmc out and NUTS is run here"
        )
    samples = mcmc.get_samples(group_by_chain=True)
    example = jax.eval_shape(target.constrain, jnp.zeros(target.dim))
    latent = target.sites if isinstance(target, ModelTarget) else example
    expected = {name: example[name].shape for name in latent}
    if not isinstance(samples, dict):
        raise ValueError(
            f"mcmc should have the sites {expected}, but its samples have no names. With a "
            'potential function, write NUTS(potential_fn=lambda site: -log_density(site["x"])) '
            'and start it with init_params={"x": ...}'
        )
    got = {name: value.shape[2:] for name, value in samples.items()}
    wrong = {name: got.get(name) for name, shape in expected.items() if got.get(name) != shape}
    if wrong:
        raise ValueError(
            f"mcmc should be of the same model as the bridge, with the sites {expected}, but "
            f"its sites are {got}: {sorted(wrong)} are missing or of another shape"
        )
    _check_same_density(mcmc, target, list(expected))


def _check_same_density(mcmc: MCMC, target: Target, sites: list[str]) -> None:
    """Compare log densities where the chains ended: other data give other numbers."""
    unconstrained = getattr(mcmc.last_state, "z", None)
    energy = getattr(mcmc.last_state, "potential_energy", None)
    if energy is None or not isinstance(unconstrained, dict) or not set(sites) <= {*unconstrained}:
        return  # not every kernel keeps them
    rows = [jnp.reshape(unconstrained[name], (mcmc.num_chains, -1)) for name in sites]
    positions = jnp.concatenate(rows, axis=1).astype(jnp.result_type(float))
    expected = np.asarray(jax.vmap(target.log_density)(positions))
    got = -np.reshape(np.asarray(energy), -1)
    if not np.allclose(expected, got, rtol=1e-3, atol=1e-2):
        raise ValueError(
            "mcmc should be of the same model and data as the bridge, but where its chains ended "
            f"its log density is {got} and the bridge's {expected}: run it with the arguments "
            "that the bridge was trained with"
        )


def _order(target: Target, bridge: Any) -> list[str]:
    """Latent sites as the model has them, then the deterministic ones."""
    names = [str(name) for name in bridge["posterior"].data_vars]
    latent = list(target.sites) if isinstance(target, ModelTarget) else []
    return [*(n for n in latent if n in names), *(n for n in names if n not in latent)]


def _table(bridge: Any, nuts: Any, sites: list[str]) -> Any:
    """One row for each parameter that both samplers have and that varies."""
    import pandas

    sides = [_summary(bridge), _summary(nuts)]
    labels = [label for label in sides[0] if label in sides[1]]
    labels.sort(key=lambda label: sites.index(plots.site_of(label)))
    rows = {}
    for label in labels:
        ours, theirs = (side[label] for side in sides)
        if ours["sd"] == 0 and theirs["sd"] == 0:
            continue  # the diagonal of a correlation matrix is no parameter
        rows[label] = {
            "bridge_mean": ours["mean"],
            "bridge_sd": ours["sd"],
            "nuts_mean": theirs["mean"],
            "nuts_sd": theirs["sd"],
            "difference": _ratio(ours["mean"] - theirs["mean"], theirs["sd"]),
            "z": _ratio(ours["mean"] - theirs["mean"], np.hypot(ours["mcse"], theirs["mcse"])),
            "wasserstein": _ratio(_wasserstein(ours["draws"], theirs["draws"]), theirs["sd"]),
            "bridge_r_hat": ours["r_hat"],
            "nuts_r_hat": theirs["r_hat"],
            "bridge_ess": ours["ess"],
            "nuts_ess": theirs["ess"],
        }
    return pandas.DataFrame.from_dict(rows, orient="index")


def _summary(inference_data: Any) -> dict[str, dict[str, Any]]:
    """Moments and diagnostics of each parameter, the diagnostics as ArviZ defines them."""
    import arviz

    with np.errstate(all="ignore"):  # a parameter that never moves has none of them
        diagnostics = {
            "mcse": arviz.mcse(inference_data, method="mean"),
            "ess": arviz.ess(inference_data, method="bulk"),
            "r_hat": arviz.rhat(inference_data),
        }
    by_label: dict[str, dict[str, Any]] = {
        label: {"draws": draws, "mean": float(np.mean(draws)), "sd": float(np.std(draws, ddof=1))}
        for label, draws in plots.scalar_draws(inference_data).items()
    }
    sites: dict[str, list[str]] = {}
    for label in by_label:
        sites.setdefault(plots.site_of(label), []).append(label)
    for name, dataset in diagnostics.items():
        for site, labels in sites.items():
            for label, value in zip(labels, np.ravel(dataset[site].values), strict=True):
                by_label[label][name] = float(value)
    return by_label


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else np.nan


def _wasserstein(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The area between the two distribution functions."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(ours.ravel(), theirs.ravel()))


def _bridge_costs(posterior: Posterior, draws: Draws, watch: Watch) -> dict[str, float]:
    info = {name: float(x) for name, x in posterior.info.items() if not isinstance(x, str)}
    before = info.get("num_gradient_evaluations", np.nan)
    return {
        "standardise_seconds": info.get("standardise_time", np.nan),
        "compile_seconds": info.get("compile_time", np.nan) + watch.compiling,
        "train_seconds": info.get("training_time", np.nan),
        "draw_seconds": watch.running,
        "gradients_before": before,
        "gradients_drawing": float(draws.info["num_gradient_evaluations"]) - before,
    }


def _costs(table: Any, sides: dict[str, dict[str, float]]) -> Any:
    import pandas

    parts = ("standardise_seconds", "compile_seconds", "train_seconds", "draw_seconds")
    columns = {}
    for name, known in sides.items():
        column = {row: known.get(row, np.nan) for row in COST_LABELS}
        ess = float(table[f"{name}_ess"].min())
        if "draw_seconds" in known:
            column["total_seconds"] = float(np.nansum([column[part] for part in parts]))
        column["min_ess_bulk"] = ess
        column["ess_per_second"] = _ratio(ess, column["total_seconds"])
        column["ess_per_second_drawing"] = _ratio(ess, column["draw_seconds"])
        columns[name] = column
    return pandas.DataFrame(columns)


def _doubts_about_nuts(comparison: Comparison) -> Iterator[str]:
    r_hat = comparison.table["nuts_r_hat"].max()
    if r_hat > MAX_R_HAT:
        yield f"its chains have not mixed (r-hat up to {r_hat:.3f}, above {MAX_R_HAT})."
    stats = getattr(comparison.nuts, "sample_stats", {})
    divergences = int(np.sum(stats["diverging"].values)) if "diverging" in stats else 0
    if divergences:
        yield f"{divergences} of its draws diverged, so that it may have missed some of the mass."
    for mode, share in enumerate(comparison.nuts_modes):
        if share < MIN_MODE_SHARE:
            yield (
                f"mode {mode + 1} of the {len(comparison.nuts_modes)} that standardisation found "
                f"holds {share:.1%} of its draws: it has missed a mode."
            )


def _unseen_by_the_bridge(comparison: Comparison) -> Iterator[str]:
    """Where draws of NUTS lie that the bridge hardly ever makes."""
    backward = comparison.backward
    if backward.ess < MIN_BACKWARD_ESS:
        gap = backward.eubo - comparison.draws.log_evidence
        yield (
            f"But draws of NUTS lie where the bridge rarely goes: its draws count for "
            f"{backward.ess:.1%} as these see it, and the EUBO is {gap:.1f} nats above the log "
            "evidence. Train longer or take more steps."
        )


def _agreement(table: Any) -> tuple[bool, str]:
    """Whether the means agree, given how many were compared, and that in words."""
    from scipy.stats import norm

    z = table["z"].abs()
    if z.isna().all():
        return False, "The means cannot be compared: no Monte Carlo error could be estimated."
    limit = float(norm.isf(FALSE_ALARM / (2 * len(z))))
    worst = z.idxmax()
    distance = f"{z[worst]:.1f} Monte Carlo standard errors"
    if z[worst] <= limit:
        return True, (
            f"The means agree: the largest of {len(z)} differences, at {worst}, is {distance}, and "
            f"up to {limit:.1f} are chance."
        )
    return False, (
        f"The means differ: {int((z > limit).sum())} of {len(z)} by more than {limit:.1f} Monte "
        f"Carlo standard errors, which is not chance; the worst, {worst}, by {distance}, which is "
        f"{abs(table['difference'][worst]):.2f} posterior standard deviations."
    )


COLUMNS = {
    "bridge_mean": ("mean", "bridge", "{:.3g}"),
    "nuts_mean": ("", "NUTS", "{:.3g}"),
    "bridge_sd": ("sd", "bridge", "{:.3g}"),
    "nuts_sd": ("", "NUTS", "{:.3g}"),
    "difference": ("difference", "in sds", "{:.2f}"),
    "z": ("", "in MCSEs", "{:.1f}"),
    "wasserstein": ("Wasserstein", "in sds", "{:.2f}"),
    "bridge_r_hat": ("r-hat", "bridge", "{:.2f}"),
    "nuts_r_hat": ("", "NUTS", "{:.2f}"),
    "bridge_ess": ("bulk ESS", "bridge", "{:.0f}"),
    "nuts_ess": ("", "NUTS", "{:.0f}"),
}
"""Two lines of heading, and a format, for each column of the table."""

MAX_ELEMENTS = 10
"""A site with more of them is printed as its worst."""


def _format_table(table: Any) -> str:
    rows = [["", *(top for top, _, _ in COLUMNS.values())]]
    rows.append(["", *(below for _, below, _ in COLUMNS.values())])
    for label, row in _rows_to_print(table):
        numbers = (form.format(row[name]) for name, (_, _, form) in COLUMNS.items())
        rows.append([label, *numbers])
    return _align(rows)


def _rows_to_print(table: Any) -> Iterator[tuple[str, Any]]:
    for site in dict.fromkeys(map(plots.site_of, table.index)):
        elements = table[[plots.site_of(label) == site for label in table.index]]
        if len(elements) <= MAX_ELEMENTS:
            yield from elements.iterrows()
        else:
            worst = elements["z"].abs().fillna(np.inf).idxmax()
            yield f"{worst} (worst of {len(elements)})", elements.loc[worst]


def _format_costs(costs: Any) -> str:
    rows = [["costs", "bridge", "NUTS"]]
    for name, label in COST_LABELS.items():
        rows.append([label, *(_cost(name, costs.loc[name, side]) for side in ("bridge", "nuts"))])
    return _align(rows, label_left=True)


def _cost(name: str, value: float) -> str:
    if np.isnan(value):
        return "-"
    if name.endswith("_seconds"):
        return f"{value:.2f}"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _format_evidence(draws: Draws, backward: BackwardRuns) -> str:
    evidence = "not defined: the prior is improper"
    if draws.target.has_evidence:
        evidence = f"{draws.log_evidence:.3f} ± {draws.log_evidence_error:.3f}"
    return "\n".join(
        [
            f"log evidence   {evidence}   (NUTS: none)",
            f"ELBO           {draws.elbo:.3f} ± {draws.elbo_error:.3f}",
            f"EUBO           {backward.eubo:.3f} ± {backward.eubo_error:.3f}   (from NUTS's draws)",
            f"Pareto k-hat   {draws.pareto_k:.2f}",
            f"weighted ESS   {draws.ess:.3f} of {draws.num_samples} draws; "
            f"{backward.ess:.3f} as NUTS's draws see it",
        ]
    )


def _align(rows: list[list[str]], label_left: bool = False) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for label, *cells in rows:
        first = f"{label:<{widths[0]}}" if label_left else f"{label:>{widths[0]}}"
        rest = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)
