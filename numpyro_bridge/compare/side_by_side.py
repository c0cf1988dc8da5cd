"""A trained bridge side by side with NUTS: parameters, costs, and whether the two agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro.infer

from numpyro_bridge._core.checks import (
    check_count,
    check_flag,
    check_function,
    check_instance,
    check_key,
)
from numpyro_bridge._core.doors import check_here
from numpyro_bridge._core.stopwatch import stopwatch
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.compare.agreement import agreement, doubts_about_nuts, unseen_by_the_bridge
from numpyro_bridge.compare.costs import Costs, bridge_costs
from numpyro_bridge.compare.nuts import Nuts, NutsRun, numpyro_nuts, run_of
from numpyro_bridge.compare.nuts_side import check_same_posterior, nuts_to_arviz, some_draws
from numpyro_bridge.compare.tables import site_order, table_of_costs, table_of_parameters
from numpyro_bridge.compare.text import format_costs, format_evidence, format_table
from numpyro_bridge.draws.backward_runs import BackwardRuns
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.inference_data import to_inference_data
from numpyro_bridge.draws.labels import check_labels
from numpyro_bridge.draws.plots import (
    plot_forest,
    plot_marginals,
    plot_pairs,
    plot_training,
    plot_weights,
)
from numpyro_bridge.draws.verdict import Verdict
from numpyro_bridge.infer.posterior import Posterior


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """The result of `compare_with_nuts`; print it, or read its parts.

    >>> list(comparison.table.index)
    ['w[0]', 'w[1]', 'slope']
    >>> comparison.verdict.trustworthy
    True

    Attributes:
        bridge: corrected draws of the bridge, as an ArviZ object.
        nuts: draws of NUTS, as an ArviZ object.
        table: a pandas data frame with a row for every parameter that varies, deterministic ones
            included. Its columns are `bridge_mean`, `bridge_sd`, `nuts_mean` and `nuts_sd`;
            `difference`, the difference of the means in posterior standard deviations, as NUTS
            estimates them; `z`, the same difference in Monte Carlo standard errors of both samplers
            together; `wasserstein`, the distance between the two marginals in posterior standard
            deviations (about 0.05 for two exact samplers with 1,000 effective draws each);
            `bridge_r_hat` and `nuts_r_hat`; and the bulk ESS `bridge_ess` and `nuts_ess`.
        bridge_costs: seconds and gradients of the bridge. What JAX reports as tracing, lowering and
            compiling counts as compiling, so that the other seconds are those of a second run.
        nuts_costs: seconds and gradients of NUTS.
        draws: draws and weights of the bridge, with the evidence.
        backward: the bridge run backward from draws of NUTS. It gives an upper bound on the
            evidence, and shows parts of the posterior that the bridge never visits.
        nuts_charts: the share of NUTS's draws on each chart of the bridge.
        posterior: the trained bridge.
    """

    bridge: Any
    nuts: Any
    table: Any
    bridge_costs: Costs
    nuts_costs: Costs
    draws: Draws
    backward: BackwardRuns
    nuts_charts: np.ndarray
    posterior: Posterior[Any]

    @property
    def costs(self) -> Any:
        """The costs as a pandas data frame with columns `bridge` and `nuts`.

        `standardise_seconds`, `compile_seconds`, `train_seconds`, `draw_seconds` and their sum
        `total_seconds`; `gradients_before` and `gradients_drawing`; `min_ess_bulk`,
        `ess_per_second` and `ess_per_second_drawing`. NaN stands for what is not known or did not
        happen.
        """
        return table_of_costs(self.bridge_costs, self.nuts_costs)

    @property
    def verdict(self) -> Verdict:
        """Whether both samplers can be trusted and agree, and why, in words."""
        masses = self.draws.chart_masses.mass
        doubts = list(doubts_about_nuts(self.table, self.nuts, self.nuts_charts, masses))
        agree, comparison = agreement(self.table)
        own = self.draws.verdict
        unseen = list(unseen_by_the_bridge(self.draws, self.backward))
        text = " ".join([f"Bridge: {own.text}", *unseen])
        text += f" NUTS: {' '.join(doubts) or 'no doubts.'}"
        trustworthy = own.trustworthy and agree and not doubts and not unseen
        return Verdict(trustworthy, f"{text}\n{comparison}")

    def __repr__(self) -> str:
        """Say how much was compared."""
        return f"Comparison(bridge, NUTS: {len(self.table)} parameters)"

    def __str__(self) -> str:
        """Both tables, the evidence and the verdict."""
        evidence = format_evidence(self.draws, self.backward)
        costs = format_costs(self.bridge_costs, self.nuts_costs)
        parts = [format_table(self.table), costs, evidence]
        return "\n\n".join([*parts, self.verdict.text])

    def print(self) -> None:
        """Print both tables, the evidence and the verdict.

        Of a site with more than ten elements only the worst is shown, which has the largest `|z|`;
        `table` has all of them.
        """
        print(f"\n{self}\n")

    def plot(self, folder: str | PathLike[str] | None = None) -> dict[str, Any]:
        """Draw the marginals, a forest, pairs of parameters, the training and the weights.

        Args:
            folder: the folder to write the figures to, as `marginals.png` and so on; it is made if
                needed, and nothing is written if none is given.

        Returns:
            Matplotlib figures by name: `marginals`, `forest`, `pairs`, `training` (if there is a
            record of the training) and `weights`.

        Raises:
            ImportError: if Matplotlib is not installed.
        """
        if folder is not None and not isinstance(folder, str | PathLike):
            raise ValueError(f"folder should be a path, such as 'figures', got {folder!r}")
        samples = {"bridge": self.bridge, "NUTS": self.nuts}
        labels = list(self.table.index)
        draws, metrics = self.draws, self.posterior.metrics
        figures = {
            "marginals": plot_marginals(samples, labels),
            "forest": plot_forest(samples, labels),
            "pairs": plot_pairs(samples, labels),
        }
        if metrics is not None:
            figures["training"] = plot_training(
                metrics, draws.log_evidence, draws.log_evidence_error
            )
        figures["weights"] = plot_weights(draws)
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            for name, figure in figures.items():
                figure.savefig(Path(folder) / f"{name}.png", dpi=150)
        return figures


def compare_with_nuts(
    posterior: Posterior[Any],
    rng_key: RNGKey,
    *,
    num_samples: int = 4_000,
    num_chains: int = 4,
    num_warmup: int = 1_000,
    nuts_samples: int = 1_000,
    nuts: Nuts = numpyro_nuts,
    mcmc: numpyro.infer.MCMC | None = None,
    log_likelihood: bool = False,
    coords: Mapping[str, Sequence[Any]] | None = None,
    progress_bar: bool = True,
) -> Comparison:
    """Draw from a trained bridge and from NUTS, and compare parameters and costs.

    >>> comparison = nb.compare_with_nuts(posterior, key, num_samples=1_000, num_chains=2)

    Both samplers get the same model and data. The bridge's draws are corrected as
    `to_inference_data` does by default, so that ESS, r-hat and Monte Carlo errors mean the same for
    both. NUTS runs its chains in one batch, with the defaults of NumPyro or of BlackJAX.

    Args:
        posterior: what `BridgeSampler.run` returned.
        rng_key: a JAX key.
        num_samples: number of draws of the bridge, over all chains.
        num_chains: number of chains of each sampler; r-hat needs at least two.
        num_warmup: warm-up steps of each chain of NUTS.
        nuts_samples: draws of each chain of NUTS.
        nuts: runs NUTS: `nb.compare.numpyro_nuts`, `nb.compare.blackjax_nuts`, or one like these.
        mcmc: a finished `numpyro.infer.MCMC`, in place of a run here; its seconds are not known.
        log_likelihood: whether to compute the pointwise log likelihood of both, for `arviz.loo`.
        coords: dimension name to labels, for both.
        progress_bar: whether NUTS shows progress.

    Returns:
        The comparison: `print` it, `plot` it, or read `table`, `costs`, `bridge` and `nuts`.

    Raises:
        ImportError: if ArviZ is not installed.
        ValueError: if a number is not positive, or `mcmc` is not a finished run of this posterior.

    Warns:
        ReliabilityWarning: if the bridge's draws are not to be trusted.
    """
    check_here("compare_with_nuts", rng_key)
    _check_parts(posterior, rng_key, nuts, mcmc, coords)
    num_samples = check_count("num_samples", num_samples, 1)
    chains = _checked_chains(num_samples, num_chains, num_warmup, nuts_samples)
    progress_bar = check_flag("progress_bar", progress_bar)
    log_likelihood = check_flag("log_likelihood", log_likelihood)
    keys = jax.random.split(rng_key, 4)
    shown = dict(log_likelihood=log_likelihood, log_prior=False, prior=False, predictive=False)
    settings = {"num_chains": chains["num_chains"], "coords": coords, **shown}
    draws, bridge, watch = _drawn(keys, posterior, num_samples, settings)
    if mcmc is None:
        run = nuts(keys[2], posterior.target.base, progress_bar=progress_bar, **chains)
    else:
        run = run_of(mcmc)
    return _compared(keys[3], posterior, draws, bridge, run, watch, coords)


def _drawn(keys, posterior: Posterior[Any], num_samples: int, settings: dict[str, Any]):
    """Draws of the bridge, the same for ArviZ, and the seconds that drawing took."""
    with stopwatch() as watch:
        draws = posterior.sample(keys[0], num_samples)
    return draws, to_inference_data(draws, rng_key=keys[1], **settings), watch


def _compared(
    rng_key, posterior: Posterior[Any], draws, bridge, run: NutsRun, watch, coords
) -> Comparison:
    """Compare the draws of both samplers."""
    target = posterior.target.base
    reference = nuts_to_arviz(run, target, bridge, coords)
    nuts_draws = some_draws(run, target)
    table = table_of_parameters(bridge, reference, site_order(target, bridge))
    ours, theirs = bridge_costs(posterior, draws, watch), run.costs
    return Comparison(
        bridge,
        reference,
        table,
        replace(ours, min_ess_bulk=float(table["bridge_ess"].min())),
        replace(theirs, min_ess_bulk=float(table["nuts_ess"].min())),
        draws,
        posterior.run_backward(rng_key, nuts_draws),
        posterior.chart_shares(nuts_draws),
        posterior,
    )


def _checked_chains(
    num_samples: int, num_chains: Any, num_warmup: Any, nuts_samples: Any
) -> dict[str, int]:
    """The sizes of the chains of NUTS, by the names of its arguments."""
    return {
        "num_chains": check_count("num_chains", num_chains, 1, num_samples),
        "num_warmup": check_count("num_warmup", num_warmup, 1),
        "num_samples": check_count("nuts_samples", nuts_samples, 1),
    }


def _check_parts(posterior: Any, rng_key: Any, nuts: Any, mcmc: Any, coords: Any) -> None:
    if not isinstance(posterior, Posterior):
        raise ValueError(
            "posterior: write compare_with_nuts(posterior, rng_key), with what BridgeSampler.run "
            f"returned; got {type(posterior).__name__} in its place"
        )
    check_key(rng_key)
    check_function("nuts", nuts, "nb.compare.numpyro_nuts")
    check_labels("coords", coords)
    if mcmc is not None:
        check_instance("mcmc", mcmc, numpyro.infer.MCMC, "a numpyro.infer.MCMC that has run")
        check_same_posterior(mcmc, posterior.target.base)
