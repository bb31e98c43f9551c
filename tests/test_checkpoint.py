"""Checkpoints come back bit for bit or are refused by name, whatever happens to the disk or the process."""

import pathlib
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.harness.checkpoint import CheckpointError, Checkpoints
from tests.cases import sparing
from tests.echo import assert_identical

ROOT = pathlib.Path(__file__).parents[1]
DTYPES = [
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4", ">f8"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    *("int4", "uint4", "float8_e4m3fn", "float8_e5m2"),
]


class State(NamedTuple):
    params: Any
    optimizer: Any
    key: Any
    best: Any = None


def example(seed):
    """A training state whose every number depends on the seed."""
    params = {"w": jnp.full((3, 4), seed, jnp.bfloat16), "b": [jnp.arange(5.0) * seed, None]}
    moments = optax.adam(1e-3).init(params)
    return State(params, moments, jax.random.split(jax.random.key(seed), 2), np.bool_(seed % 2))


def structs(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def filled(folder, *losses, keep=3):
    """A folder with a checkpoint of `example(update)` for each loss, of updates 1, 2, ..."""
    checkpoints = Checkpoints(folder, keep)
    for update, loss in enumerate(losses, 1):
        checkpoints.save(update, example(update), {"update": update}, loss)
    return checkpoints


def assert_restores(checkpoints, update, which="last", refused=()):
    got, state, about, damaged = checkpoints.restore(example(0), which)
    assert got == update
    assert_identical(state, example(update))
    assert about == {"update": update}
    assert [(entry.update, entry.path) for entry in damaged] == [
        (u, checkpoints.folder / str(u)) for u in refused
    ]
    assert all(entry.why for entry in damaged)


@pytest.mark.parametrize("like", [lambda tree: tree, structs], ids=["arrays", "structs"])
def test_every_kind_of_leaf_comes_back_bit_for_bit(like, tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (2, 3, 16), np.uint8)
    arrays = {name: bits[..., 0].astype(jnp.dtype(name)) for name in DTYPES}
    special = np.array([-0.0, 0.0, np.nan, -np.inf, 1e-45], np.float32)
    special.view(np.uint32)[2] |= 12345
    state = State(
        {
            **arrays,
            "special": special,
            "negative zeros": -np.zeros(4),
            "scalar": np.array(7),
            "number": np.int8(3),
        },
        (optax.adam(1e-3).init({"w": jnp.ones(3)}), None, {}, ()),
        [
            jax.random.key(3),
            jax.random.split(jax.random.key(4, impl="rbg"), (2, 2)),
            jax.random.key(5)[None][:0],
        ],
        {
            "one device": jnp.arange(3),
            "fortran": np.asfortranarray(np.eye(3)[:, :2]),
            "empty": np.zeros((0, 3)),
        },
    )
    about = {"config": {"cells": ["LSTM"], "rate": 3e-3, "none": None}, "stage": 2, "ü": [True, float("inf")]}
    Checkpoints(tmp_path / "deep" / "folder").save(5, state, about, np.float32(0.5))
    update, got, said, refused = Checkpoints(tmp_path / "deep" / "folder").restore(like(state))
    assert (update, said, refused) == (5, about, [])
    assert_identical(
        got, jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, np.generic) else leaf, state)
    )


def test_a_bare_array_is_a_state(tmp_path):
    Checkpoints(tmp_path).save(0, np.arange(3), {}, 1.0)
    assert_identical(Checkpoints(tmp_path).restore(np.arange(3))[1], np.arange(3))
    with pytest.raises(CheckpointError, match=r"expected state of float32\[3\], found state of int64\[3\]\."):
        Checkpoints(tmp_path).restore(jnp.arange(3.0))


def test_nothing_saved_is_none(tmp_path):
    for folder in (tmp_path / "none", tmp_path):
        assert Checkpoints(folder).restore(example(0)) is None
        assert Checkpoints(folder).updates() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("losses", "keep", "kept", "best"),
    [
        ((5, 4, 3, 2, 1), 3, [3, 4, 5], 5),
        ((1, 2, 3, 4, 5), 3, [1, 3, 4, 5], 1),
        ((3, 1, 1, 2, 2), 1, [3, 5], 3),
        ((np.nan, 2, np.nan, np.nan), 2, [2, 3, 4], 2),
        ((np.nan, np.nan, np.inf, np.nan), 1, [3, 4], 3),
        ((np.nan, np.nan), 1, [2], 2),
    ],
)
def test_the_last_ones_and_the_best_stay(losses, keep, kept, best, tmp_path):
    checkpoints = filled(tmp_path, *losses, keep=keep)
    assert checkpoints.updates() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, kept))
    assert_restores(checkpoints, len(losses))
    assert_restores(checkpoints, best, "best")


def test_going_back_keeps_what_is_saved_then(tmp_path):
    checkpoints = filled(tmp_path, 4.0, 3.0, 2.0, keep=1)
    checkpoints.save(1, example(1), {"update": 1}, 5.0)
    assert checkpoints.updates() == [1, 3]


