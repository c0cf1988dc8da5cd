"""What every test runs under: the CPU as two devices, float64, and no window for a plot."""

import os
from importlib.metadata import version
from pathlib import Path

# Read when JAX and Matplotlib are first imported, so before the imports below. Setting defaults
# leaves a developer free to run the tests on an accelerator.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# NumPy's small matrices gain nothing from threads, which wait for each other on busy cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Tests compile many small programs that run once: fast code is not worth its price.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# How XLA generates code by default takes more than twice as long to compile as how it did before,
# which the JAX of Python 3.11 can still do. XLA refuses flags that it does not know, so that other
# releases than these get none.
if "opt_preset" not in os.getenv("XLA_FLAGS", ""):
    before = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    preset = "--xla_cpu_opt_preset=FAST_COMPILE"
    quick = {"0.10": f"{before} {preset}", "0.12": preset}
    release = ".".join(version("jaxlib").split(".")[:2])
    os.environ["XLA_FLAGS"] = f"{quick.get(release, '')} {os.getenv('XLA_FLAGS', '')}"
# `make test-fast` keeps what was compiled. Each worker has a folder of its own: JAX writes these
# files in place, and who reads at the same time would see half of one.
if "JAX_COMPILATION_CACHE_DIR" in os.environ:
    cache = Path(os.environ["JAX_COMPILATION_CACHE_DIR"], os.environ.get("PYTEST_XDIST_WORKER", ""))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
import pytest

from tests.as_users import without_type_checks

# Two devices: enough to test sharding, and for NumPyro to run two chains without a warning.
jax.config.update("jax_num_cpu_devices", 2)
# Identities are checked to many digits; a test of float32 asks for `jax.enable_x64(False)`.
jax.config.update("jax_enable_x64", True)


VERSIONED = (
    "compare/test_finished_runs",
    "compare/test_side_by_side",
    "core",
    "draws/test_arviz",
    "draws/test_inference_data",
    "draws/test_prediction",
    "infer/test_auto_bridge.py::test_a_guide_survives_pickling",
    "infer/test_auto_bridge.py::test_predictive_takes_new_covariates",
    "infer/test_blackjax.py::test_one_step_is_one_iteration_of_fit",
    "infer/test_bridge_kernel.py::test_a_run_survives_pickling",
    "infer/test_bridge_kernel.py::test_arviz_reads_the_run",
    "infer/test_doors",
    "infer/test_files_of_own_parts.py::test_a_fresh_process_draws_the_same",
    "infer/test_files_of_own_parts.py::test_what_a_user_wrote_is_saved_and_loaded[OwnSampler]",
    "infer/test_pickles",
    "infer/test_posterior",
    "target/test_arguments",
    "target/test_discrete_sites",
    "target/test_indices",
    "target/test_log_density",
    "target/test_model",
    "target/test_readings",
    "target/test_refusals",
    "target/test_simulation",
    "target/test_unusable",
    "test_demo",
    "training/test_checkpoints",
)
"""How the names of tests begin that depend on the versions of JAX, ArviZ and Python: how models are
read, files and copies, and what leaves for other libraries. They are marked `versions`. NumPyro and
BlackJAX have the same release on every Python at present, and a test or two of each are enough."""


LONG = ("test_honesty", "test_examples", "core/test_together")
"""Files that take minutes. They come first, so that no worker waits for another at the end."""


def pytest_collection_modifyitems(items):
    """Mark the tests that the second Python of `.ci/run` repeats; put the longest ones first."""
    long, places = (tuple(f"tests/{place}" for place in some) for some in (LONG, VERSIONED))
    items.sort(key=lambda item: not item.nodeid.startswith(long))
    for item in items:
        if item.nodeid.startswith(places):
            item.add_marker("versions")


def pytest_sessionstart(session):
    """Before any test imports BlackJAX, which starts JAX: the package sets a flag that it reads.

    The process that only hands out the tests to others runs none, and starts sooner without it.
    """
    if not session.config.getoption("numprocesses", None):
        import numpyro_bridge  # noqa: F401


MAPS = Path("/proc/self/maps")
MANY_MAPS = 40_000
"""Linux gives a process 65,530 memory maps, and every compiled program takes some."""


@pytest.fixture(autouse=True)
def room_for_more_programs():
    """Forget compiled programs before there are so many that the next one cannot be loaded."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()


@pytest.fixture
def as_users():
    """The test runs as users do, without the type checker."""
    with without_type_checks():
        yield


@pytest.fixture
def key() -> jax.Array:
    """The same random key in each test."""
    return jax.random.key(0)
