"""How the code is laid out: files, functions, imports, and what asks for strings and types.

    python -m benchmarks.structure
    python -m benchmarks.structure --against EARLIER_CHECKOUT

Measured is a checkout of this project, its `numpyro_bridge/` and `tests/`, by reading alone:
nothing is imported, so this script can measure an earlier state too. What counts as what:

- *Lines* are those of the file, blank lines and comments included. A function has the lines from
  its `def` to its end, docstring included and decorators not; one inside another counts for both.
- *Import floors* are the modules on the longest chain in which each imports the next, wherever in
  the file the import is written. An `__init__` file leads from an importer to what it re-exports
  and is no floor itself. An import that closes a circle is left out, and counted.
- *String comparisons* are `==`, `!=`, `in`, `not in` and `case` against a literal string, or
  against a literal collection that holds one. Two kinds are left out, since they are how other
  formats are read: the type of a NumPyro message, recognised as anything indexed by `"type"`, as in
  `site["type"] == "sample"`, and the tag in the header of our own files, recognised as the entry
  `"kind"`, as in `header.get("kind") == "posterior"`.
- *Samplers alone* are the files of `processes/` without their interface and the parts that they
  are made of: `base`, kernels, integrators, initial distributions, annealing, controls, diffusion.
  In an earlier layout these parts were spread over other files, and `processes/` had the denoising
  process, which is now with the diffusion models and is left out too.
"""

import ast
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks import command_line, pages
from benchmarks.source import (
    PACKAGE,
    Imports,
    Module,
    exports,
    follow,
    functions,
    import_graph,
    isinstance_calls,
    read_modules,
    root_entries,
    string_comparisons,
)

ROOT = Path(__file__).parents[1]

MAX_ROOT_ENTRIES = 10
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60
MAX_STRING_COMPARISONS = 0.8
MAX_ISINSTANCE = 4.5
MAX_ROOT_EXPORTS = 60
MIN_TEST_SHARE = 0.6

PARTS = ("kernels", "integrators", "initial", "annealing", "controls", "diffusion", "base")
"""How the names of those files in `processes/` begin that are no samplers."""


@dataclass(frozen=True)
class Structure:
    """The numbers of one checkout."""

    entries: list[str]
    modules: dict[str, Module]
    tests: dict[str, Module]
    imports: Imports

    @property
    def num_lines(self) -> int:
        """Lines of the package."""
        return sum(module.num_lines for module in self.modules.values())

    def per_thousand_lines(self, count: Callable[[ast.Module], int]) -> float:
        """How often something is written in the package."""
        total = sum(count(module.tree) for module in self.modules.values())
        return 1000 * total / self.num_lines

    def process_lines(self, samplers_alone: bool) -> int:
        """Lines of the files in `processes/`."""
        files = [m for m in self.modules.values() if m.path.parts[0] == "processes"]
        left_out = (*PARTS, "__init__", "denoising") if samplers_alone else ()
        return sum(m.num_lines for m in files if not m.path.stem.startswith(left_out))

    @property
    def test_share(self) -> float:
        """Lines of the tests for each line of the package."""
        return sum(module.num_lines for module in self.tests.values()) / self.num_lines


def measure(root: Path) -> Structure:
    """Read a checkout.

    Raises:
        FileNotFoundError: if the folder is no checkout of this project.
    """
    package = root / PACKAGE
    if not (package / "__init__.py").exists():
        raise FileNotFoundError(
            f"{root} is no checkout of this project, since it has no {PACKAGE}/__init__.py; give "
            "the folder that holds the package"
        )
    modules = read_modules(package)
    imports = follow(modules, import_graph(modules))
    return Structure(root_entries(package), modules, read_modules(root / "tests"), imports)


class Row(NamedTuple):
    """A line of the table."""

    measure: str
    value: str
    limit: str = ""


def rows(structure: Structure) -> list[Row]:
    """Every measure, as text, beside what it is held to."""
    file_lines = [module.num_lines for module in structure.modules.values()]
    function_lines = [function.num_lines for function in functions(structure.modules)]
    strings = structure.per_thousand_lines(string_comparisons)
    types = structure.per_thousand_lines(isinstance_calls)
    return [
        Row("entries at the package root", f"{len(structure.entries)}", f"≤ {MAX_ROOT_ENTRIES}"),
        Row("import floors (longest chain)", f"{len(structure.imports.longest_chain)}"),
        Row("imports that close a circle", f"{len(structure.imports.circles)}", "0"),
        Row("modules", f"{len(file_lines)}"),
        Row("lines of the package", f"{structure.num_lines:,}"),
        Row("lines of a file, median", f"{statistics.median(file_lines):.0f}"),
        Row("lines of a file, most", f"{max(file_lines)}", f"≤ {MAX_FILE_LINES}"),
        Row("lines of a function, median", f"{statistics.median(function_lines):.0f}"),
        Row("lines of a function, most", f"{max(function_lines)}", f"≤ {MAX_FUNCTION_LINES}"),
        Row("string comparisons per 1,000 lines", f"{strings:.2f}", f"≤ {MAX_STRING_COMPARISONS}"),
        Row("`isinstance` per 1,000 lines", f"{types:.2f}", f"≤ {MAX_ISINSTANCE}"),
        Row("lines of `processes/`", f"{structure.process_lines(samplers_alone=False):,}"),
        Row("lines of the samplers alone", f"{structure.process_lines(samplers_alone=True):,}"),
        Row(
            "test lines per line of the package",
            f"{structure.test_share:.2f}",
            f"≥ {MIN_TEST_SHARE}",
        ),
        Row("public names", f"{len(exports(structure.modules['']))}", f"≤ {MAX_ROOT_EXPORTS}"),
    ]


def table(root: Path, against: Path | None) -> str:
    """The Markdown table of one checkout, or of two side by side, and the longest chains."""
    titled = {"now": measure(root)}
    if against is not None:
        titled = {"before": measure(against), "after": titled["now"]}
    measured = zip(*map(rows, titled.values()), strict=True)
    lines = pages.table(
        ["", *titled, "held to"],
        [[same[0].measure, *(row.value for row in same), same[0].limit] for same in measured],
    )
    for title, structure in titled.items():
        chain = " -> ".join(structure.imports.longest_chain)
        lines += ["", f"Longest chain of imports, {title}: {chain}."]
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = command_line.parser(__doc__, data=False)
    parser.add_argument(
        "--root", type=Path, default=ROOT, help="checkout to measure, by default this one"
    )
    parser.add_argument("--against", type=Path, help="an earlier checkout, shown as before")
    options = parser.parse_args()
    print(table(options.root, options.against))


if __name__ == "__main__":
    main()
