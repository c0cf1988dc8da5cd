"""Files: whole or not at all, read back as written, and never a way to bring in code."""

import json
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core import descriptions, storage
from numpyro_bridge._core import sealed as sealed_files
from numpyro_bridge._core.rebuilding import rebuild
from numpyro_bridge.atlas.maps import identity_map
from numpyro_bridge.diffusion.samples import SampleLosses
from numpyro_bridge.training.metrics import TrajectoryMetrics
from tests import catalogue


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.fast
def test_a_tree_is_read_back_as_written(tmp_path):
    path = tmp_path / "deep" / "er" / "file"
    tree = {"a": jnp.arange(3.0), "b": [np.ones((2, 2), np.float32), jnp.asarray(7)]}
    assert storage.save_tree(path, {"kind": "test", "x": 0.1}, tree) == path
    like = jax.tree.map(np.zeros_like, tree)
    header, back = storage.load_tree(path, like)
    assert header["kind"] == "test" and header["x"] == 0.1
    assert storage.load_header(path) == header
    assert_same(back, tree)


@pytest.mark.fast
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
    two = storage.save_tree(tmp_path / "two", {}, [jnp.ones(3), jnp.ones(3)])
    with pytest.raises(ValueError, match="do not fit .* there are more of them"):
        storage.load_tree(two, [np.zeros(3)])


def damaged(whole: bytes):
    """Every bit flipped, every length cut off, and something more at the end."""
    for place in range(len(whole)):
        for bit in range(8):
            yield whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]
        yield whole[:place]
    yield whole + b"\n"


def test_no_damaged_file_is_read(tmp_path):
    """One flipped bit is enough, wherever it is."""
    path = storage.save_tree(tmp_path / "file", {"kind": "test"}, [jnp.ones(3)])
    like = [np.zeros(3)]
    assert storage.load_tree(path, like)[0] == {"kind": "test"}
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged|not a file of numpyro_bridge|file format"):
            storage.load_tree(path, like)


def sealed(tmp_path, header: bytes, arrays: bytes = b""):
    """A file with a checksum that is right, made by hand."""
    path = tmp_path / "file"
    first = {
        "format": sealed_files.FORMAT,
        "header": len(header),
        "arrays": len(arrays),
        "checksum": sealed_files._checksum(header, arrays),
    }
    path.write_bytes(json.dumps(first).encode() + b"\n" + header + arrays)
    return path


def test_a_header_that_would_exhaust_memory_or_stack_is_refused(tmp_path):
    with pytest.raises(ValueError, match="header of .* cannot be read"):
        storage.load_header(sealed(tmp_path, b"[" * 100_000 + b"]" * 100_000))
    with pytest.raises(ValueError, match="is no dictionary"):
        storage.load_header(sealed(tmp_path, b"3"))
    arrays = []
    part = descriptions.describe(jnp.ones(3), arrays)
    large = json.dumps({"parts": {"x": {**part, "shape": [10**15]}}}).encode()
    with pytest.raises(ValueError, match="describes arrays of 8000000000000000 bytes"):
        storage.load_parts(sealed(tmp_path, large), {})


def test_numbers_of_numpy_may_be_in_a_header(tmp_path):
    header = {"num": np.int64(3), "share": np.float32(0.5), "good": np.bool_(True)}
    path = storage.save_tree(tmp_path / "file", header, [])
    assert storage.load_header(path) == {"num": 3, "share": 0.5, "good": True}


# --- descriptions ---------------------------------------------------------------------------------


def round_trip(tree, **settings):
    """Through JSON, and arrays of the described shapes."""
    arrays = []
    description = json.loads(json.dumps(descriptions.describe(tree, arrays)))
    blank = descriptions.blank_arrays(description)
    assert [a.shape for a in blank] == [np.shape(a) for a in arrays]
    assert [a.dtype for a in blank] == [a.dtype for a in arrays]
    return rebuild(description, list(arrays), **settings)


@pytest.mark.parametrize("name", catalogue.some_fast(catalogue.PROCESSES))
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
        "function": nb.diffusion.predicts_flow,
        "array": {"shape": jnp.ones(2), "kind": "names that describe uses too"},
    }
    back = round_trip(tree)
    assert_same(back, tree)
    assert isinstance(back["others"][5], tuple)


def test_whole_numbers_of_numpy_stay_settings():
    assert type(round_trip(np.int64(8))) is int
    assert round_trip([np.bool_(True), np.float64(0.1)]) == [True, 0.1]


class Elsewhere(eqx.Module):
    """A class outside the package."""

    x: jax.Array
    parts: dict
    function: Callable = eqx.field(static=True)
    size: int = eqx.field(static=True, default=3)


