"""The package as a whole: its version, its imports, its layers and its documentation."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import numpyro_bridge

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "numpyro_bridge"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if not path.stem.startswith("__"))
FOLDERS = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))

# From the ground up. A module imports from lower floors only, or from `base.py` in its own folder.
# A folder stands for all its modules, except those that are named themselves.
FLOORS = (
    {
        "_precision",
        "_typing",
        "reading",
        "_setting_checks",
        "xla_flags",
        "calibration",
        "devices",
        "storage",
        "structure",
    },
    {"_no_start"},
    {"target", "networks", "schedules", "noise_schedules", "samples"},
    {"kernels", "maps", "denoising_network", "simulations", "fingerprint"},
    {"affine", "standardised_target", "identity"},
    {
        "coupling",
        "gaussian_fits",
        "initial_distributions",
        "integrators",
        "denoiser",
        "context",
        "conditional_law",
    },
    {"coupling_fit", "modes", "prior_law", "plots.parameters"},
    {"standardise"},
    {"processes"},
    {"trajectories", "generation", "start", "objectives.weightings"},
    {"objectives", "weights", "generation.reflow", "ends", "predictive", "nuts"},
    {"curricula", "metrics"},
    {"training_progress"},
    {"checkpoints", "progress_bar"},
    {"train", "draws", "backward"},
    {
        "inference_data",
        "plots",
        "infer.optimizer",
        "infer.distribution",
        "infer.flow_guide",
        "infer.particles",
        "infer.given_draws",
        "infer.conditional_bridge",
        "infer.resolve",
    },
    {"infer.posterior", "infer.learning", "infer.seen_data"},
    {
        "infer.auto_bridge",
        "infer.bridge_sampler",
        "infer.path_metropolis",
        "infer.blackjax_style",
        "infer.conditional_training",
    },
    {"infer.ranks"},
    {"infer.amortised"},
    {"infer.amortise"},
    {"infer", "comparison.nuts_side", "comparison.tables", "comparison.verdict"},
    {"comparison.text"},
    {"comparison", "model_comparison"},
)


def test_version_is_that_of_the_project_and_of_the_installed_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert numpyro_bridge.__version__ == project["version"]
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


def dotted_name(path: Path) -> str:
    """`.../numpyro_bridge/processes/cmcd.py` -> `processes.cmcd`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def floor_of(module: str) -> int:
    """Number of the floor a dotted module name stands on, or -1 if it stands on none."""
    for name in (module, module.split(".")[0]):
        for number, floor in enumerate(FLOORS):
            if name in floor:
                return number
    return -1


def imported_modules(path: Path) -> set[str]:
    """Modules of this package that a file imports, inside functions as well as at the top."""
    names = {dotted_name(module) for module in MODULES}
    folder = ["numpyro_bridge", *path.relative_to(PACKAGE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = folder[: len(folder) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            # `from numpyro_bridge import target` names a module; `... import Target` names none.
            targets = [
                f"{source}.{alias.name}"
                if f"{source}.{alias.name}".removeprefix("numpyro_bridge.") in names
                else source
                for alias in node.names
            ]
        else:
            continue
        found |= {target for target in targets if target.split(".")[0] == "numpyro_bridge"}
    return {target.removeprefix("numpyro_bridge").removeprefix(".") for target in found}


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_module_imports_from_lower_floors_only(path):
    module = dotted_name(path)
    floor = floor_of(module)
    assert floor >= 0, f"give {module} a place in FLOORS"
    folders = module.split(".")[:-1]
    bases = {".".join([*folders[:depth], "base"]) for depth in range(1, len(folders) + 1)}
    for imported in imported_modules(path):
        assert imported, f"{module} imports from the package root: name the module instead"
        assert imported in bases - {module} or floor_of(imported) < floor, (
            f"{module} imports {imported}, which is not on a lower floor: "
            "move what both need further down"
        )


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_exports_only_its_own_modules(folder):
    for imported in imported_modules(folder / "__init__.py"):
        assert imported.startswith(f"{folder.name}."), f"{folder.name} re-exports {imported}"


@pytest.mark.parametrize("name", numpyro_bridge.__all__)
def test_public_name_is_documented(name):
    public = getattr(numpyro_bridge, name)
    if name == "__version__":
        return
    documentation = public.__doc__ or ""
    # A dataclass without a docstring gets its signature for one.
    assert documentation and not documentation.startswith(f"{name}("), f"{name} has no docstring"


def public_methods() -> list:
    """Every public method and property, as a class and a name."""
    classes = {n: c for n, c in vars(numpyro_bridge).items() if isinstance(c, type)}
    return [
        pytest.param(classes[class_name], name, id=f"{class_name}.{name}")
        for class_name in numpyro_bridge.__all__
        if class_name in classes
        for name, member in vars(classes[class_name]).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    ]


@pytest.mark.parametrize(("public", "name"), public_methods())
def test_public_method_is_documented(public, name):
    """A method that fills in an abstract one may leave the explanation to it."""
    definitions = [vars(base)[name] for base in public.mro() if name in vars(base)]
    assert any(definition.__doc__ for definition in definitions)


def text_files() -> list[Path]:
    """Every text file of the project; environments and build outputs are left out."""
    folders = ("numpyro_bridge", "tests", "examples", "benchmarks", "docs", ".ci")
    files = [path for path in ROOT.iterdir() if path.is_file()]
    files += [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    binary = {".gz", ".jpg", ".nc", ".npz", ".pdf", ".png", ".pyc"}
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


def test_arviz_may_be_imported_first():
    # ArviZ 1.x leaves a lazy NumPyro behind, of which a submodule must not be the first to load.
    script = "import arviz, numpyro_bridge, numpyro; numpyro.distributions.distribution"
    warn = ["-W", "ignore::FutureWarning"]
    subprocess.run([sys.executable, *warn, "-c", script], check=True)
