"""Where the rankings that the paper reports hold, counted over targets."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from benchmarks import pages
from benchmarks import rows as r

SCALES = {"yes": "standardised", "bent": "standardised by a bent map", "no": "as it is"}

KL, LD, LV = ({"objective": name} for name in ("reverse_kl", "reverse_kl_ld", "log_variance"))
LEARNED, FIXED = {"noise": "learned"}, {"noise": "fixed"}
YES, NO = {"standardised": "yes"}, {"standardised": "no"}
CLAIMS = (
    # What the paper says, which choice should have the smaller gap, and which the larger one.
    ("`reverse_kl_ld` is better than `log_variance`, noise learned", LD | LEARNED, LV | LEARNED),
    ("`reverse_kl_ld` is better than `log_variance`, noise fixed", LD | FIXED, LV | FIXED),
    ("`reverse_kl_ld` is better than `reverse_kl`, noise learned", LD | LEARNED, KL | LEARNED),
    ("learned noise is better than fixed noise, by `reverse_kl_ld`", LD | LEARNED, LD | FIXED),
    ("learned noise is better than fixed noise, by `log_variance`", LV | LEARNED, LV | FIXED),
    (
        "standardisation helps, by `reverse_kl_ld`, noise learned",
        LD | LEARNED | YES,
        LD | LEARNED | NO,
    ),
)
PROBLEM = ("target", "standardised", "num_steps", "num_trajectories", "num_iterations")


def rankings(rows: list[dict]) -> list[str]:
    """A table of counts by claim and sampler, then the targets for which a claim is reversed."""
    samplers = list(dict.fromkeys(row["process"] for row in rows))
    lines = [
        "Each cell counts targets for which the claim holds / is undecided / is reversed. The two "
        "runs that are compared differ in nothing else. They decide where their means over keys "
        "are apart by more than twice the standard error of their difference and by 0.01 nats; one "
        "key decides nothing. A bridge that has diverged loses.",
        "",
    ]
    table = []
    reversals = ["", "Reversed for:", ""]
    for claim, better, worse in CLAIMS:
        for scale, pairs in _by_scale(rows, better, worse).items():
            cells = [_count(pair for pair in pairs if pair.process == name) for name in samplers]
            table.append([claim, scale, *cells, _count(pairs)])
            lost = [pair for pair in pairs if pair.verdict == "reversed"]
            named = {p: [pair.target for pair in lost if pair.process == p] for p in samplers}
            if lost:
                texts = [f"{name}: {', '.join(found)}" for name, found in named.items() if found]
                reversals.append(f"- {claim}, {scale}: {'; '.join(texts)}.")
    lines += pages.table(["claim", "targets", *samplers, "all"], table)
    return lines + reversals


class Pair(NamedTuple):
    """Whether one choice is better than another, on one target and with one sampler."""

    process: str
    target: str
    verdict: str


def _by_scale(rows: list[dict], better: dict, worse: dict) -> dict[str, list[Pair]]:
    """All pairs of a claim, by how the target was standardised."""
    pairs: dict[str, list[Pair]] = {}
    for group in _groups(rows, set(better)):
        one, other = r.select(rows, **group, **better), r.select(rows, **group, **worse)
        if one and other:
            scale = SCALES[group["standardised"]] if "standardised" in group else "both"
            pair = Pair(group["process"], group["target"], _verdict(one, other))
            pairs.setdefault(scale, []).append(pair)
    return pairs


def _count(pairs: Iterable[Pair]) -> str:
    verdicts = [pair.verdict for pair in pairs]
    return " / ".join(str(verdicts.count(name)) for name in ("holds", "undecided", "reversed"))


def _verdict(one: list[dict], other: list[dict]) -> str:
    first, second = (np.nan_to_num(r.column(x, "gap"), nan=np.inf) for x in (one, other))
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        bad_first, bad_second = (np.mean(~np.isfinite(x)) for x in (first, second))
        if bad_first == bad_second:
            return "undecided"
        return "holds" if bad_first < bad_second else "reversed"
    if min(len(one), len(other)) < 2:
        return "undecided"
    difference = np.mean(second) - np.mean(first)
    margin = max(0.01, 2 * float(np.hypot(_error(one), _error(other))))
    if abs(difference) <= margin:
        return "undecided"
    return "holds" if difference > 0 else "reversed"


def _error(found: list[dict]) -> float:
    """Standard error of the mean gap, by its spread over keys; not below the error of the draws."""
    gaps, errors = r.column(found, "gap"), r.column(found, "gap_error")
    spread = float(np.std(gaps, ddof=1))
    return max(spread, float(np.sqrt(np.mean(errors**2)))) / len(gaps) ** 0.5


def _groups(rows: list[dict], free: set[str]) -> list[dict]:
    fields = [name for name in (*PROBLEM, "process", "noise", "objective") if name not in free]
    distinct = dict.fromkeys(tuple(row[name] for name in fields) for row in rows)
    return [dict(zip(fields, values, strict=True)) for values in distinct]