class Pair(NamedTuple):
    a: int
    b: int


def elsewhere(scale=1.0, function=jnp.tanh, size=3, rows=2) -> Elsewhere:
    parts = {"map": identity_map(size), "by number": {1: scale * jnp.ones(2)}, "pair": Pair(1, 2)}
    return Elsewhere(scale * jnp.ones((rows, 2)), parts, function, size)


def test_what_is_not_of_the_package_is_put_into_what_is_brought_along():
    tree = elsewhere(scale=3.0)
    back = round_trip(tree, made=elsewhere())
    assert type(back) is Elsewhere and type(back.parts["pair"]) is Pair
    assert back.function is jnp.tanh
    assert_same(back, tree)
    with pytest.raises(ValueError, match="holds a Elsewhere.*not of numpyro_bridge: pass tree="):
        round_trip(tree)
    # Modules of the package are those of the file, whatever the constructor makes.
    other = eqx.tree_at(lambda made: made.parts["map"], elsewhere(), identity_map(7))
    assert_same(round_trip(tree, made=other), tree)


class Elsewhere2(eqx.Module):
    x: jax.Array


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Elsewhere2(jnp.ones(2)), "tree is a Elsewhere in the file, and a Elsewhere2 in what was"),
        (elsewhere(size=4), "tree.size is 3 in the file, and 4 in what was passed"),
        (
            elsewhere(rows=5),
            r"tree.x is an array of shape \(2, 2\) and type float.* shape \(5, 2\)",
        ),
        (elsewhere(function=jnp.sin), "tree.function is a tanh in the file, and a sin in what was"),
        (
            eqx.tree_at(lambda made: made.x, elsewhere(), jnp.ones((2, 2), int)),
            "type float in the file, and .* type int64 in",
        ),
        (jnp.ones(2), "tree is a Elsewhere in the file, and an array"),
    ],
)
def test_what_does_not_fit_is_named(made, message):
    with pytest.raises(ValueError, match=message):
        round_trip(elsewhere(), made=made)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (elsewhere(), "a Elsewhere cannot be saved: it is not of numpyro_bridge"),
        ({"deep": [Pair(1, 2)]}, "a Pair cannot be saved"),
        (jax.random.key(0), "random keys cannot be saved"),
        ({1: 2}, "a dict cannot be saved"),
        (lambda x: x, "a <lambda> cannot be saved"),
    ],
)
def test_what_cannot_be_rebuilt_alone_is_named(tree, message):
    with pytest.raises(descriptions.NotDescribable, match=message):
        descriptions.describe_whole(tree, [])


def node(kind: str, name: str) -> dict:
    return {"kind": kind, "name": name, "parts": {}}


@pytest.mark.parametrize("kind", ["class", "function"])
@pytest.mark.parametrize(
    "place",
    ["os:system", "numpyro_bridge_evil:Thing", "subprocess:Popen", "tests.test_storage:Elsewhere"],
)
def test_a_file_cannot_bring_in_code(kind, place):
    with pytest.raises(ValueError, match="not of numpyro_bridge"):
        rebuild(node(kind, place), [])


@pytest.mark.parametrize("kind", ["class", "function"])
@pytest.mark.parametrize(
    "place",
    ["numpyro_bridge._core.storage:os", "numpyro_bridge:Nothing", "numpyro_bridge.infer:__name__"],
)
def test_only_modules_tuples_and_functions_of_the_package_are_found(kind, place):
    with pytest.raises(ValueError, match=f"has no {kind}"):
        rebuild(node(kind, place), [])


def test_a_function_is_no_class_and_a_private_one_is_not_found():
    for place in ("numpyro_bridge.infer:load", "numpyro_bridge._core.storage:Tree"):
        with pytest.raises(ValueError, match="has no class"):
            rebuild(node("class", place), [])
    with pytest.raises(ValueError, match="has no function"):
        rebuild(node("function", "numpyro_bridge._core.storage:_parse_header"), [])


def test_a_process_read_back_runs_as_before(tmp_path):
    process = catalogue.untrained("DBS")
    storage.save_parts(tmp_path / "file", {"kind": "test"}, {"process": process, "other": [1, 2]})
    parts = storage.load_parts(tmp_path / "file", {"process": None})
    assert parts["other"] == [1, 2]
    target = nb.target_from_log_density(lambda x: -0.5 * jnp.sum(x**2), 2)
    simulate = eqx.filter_jit(nb.trajectories.simulate)
    before = simulate(jax.random.key(0), process, target).log_weight
    assert simulate(jax.random.key(0), parts["process"], target).log_weight == before
