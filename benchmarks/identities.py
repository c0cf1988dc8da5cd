"""What holds for every sampler and loss, as a table of z-scores in docs/reference/identities.md.

    python -m benchmarks.identities

The tests assert that these numbers are small; here they can be read.
"""

from pathlib import Path

import jax
import numpy as np

import tests.conftest  # noqa: F401  (float64, before the targets of the tests are made)
from benchmarks import command_line, pages
from tests.bridge_identity import PAIRS, features, known_target, runs_of
from tests.gradients import many_gradients
from tests.statistics import z_scores

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "identities.md"

SAME_GRADIENT = ("reverse_kl_path", "reverse_kl_ld")
ANOTHER_GRADIENT = ("log_variance", "forward_kl")
SAMPLERS = ("CMCD", "DBS")
COLUMNS = [
    "sampler",
    "target",
    "largest z of the bridge identity",
    "ELBO - log Z",
    "EUBO - log Z",
]


def identity(process: str, target: str) -> tuple[float, float, float]:
    """The largest |z| of the bridge identity, and how far ELBO and EUBO are from the evidence."""
    (forward, backward), log_evidence = runs_of(process, target), known_target(target).log_evidence
    on_forward = jax.nn.sigmoid(forward.log_weight - log_evidence)[:, None] * features(forward)
    on_backward = jax.nn.sigmoid(log_evidence - backward.log_weight)[:, None] * features(backward)
    largest = np.max(np.abs(z_scores(on_forward, on_backward)))
    bounds = (float(np.mean(runs.log_weight)) - log_evidence for runs in (forward, backward))
    return float(largest), *bounds


def page() -> list[str]:
    """Evaluate every identity and return the page."""
    lines = [
        "# Identities of the catalogue",
        "",
        "Some equations hold for every sampler and loss at any parameters. Here they are checked "
        "at random untrained ones, on small problems in float64; `python -m benchmarks.identities` "
        "regenerates this page.",
        "",
        "The *bridge identity* compares averages of bounded functions over 50,000 forward and as "
        "many backward paths, weighted so that they are equal if each chain samples what it "
        "scores. The table has the largest |z| of twelve such functions; a kernel that samples "
        "five percent wider than it scores gives more than 5. The ELBO must lie below the log "
        "evidence, the EUBO above.",
        "",
    ]
    table = []
    for process, target in PAIRS:
        z, below, above = identity(process, target)
        table.append([process, target, f"{z:.1f}", f"{below:.3f}", f"{above:+.3f}"])
    lines += pages.table(COLUMNS, table)
    lines += [
        "",
        "*One gradient, several estimators*: each parameter's mean gradient over 400 batches of 64 "
        "trajectories is compared with that of `reverse_kl`. The table has the median and the "
        "largest |z| over all parameters; chance gives 0.67 and about 3.5. The last two columns "
        "are losses with another gradient, where both are larger.",
        "",
    ]
    table = []
    for process in SAMPLERS:
        along_path = many_gradients("reverse_kl", process)
        cells = []
        for objective in SAME_GRADIENT + ANOTHER_GRADIENT:
            z = np.abs(z_scores(many_gradients(objective, process), along_path))
            cells.append(f"{np.median(z):.2f}, {np.max(z):.1f}")
        table.append([process, *cells])
    return [*lines, *pages.table(["sampler", *SAME_GRADIENT, *ANOTHER_GRADIENT], table)]


def main() -> None:
    """Write the page and print it."""
    command_line.parser(__doc__, data=False).parse_args()
    pages.write(PAGE, page())


if __name__ == "__main__":
    main()
