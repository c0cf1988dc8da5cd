"""Files of Python, read without importing them: functions, imports, exports and comparisons."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

PACKAGE = "numpyro_bridge"


@dataclass(frozen=True)
class Module:
    """A file of Python, read."""

    path: Path
    """Below the folder that was read, such as `processes/cmcd.py`."""
    tree: ast.Module
    num_lines: int

    @property
    def name(self) -> str:
        """`processes.cmcd`; an `__init__` file has the name of its folder, the outermost none."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if self.is_folder else parts)

    @property
    def is_folder(self) -> bool:
        """Is this the `__init__` of a folder?"""
        return self.path.stem == "__init__"


def read_modules(folder: Path) -> dict[str, Module]:
    """Every file of Python below a folder, by its dotted name."""
    modules = {}
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        module = Module(path.relative_to(folder), ast.parse(text), len(text.splitlines()))
        modules[module.name] = module
    return modules


def root_entries(folder: Path) -> list[str]:
    """Files and folders directly in the package, without private ones and `py.typed`."""
    entries = (entry.name for entry in folder.iterdir())
    return sorted(
        name for name in entries if not name.startswith(("_", ".")) and name != "py.typed"
    )


# --- functions ------------------------------------------------------------------------------------


class Function(NamedTuple):
    """A function or method, and where it is."""

    module: str
    name: str
    num_lines: int


def functions(modules: dict[str, Module]) -> list[Function]:
    """Every function and method, those inside others too."""
    return [
        Function(module.name, node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


# --- imports --------------------------------------------------------------------------------------


def imports_of(module: Module, names: set[str]) -> set[str]:
    """Modules of the same package that one imports, inside functions as well as at the top.

    `from numpyro_bridge.atlas import affine` imports the module, and `... import DenseMap` the
    folder.
    """
    inside = [PACKAGE, *module.path.parent.parts]
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            deeper = {f"{source}.{alias.name}" for alias in node.names}
            is_module = {name for name in deeper if name.removeprefix(f"{PACKAGE}.") in names}
            found |= is_module | ({source} if deeper - is_module else set())
    ours = (name for name in found if name.split(".")[0] == PACKAGE)
    return {name.removeprefix(PACKAGE).removeprefix(".") for name in ours} - {module.name}


class Imports(NamedTuple):
    """What imports what."""

    longest_chain: list[str]
    circles: list[tuple[str, str]]
    """Imports that close a circle, as importer and imported."""


def import_graph(modules: dict[str, Module]) -> dict[str, set[str]]:
    """From every module to those it imports; the root and `__main__` are above all and left out."""
    inner = {name: m for name, m in modules.items() if name and m.path.stem != "__main__"}
    return {name: imports_of(m, {*modules}) & {*inner} for name, m in inner.items()}


def follow(modules: dict[str, Module], graph: dict[str, set[str]]) -> Imports:
    """The longest chain of imports, and the circles."""
    longest: dict[str, list[str]] = {}
    open_modules: set[str] = set()
    circles = []

    def chain_from(name: str) -> list[str]:
        if name in longest:
            return longest[name]
        open_modules.add(name)
        below: list[str] = []
        for imported in sorted(graph[name]):
            if imported in open_modules:
                circles.append((name, imported))
            else:
                below = max(below, chain_from(imported), key=len)
        open_modules.remove(name)
        longest[name] = below if modules[name].is_folder else [name, *below]
        return longest[name]

    chains = [chain_from(name) for name in sorted(graph)]
    return Imports(max(chains, key=len), circles)


# --- strings and types ----------------------------------------------------------------------------


def string_comparisons(tree: ast.Module) -> int:
    """Comparisons with literal strings, without those of foreign and of file tags."""
    num = sum(
        isinstance(node, ast.MatchValue) and _holds_string(node.value) for node in ast.walk(tree)
    )
    return num + sum(_compares_strings(*each) for each in _comparisons(tree))


def isinstance_calls(tree: ast.Module) -> int:
    """How often a type is asked for."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return sum(isinstance(func, ast.Name) and func.id == "isinstance" for func in calls)


def _comparisons(tree: ast.Module) -> Iterator[tuple[ast.expr, ast.cmpop, ast.expr]]:
    """Both sides of every comparison; `a < b < c` has two."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from zip([node.left, *node.comparators], node.ops, node.comparators, strict=False)


def _compares_strings(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> bool:
    if not isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn):
        return False
    return any(map(_holds_string, (left, right))) and not any(map(_is_tag, (left, right)))


def _holds_string(node: ast.expr | None) -> bool:
    """Is this a literal string, or a literal collection with one in it?"""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(map(_holds_string, node.elts))
    if isinstance(node, ast.Dict):
        return any(map(_holds_string, node.keys))
    return isinstance(node, ast.JoinedStr) or _is_string(node)


def _is_string(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_tag(node: ast.expr) -> bool:
    """Is this `site["type"]` of NumPyro, or `header["kind"]` or `header.get("kind")` of a file?"""
    if isinstance(node, ast.Subscript):
        return _is_one_of(node.slice, "type", "kind")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr == "get" and any(_is_one_of(x, "type", "kind") for x in node.args[:1])
    return False


def _is_one_of(node: ast.expr, *values: str) -> bool:
    return isinstance(node, ast.Constant) and node.value in values


# --- exports --------------------------------------------------------------------------------------


def exports(module: Module) -> list[str]:
    """What the `__all__` of a module lists."""
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []
