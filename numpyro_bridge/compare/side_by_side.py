"""A trained bridge side by side with NUTS: parameters, costs, and whether the two agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpyro.infer import MCMC

from numpyro_bridge._core.stopwatch import stopwatch
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.compare.agreement import agreement, doubts_about_nuts, unseen_by_the_bridge
from numpyro_bridge.compare.costs import Costs, bridge_costs
from numpyro_bridge.compare.nuts import Nuts, numpyro_nuts, run_of
from numpyro_bridge.compare.nuts_side import check_same_posterior, nuts_to_arviz, some_draws
from numpyro_bridge.compare.tables import site_order, table_of_costs, table_of_parameters
from numpyro_bridge.compare.text import format_costs, format_evidence, format_table
from numpyro_bridge.draws.backward_runs import BackwardRuns
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.inference_data import to_inference_data
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
        bridge_costs: seconds and gradients of the bridge. Compiling is what JAX reports as
            tracing, lowering and compiling, so that the other seconds are those that a second run
            would take.
        nuts_costs: seconds and gradients of NUTS.
        draws: the bridge's draws and weights, with the evidence.
        backward: the bridge run backward from draws of NUTS: an upper bound on the evidence, and
            what the bridge's own weights cannot see.
        nuts_modes: the share of NUTS's draws at each mode that standardisation saw; empty if one.
        posterior: the trained bridge.
    """

    bridge: Any
    nuts: Any
    table: Any
    bridge_costs: Costs
    nuts_costs: Costs
    draws: Draws
    backward: BackwardRuns
    nuts_modes: np.ndarray
    posterior: Posterior

    @property
    def costs(self) -> Any:
        """The costs as a pandas data frame with columns `bridge` and `nuts`.

        `standardise_seconds`, `compile_seconds`, `train_seconds`, `draw_seconds` and their sum
        `total_seconds`; `gradients_before` and `gradients_drawing`; `min_ess_bulk`,
        `ess_per_second` and `ess_per_second_drawing`. NaN where one does not arise or is not known.
        """
        return table_of_costs(self.bridge_costs, self.nuts_costs)

    @property
    def verdict(self) -> Verdict:
        """Whether both samplers are to be trusted and agree, and why, in words."""
        doubts = list(doubts_about_nuts(self.table, self.nuts, self.nuts_modes))
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

        A site of more than ten elements is shown by its worst, the one of largest `|z|`; `table`
        has all of them.
        """
        print(f"\n{self}\n")

    def plot(self, folder: str | PathLike | None = None) -> dict[str, Any]:
        """Draw the marginals, a forest, pairs of parameters, the training and the weights.

        Args:
            folder: where to write the figures to, as `marginals.png` and so on; made if needed.

        Returns:
            Matplotlib figures: `marginals`, `forest`, `pairs`, `training` and `weights`; without
            `training` where there is no record of it.

        Raises:
            ImportError: if Matplotlib is not installed.
        """
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
        figures["weights"] = plot_weights(draws.log_weight, draws.pareto_k, draws.ess)
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
        nuts: whose NUTS, `nb.compare.numpyro_nuts` or `nb.compare.blackjax_nuts`; or any function
            with their arguments.
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
    if not isinstance(posterior, Posterior):
        raise ValueError(
            "write compare_with_nuts(posterior, rng_key), with what BridgeSampler.run "
            f"returned; got {type(posterior).__name__} in its place"
        )
    _check_numbers(
        num_samples=num_samples,
        num_chains=num_chains,
        num_warmup=num_warmup,
        nuts_samples=nuts_samples,
    )
    target = posterior.target.base
    draw_key, correct_key, nuts_key, backward_key = jax.random.split(rng_key, 4)
    if mcmc is not None:
        check_same_posterior(mcmc, target)
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
    settings = {"num_chains": num_chains, "num_warmup": num_warmup, "num_samples": nuts_samples}
    if mcmc is None:
        run = nuts(nuts_key, target, progress_bar=progress_bar, **settings)
    else:
        run = run_of(mcmc)
    reference = nuts_to_arviz(run, target, bridge, coords)
    nuts_draws = some_draws(run, target)
    backward = posterior.run_backward(backward_key, nuts_draws)
    nuts_modes = posterior.mode_shares(nuts_draws)
    table = table_of_parameters(bridge, reference, site_order(target, bridge))
    ours, theirs = bridge_costs(posterior, draws, watch), run.costs
    return Comparison(
        bridge,
        reference,
        table,
        replace(ours, min_ess_bulk=float(table["bridge_ess"].min())),
        replace(theirs, min_ess_bulk=float(table["nuts_ess"].min())),
        draws,
        backward,
        nuts_modes,
        posterior,
    )


def _check_numbers(**numbers: int) -> None:
    wrong = {name: number for name, number in numbers.items() if number < 1}
    if wrong:
        raise ValueError(f"these should be at least 1: {wrong}")
