"""Files: whole or not at all, read back as written, and never a way to bring in code."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core import storage, structure
from numpyro_bridge.atlas.affine import identity_map
from numpyro_bridge.diffusion.samples import SampleLosses
from numpyro_bridge.training.metrics import TrajectoryMetrics
from tests import catalogue


def writer(content: bytes):
    """A function that writes `content` to the file it is given."""

    def write(file) -> None:
        file.write(content)

    return write


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_tree_is_read_back_as_written(tmp_path):
    path = tmp_path / "deep" / "er" / "file"
    tree = {"a": jnp.arange(3.0), "b": [np.ones((2, 2), np.float32), jnp.asarray(7)]}
    assert storage.save_tree(path, {"kind": "test", "x": 0.1}, tree) == path
    like = jax.tree.map(np.zeros_like, tree)
    header, back = storage.load_tree(path, like)
    assert header["kind"] == "test" and header["x"] == 0.1
    assert storage.load_header(path) == header
    assert_same(back, tree)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    storage.write_atomically(path, writer(b"old"))

    def fail(file):
        file.write(b"new, but only half")
        raise error

    with pytest.raises(type(error)):
        storage.write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "file"
    for content in (b"old", b"new"):
        storage.write_atomically(path, writer(content))
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b'{"kind": "other"}\n', b"[1]\n", b"3\n"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    for read in (storage.load_header, lambda path: storage.load_tree(path, [])):
        with pytest.raises(ValueError, match="not a file of numpyro_bridge"):
            read(path)


def test_files_of_later_versions_are_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b'{"format": 999}\n')
    with pytest.raises(ValueError, match="format 999, this version reads"):
        storage.load_header(path)


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    path = storage.save_tree(tmp_path / "file", {}, [jnp.ones(3)])
    for like in ([np.zeros(4)], [np.zeros(3, np.float32)], [np.zeros(3), np.zeros(3)]):
        with pytest.raises(ValueError, match="do not fit what they are read into"):
            storage.load_tree(path, like)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(ValueError, match="do not fit what they are read into"):
        storage.load_tree(path, [np.zeros(3)])


# --- structure ------------------------------------------------------------------------------------


def round_trip(tree):
    arrays = []
    description = structure.describe(tree, arrays)
    blank = structure.blank_arrays(description)
    assert [a.shape for a in blank] == [np.shape(a) for a in arrays]
    assert [a.dtype for a in blank] == [a.dtype for a in arrays]
    return structure.rebuild(description, list(arrays))


@pytest.mark.parametrize("name", catalogue.PROCESSES)
def test_every_process_is_rebuilt(name):
    process = catalogue.untrained(name)
    back = round_trip(process)
    assert type(back) is type(process)
    assert_same(back, process)
    assert back.num_steps == process.num_steps


def test_containers_numbers_and_named_tuples_are_rebuilt():
    tree = {
        "map": identity_map(3),
        "metrics": TrajectoryMetrics(*(np.full(2, i) for i in range(5))),
        "losses": SampleLosses(jnp.ones(2)),
        "others": [1, 2.5, "text", None, True, (jnp.asarray([1, 2]), ["nested"])],
        "empty": [[], (), {}],
        "array": {"array": jnp.ones(2), "class": "a name that describes use too"},
    }
    back = round_trip(tree)
    assert_same(back, tree)
    assert isinstance(back["others"][5], tuple)


class Elsewhere(eqx.Module):
    """A class outside the package."""

    x: jax.Array


class Pair(NamedTuple):
    a: int
    b: int


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (Elsewhere(jnp.ones(2)), "Elsewhere is not a class of numpyro_bridge"),
        ({"deep": [Pair(1, 2)]}, "Pair is not a class of numpyro_bridge"),
        (jax.random.key(0), "random keys cannot be saved"),
        ({1: 2}, "a dict cannot be saved"),
        (lambda x: x, "a function cannot be saved"),
    ],
)
def test_what_a_file_cannot_hold_is_named(tree, message):
    with pytest.raises(structure.NotDescribable, match=message):
        structure.describe(tree, [])


@pytest.mark.parametrize(
    "path",
    ["os:system", "numpyro_bridge_evil:Thing", "subprocess:Popen", "tests.test_storage:Elsewhere"],
)
def test_a_file_cannot_bring_in_code(path):
    with pytest.raises(ValueError, match="not a class of numpyro_bridge"):
        structure.rebuild({"class": path, "fields": {}}, [])


@pytest.mark.parametrize(
    "path",
    ["numpyro_bridge._core.storage:os", "numpyro_bridge.infer:load", "numpyro_bridge:Nothing"],
)
def test_only_modules_and_tuples_of_the_package_are_built(path):
    with pytest.raises(ValueError, match="has no class"):
        structure.rebuild({"class": path, "fields": {}}, [])


def test_a_process_read_back_runs_as_before(tmp_path):
    process = catalogue.untrained("DBS")
    arrays = []
    description = structure.describe(process, arrays)
    header = {"description": description}
    path = storage.save_tree(tmp_path / "file", header, arrays)
    header = storage.load_header(path)
    _, read = storage.load_tree(path, structure.blank_arrays(header["description"]))
    back = structure.rebuild(header["description"], read)
    target = nb.target_from_log_density(lambda x: -0.5 * jnp.sum(x**2), 2)
    simulate = eqx.filter_jit(nb.trajectories.simulate)
    before = simulate(jax.random.key(0), process, target).log_weight
    assert simulate(jax.random.key(0), back, target).log_weight == before
