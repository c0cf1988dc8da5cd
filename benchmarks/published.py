"""The gap of the ELBO beside published gaps, at a hundredth of the published budget.

    python -m benchmarks.published --data FOLDER

CMCD with learned noise is trained by `reverse_kl_ld` with 128 steps, on the posterior as the
package standardises it by default. A published gap is log Z, from the references of this project,
less the best published ELBO. That ELBO is of CMCD by the same loss in Sanokowski et al. (2025,
arXiv:2506.10982), who trained on 1.0e10 transitions; on Ionosphere it is of LDVI (Geffner and Domke
2023, arXiv:2208.07743), as others quote it. The published German credit has a flat prior, this one
a normal prior of scale 10.

Rows that are in `published.csv` already are kept.
"""

from functools import partial
from pathlib import Path

from benchmarks import command_line, losses, pages, rows, targets

HERE = Path(__file__).parent
RESULTS, TABLE = HERE / "published.csv", HERE / "published.md"

COLUMNS = [
    "target",
    "published gap",
    "gap",
    "error of the reference",
    "EUBO - ELBO",
    "log evidence off by",
    "ESS",
    "k-hat",
    "keys",
    "share of their transitions",
    "seconds of training",
]
GAPS = {"seeds": 0.045, "sonar": 0.45, "ionosphere": 0.29, "german_credit": 0.09, "brownian": 0.13}
"""Published gaps, in nats."""

TRANSITIONS = 1.0e10
"""How many transitions each published run was trained on: its trajectories times its steps."""

PRESET = losses.Preset(
    targets=tuple(GAPS),
    num_steps=128,
    num_trajectories=256,
    num_iterations=3_000,
    processes=("CMCD",),
    objectives=("reverse_kl_ld",),
    noise=("learned",),
    standardised=("bent",),
)


def write_table(results: list[dict], data: Path) -> None:
    """A row for each target, over the keys."""
    lines = [
        "# Against published gaps",
        "",
        (__doc__ or "").split("\n\n")[2].replace("\n", " "),
        "",
        f"`python -m benchmarks.published --data FOLDER`. {pages.measured_on(results)} Figures are "
        "means ± standard deviations over keys, and for k-hat the largest. A gap is no more "
        "certain than the reference, whose standard error stands beside it. EUBO - ELBO, from "
        "draws of NUTS, bounds the gap without a reference, as long as these draws miss nothing; "
        "on Brownian, whose log Z is exact, they do miss something, since their EUBO is below it.",
        "",
    ]
    table = []
    for target, published in GAPS.items():
        found = rows.select(results, target=target)
        if not found:
            continue
        error = targets.load(target, data).reference.log_evidence_error
        width = rows.column(found, "gap") + rows.column(found, "eubo_gap")
        case = {name: int(found[0][name]) for name in losses.Case._fields[-3:]}
        share = case["num_steps"] * case["num_trajectories"] * case["num_iterations"] / TRANSITIONS
        cells = [
            target,
            f"{published:.3f}",
            rows.over_keys(found, "gap", 4),
            f"{error:.4f}",
            f"{width.mean():.4f}",
            rows.over_keys(found, "evidence_error", 4),
            rows.over_keys(found, "ess"),
            f"{rows.column(found, 'pareto_k').max():.2f}",
            ", ".join(row["key"] for row in found),
            f"{share:.4f}",
            rows.over_keys(found, "seconds", 0),
        ]
        table.append(cells)
    pages.write(TABLE, [*lines, *pages.table(COLUMNS, table)])


def main() -> None:
    """Run what is missing, then write the table of all rows."""
    parser = command_line.parser(__doc__)
    command_line.add_targets(parser, GAPS)
    command_line.add_keys(parser, default=(0, 1, 2))
    options = parser.parse_args()
    preset = PRESET._replace(targets=tuple(options.targets), keys=tuple(options.keys))
    measure = partial(losses.run_case, data=options.data)
    write_table(rows.complete(RESULTS, preset.cases(), measure), options.data)


if __name__ == "__main__":
    main()
