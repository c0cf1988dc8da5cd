"""The package as a whole: its version, its layout, its imports and its documentation."""

import ast
import importlib.metadata
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import numpyro_bridge as nb
from benchmarks import structure
from benchmarks.source import (
    Module,
    follow,
    functions,
    import_graph,
    imports_of,
    read_modules,
    root_entries,
)
from tests.namespaces import NAMESPACES

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "numpyro_bridge"
MODULES = read_modules(PACKAGE)
GRAPH = import_graph(MODULES)

ORDER = (
    "_core",
    "target",
    "atlas",
    "processes",
    "trajectories",
    "objectives",
    "diffusion",
    "training",
    "draws",
    "infer",
    "compare",
)
"""The folders, each of which imports from itself and from those before it."""

# --- installed and imported -----------------------------------------------------------------------


def test_version_is_that_of_the_project_and_of_the_installed_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert nb.__version__ == project["version"]
    assert importlib.metadata.version("numpyro-bridge") == project["version"]


def test_importing_the_package_leaves_slow_and_optional_libraries_alone():
    """NumPyro may import some of them itself: only what this package adds counts."""
    script = """
import sys
import equinox, jaxtyping, numpyro, numpyro.infer, optax, tqdm.auto
before = set(sys.modules)
import numpyro_bridge
print(*{name.split(".")[0] for name in set(sys.modules) - before})
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    added = set(run.stdout.split())
    assert "numpyro_bridge" in added
    assert not added & {"arviz", "blackjax", "diffrax", "funsor", "matplotlib", "pandas", "xarray"}


def test_arviz_may_be_imported_first():
    # ArviZ 1.x leaves a lazy NumPyro behind, of which a submodule must not be the first to load.
    script = "import arviz, numpyro_bridge, numpyro; numpyro.distributions.distribution"
    warn = ["-W", "ignore::FutureWarning"]
    subprocess.run([sys.executable, *warn, "-c", script], check=True)


# --- layout ---------------------------------------------------------------------------------------


def test_the_root_of_the_package_is_the_list_of_its_folders():
    entries = root_entries(PACKAGE)
    assert len(entries) <= structure.MAX_ROOT_ENTRIES
    assert set(entries) == {name for name in ORDER if not name.startswith("_")}


@pytest.mark.parametrize("folder", ORDER)
def test_a_folder_imports_from_itself_and_from_folders_before_it(folder):
    allowed = ORDER[: ORDER.index(folder) + 1]
    wrong = [
        f"{module} imports {imported}"
        for module, targets in GRAPH.items()
        for imported in targets
        if module.split(".")[0] == folder and imported.split(".")[0] not in allowed
    ]
    assert not wrong, "\n".join([*wrong, f"{folder} may import from {', '.join(allowed)}"])


def test_no_module_imports_from_the_root():
    """Whoever needs a part names it, so that the root can import all parts."""
    users = {name for name, module in MODULES.items() if "" in imports_of(module, {*MODULES})}
    assert users <= {"__main__"}


@pytest.mark.parametrize("folder", ORDER)
def test_imports_inside_a_folder_close_no_circle(folder):
    """A module imports its neighbours, not the `__init__` that re-exports itself."""
    inside = {name: targets for name, targets in GRAPH.items() if name.split(".")[0] == folder}
    modules = {name: MODULES[name] for name in inside}
    graph = {name: targets & {*inside} for name, targets in inside.items()}
    assert not follow(modules, graph).circles


FOLDERS = [module for module in MODULES.values() if module.is_folder]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name or "root")
def test_the_file_of_a_folder_re_exports_and_does_nothing_else(folder):
    """A docstring, imports and `__all__`; that of the root also has the version."""
    assert ast.get_docstring(folder.tree)
    allowed = {"__all__"} if folder.name else {"__all__", "__version__"}
    for node in folder.tree.body[1:]:
        is_import = isinstance(node, ast.Import | ast.ImportFrom)
        names = {ast.unparse(t) for t in node.targets} if isinstance(node, ast.Assign) else set()
        assert is_import or names and names <= allowed, ast.unparse(node)
    for imported in GRAPH.get(folder.name, ()):
        assert imported.startswith(f"{folder.name}."), f"{folder.name} re-exports {imported}"


def test_no_file_is_too_long():
    limit = structure.MAX_FILE_LINES
    files = [f"{m.path}: {m.num_lines}" for m in MODULES.values() if m.num_lines > limit]
    assert not files, f"more than {limit} lines: {files}; give each subject a file of its own"


def test_no_function_is_too_long():
    limit = structure.MAX_FUNCTION_LINES
    every = functions(MODULES)
    long = [f"{f.module}.{f.name}: {f.num_lines}" for f in every if f.num_lines > limit]
    assert not long, f"more than {limit} lines: {long}; name the steps and call them"


def test_no_test_file_is_imported_by_another():
    """What several need has a file of its own, beside `tests/catalogue.py`."""
    imports = [
        f"{module.path} imports {node.module}"
        for module in read_modules(ROOT / "tests").values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and ".test_" in f".{node.module}"
    ]
    assert not imports


# --- exports and their documentation --------------------------------------------------------------


def test_the_root_exports_what_a_modeller_types():
    assert len(nb.__all__) <= structure.MAX_ROOT_EXPORTS


@pytest.mark.parametrize("namespace", NAMESPACES, ids=lambda namespace: namespace.__name__)
def test_exports_are_present_and_documented(namespace):
    missing = [name for name in namespace.__all__ if not hasattr(namespace, name)]
    assert not missing
    bare = [name for name in namespace.__all__ if not is_documented(getattr(namespace, name), name)]
    assert not bare, f"{bare} of {namespace.__name__} have no docstring"


def is_documented(public, name: str) -> bool:
    if name in DOCUMENTED_CONSTANTS:
        return True
    # A number inherits the docstring of its type; a dataclass without one gets its signature.
    has_its_own = callable(public) or isinstance(public, ModuleType)
    documentation = (public.__doc__ if has_its_own else None) or ""
    return bool(documentation) and not documentation.startswith(f"{name}(")


def documented_constants(module: Module) -> set[str]:
    """Names at the top of a module that are followed by a text."""
    pairs = itertools.pairwise(module.tree.body)
    return {
        ast.unparse(target)
        for node, text in pairs
        if isinstance(node, ast.Assign) and isinstance(text, ast.Expr)
        for target in node.targets
    }


DOCUMENTED_CONSTANTS = set().union(*map(documented_constants, MODULES.values()))


def public_methods() -> list:
    """Every public method and property, as a class and a name."""
    public = (getattr(namespace, name) for namespace in NAMESPACES for name in namespace.__all__)
    classes = sorted({each for each in public if isinstance(each, type)}, key=lambda c: c.__name__)
    return [
        pytest.param(each, name, id=f"{each.__name__}.{name}")
        for each in classes
        for name, member in vars(each).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    ]


@pytest.mark.parametrize(("public", "name"), public_methods())
def test_public_method_is_documented(public, name):
    """A method that fills in an abstract one may leave the explanation to it."""
    definitions = [vars(base)[name] for base in public.mro() if name in vars(base)]
    assert any(definition.__doc__ for definition in definitions)


# --- machines -------------------------------------------------------------------------------------


def text_files() -> list[Path]:
    """Every text file of the project; environments and build outputs are left out."""
    folders = ("numpyro_bridge", "tests", "examples", "benchmarks", "docs", ".ci")
    # In a linked worktree of Git, `.git` is a file that holds a path.
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    files += [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    binary = {".bridge", ".gz", ".jpg", ".nc", ".npz", ".pdf", ".png", ".pyc"}
    return [f for f in files if f.suffix not in binary and "_build" not in f.parts]


def test_no_file_names_a_path_of_one_machine():
    """What is written on one machine must run on all: paths are relative or asked for."""
    # Not after a word, a dot or a closing brace: those are parts of addresses and of longer paths.
    absolute = re.compile(r"(?<![\w.~})-])/(?:home|root|tmp|Users|work)/\w")
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if absolute.search(line)
    ]
    assert not lines, "\n".join(lines)
