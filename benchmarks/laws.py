"""The laws of the catalogue as a table of z-scores, written to docs/reference/laws.md.

    python -m benchmarks.laws

The tests assert the same numbers; here they can be read.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

import tests.conftest  # noqa: F401  (float64, before the targets of the tests are made)
from tests.bridge_identity import PAIRS, features, known_target, runs_of
from tests.gradients import many_gradients
from tests.statistics import z_scores

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "laws.md"

SAME_GRADIENT = ("reverse_kl_path", "reverse_kl_ld")
ANOTHER_GRADIENT = ("log_variance", "forward_kl")
SAMPLERS = ("CMCD", "DBS")


def identity(process: str, target: str) -> tuple[float, float, float]:
    """Largest |z| of the bridge identity, and how far the two bounds are from the evidence."""
    (forward, backward), log_evidence = runs_of(process, target), known_target(target).log_evidence
    on_forward = jax.nn.sigmoid(forward.log_weight - log_evidence)[:, None] * features(forward)
    on_backward = jax.nn.sigmoid(log_evidence - backward.log_weight)[:, None] * features(backward)
    largest = np.max(np.abs(z_scores(on_forward, on_backward)))
    bounds = (float(np.mean(runs.log_weight)) - log_evidence for runs in (forward, backward))
    return float(largest), *bounds


def write_page() -> str:
    """Evaluate every law and write the page."""
    lines = [
        "# Laws of the catalogue",
        "",
        "Every sampler at random untrained parameters, small and in float64; `python -m "
        "benchmarks.laws` regenerates this page.",
        "",
        "The *bridge identity* compares bounded functions of 50,000 paths, weighted on both sides "
        "so that their means are equal if both chains are what they are scored as; the largest "
        "|z| of twelve is shown. A kernel that samples five percent wider than it scores gives "
        "more than 5. The ELBO must lie below the log evidence, the EUBO above.",
        "",
        "| sampler | target | largest z of the bridge identity | ELBO - log Z | EUBO - log Z |",
        "|---|---|---|---|---|",
    ]
    for process, target in PAIRS:
        z, below, above = identity(process, target)
        lines.append(f"| {process} | {target} | {z:.1f} | {below:.3f} | {above:+.3f} |")
    lines += [
        "",
        "*One gradient, several estimators*: 400 batches of 64 trajectories, each parameter's mean "
        "gradient against that of `reverse_kl`. Shown are the median and the largest |z| over all "
        "parameters; 0.67 and about 3.5 are what chance gives. The last two columns are losses "
        "with another gradient, where both are larger.",
        "",
        "| sampler | " + " | ".join(SAME_GRADIENT + ANOTHER_GRADIENT) + " |",
        "|" + "---|" * (1 + len(SAME_GRADIENT + ANOTHER_GRADIENT)),
    ]
    for process in SAMPLERS:
        along_path = many_gradients("reverse_kl", process)
        cells = []
        for objective in SAME_GRADIENT + ANOTHER_GRADIENT:
            z = np.abs(z_scores(many_gradients(objective, process), along_path))
            cells.append(f"{np.median(z):.2f}, {np.max(z):.1f}")
        lines.append(f"| {process} | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    PAGE.write_text(text)
    return text


def main() -> None:
    """Write the page and print it."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    print(write_page())


if __name__ == "__main__":
    main()