def test_a_whole_checkpoint_is_never_replaced(tmp_path):
    checkpoints = filled(tmp_path, 2.0, 1.0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    checkpoints.save(2, example(2), {"update": "again"}, 3.0)
    message = f"Update 2 was not saved: {tmp_path} holds another state of it."
    with pytest.raises(CheckpointError) as error:
        checkpoints.save(2, example(3), {}, 1.0)
    assert str(error.value) == message
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert_restores(checkpoints, 2)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", sparing([flip, halve, pathlib.Path.unlink]))
def test_damage_to_any_file_is_harmless_or_refused(damage, tmp_path):
    filled(tmp_path / "whole", 2.0, 1.0)
    matter = set()
    for file in sorted(path for path in (tmp_path / "whole" / "2").rglob("*") if path.is_file()):
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "whole", copy)
        damage(copy / file.relative_to(tmp_path / "whole"))
        checkpoints = Checkpoints(copy)
        for which in ("last", "best"):
            if checkpoints.restore(example(0), which)[0] == 2:
                assert_restores(checkpoints, 2, which)
            else:
                assert_restores(checkpoints, 1, which, refused=[2])
                matter.add(file.relative_to(tmp_path / "whole" / "2").as_posix())
        checkpoints.save(2, example(2), {"update": 2}, 1.0)
        checkpoints.save(3, example(3), {"update": 3}, 0.5)
        assert_restores(checkpoints, 3)
        shutil.rmtree(copy / "3")
        assert_restores(checkpoints, 2)
        shutil.rmtree(copy)
    assert matter >= {"_CHECKPOINT_METADATA", "state/bytes/0", "state/bytes/.zarray", "state/_METADATA"}


@pytest.mark.parametrize("part", ["", "state", "state/bytes"])
def test_a_half_deleted_checkpoint_is_refused(part, tmp_path):
    checkpoints = filled(tmp_path, 2.0, 1.0)
    shutil.rmtree(tmp_path / "2" / part)
    (tmp_path / "2" / part).mkdir()
    assert_restores(checkpoints, 1, refused=[2])
    (tmp_path / "2" / part).rmdir()
    (tmp_path / "2" / part).write_text("a file")
    assert_restores(checkpoints, 1, refused=[2])


def test_each_number_of_the_record_is_verified(tmp_path):
    checkpoints = filled(tmp_path, 1.0, 2.0)
    file = tmp_path / "1" / "_CHECKPOINT_METADATA"
    for old, new in (
        (': {"update": 1}', ': {"update": 3}'),
        ('"loss": 1.0', '"loss": 9.0'),
        ("[3, 4]", "[4, 3]"),
    ):
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
        assert_restores(checkpoints, 2, "best", refused=[1])
        file.write_text(text)
    (tmp_path / "2").rename(tmp_path / "7")
    assert_restores(checkpoints, 1, refused=[7])


def test_when_all_are_damaged_all_are_named(tmp_path):
    checkpoints = filled(tmp_path, 2.0, 1.0)
    flip(tmp_path / "1" / "state" / "bytes" / "0")
    (tmp_path / "2" / "_CHECKPOINT_METADATA").unlink()
    with pytest.raises(CheckpointError) as error:
        checkpoints.restore(example(0))
    assert str(error.value) == (
        f"No checkpoint can be read: {tmp_path / '2'}: its record is damaged (No such file or directory); "
        f"{tmp_path / '1'}: its state is damaged (not what was saved)."
    )


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            {"a": np.zeros(2, np.int8), "b": np.zeros(3)},
            "expected state['a'] of int8[2], found state['a'] of int16[2]",
        ),
        (
            {"a": np.zeros((2, 1), np.int16)},
            "expected state['a'] of int16[2, 1], found state['a'] of int16[2]",
        ),
        ({"a": np.zeros(2, np.int16)}, "expected nothing more, found state['b'] of key<fry>[]"),
        (
            {"a": np.zeros(2, np.int16), "b": jax.random.key(0), "c": np.zeros(1)},
            "expected state['c'] of float64[1], found nothing more",
        ),
        (
            {"a": np.zeros(2, np.int16), "b": np.zeros(2, np.uint32)},
            "expected state['b'] of uint32[2], found state['b'] of key<fry>[]",
        ),
        (
            {"a": np.zeros(2, np.int16), "b": jax.random.key(0, impl="rbg")},
            "expected state['b'] of key<rbg>[], found state['b'] of key<fry>[]",
        ),
    ],
    ids=["dtype", "shape", "fewer", "more", "kind", "key"],
)
def test_a_misfit_names_the_first_leaf_that_differs(like, message, tmp_path):
    for update in (1, 2):
        Checkpoints(tmp_path).save(update, {"a": np.zeros(2, np.int16), "b": jax.random.key(0)}, {}, 1.0)
    with pytest.raises(CheckpointError) as error:
        Checkpoints(tmp_path).restore(like)
    assert str(error.value) == f"Update 2 in {tmp_path} does not fit: {message}."


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"keep: expected at least 1, got 0\."):
        Checkpoints(tmp_path, keep=0)
    with pytest.raises(TypeError, match=r"state\['a'\]: expected an array or a typed key, got int\."):
        Checkpoints(tmp_path).save(1, {"a": 1}, {}, 0.0)
    with pytest.raises(TypeError, match="JSON"):
        Checkpoints(tmp_path).save(1, {"a": np.ones(1)}, {"folder": tmp_path}, 0.0)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for attempt in (lambda c: c.save(1, example(1), {}, 0.0), lambda c: c.restore(example(1))):
        with pytest.raises(CheckpointError, match=r"file cannot be read: Not a directory\."):
            attempt(Checkpoints(tmp_path / "file"))


def test_leftovers_are_ignored_and_removed(tmp_path):
    checkpoints = filled(tmp_path, 1.0)
    for name in ("2.orbax-checkpoint-tmp", "deleted/0"):
        shutil.copytree(tmp_path / "1", tmp_path / name)
    for name in ("notes", "007", "1.5"):
        (tmp_path / name).mkdir()
    assert checkpoints.updates() == [1]
    assert_restores(checkpoints, 1)
    checkpoints.save(2, example(2), {"update": 2}, 1.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["007", "1", "1.5", "2", "notes"]
