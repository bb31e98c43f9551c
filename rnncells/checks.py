"""How mistakes are worded, and the checks that several files share.

A bad argument raises while JAX traces, with one sentence: the argument's name, what was expected,
what came. `TypeError` is a wrong kind of thing, `ValueError` a wrong value or shape.
"""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnncells.dtypes import wider


def describe(tree: Any) -> str:
    """`LSTMCarry(cell=float32[4,8], hidden=float32[4,8])`: a pytree by its shapes and dtypes."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{name}: {describe(leaf)}" for name, leaf in tree.items()) + "}"
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        fields = zip(tree._fields, tree, strict=True)
        inside = ", ".join(f"{name}={describe(leaf)}" for name, leaf in fields)
        return f"{type(tree).__name__}({inside})"
    if isinstance(tree, (tuple, list)):
        return f"{type(tree).__name__}({', '.join(map(describe, tree))})"
    if hasattr(tree, "shape") and hasattr(tree, "dtype"):
        return f"{tree.dtype}[{','.join(map(str, tree.shape))}]"
    return f"{tree!r} ({type(tree).__name__})"


def cell(name: str, value: Any) -> None:
    """A cell; of Flax modules in its place it says what to write instead."""
    not_a_class(name, value)
    if all(hasattr(value, method) for method in ("prepare", "project", "step", "readout")):
        return
    kind, got = type(value), describe(value)
    if kind.__module__ in ("rnncells.linen", "rnncells.nnx"):
        place = "that is for Flax's own RNN" if kind.__name__ == "RNNCell" else "that is a layer"
        got = f"{kind.__module__}.{kind.__name__}, and {place}; write the cell itself, {value.cell!r}"
    elif kind.__module__.startswith("flax."):
        twins = {"GRUCell": "GRU", "SimpleCell": "Elman", "ConvLSTMCell": "ConvLSTM"}
        features = getattr(value, "features", getattr(value, "hidden_features", 64))
        twin = f"rnncells.{twins.get(kind.__name__, 'LSTM')}({features})"
        got = f"Flax's {kind.__name__}; write a cell such as {twin}, or keep Flax's own RNN around Flax's"
    raise TypeError(f"{name}: expected a rnncells cell, got {got}.")


def not_a_class(name: str, value: Any) -> None:
    """The usual slip."""
    if isinstance(value, type):
        hint = "make an instance, such as LSTM(features=64)"
        raise TypeError(f"{name}: expected a rnncells cell, got {value!r}; {hint}.")


def positive_int(name: str, value: Any, low: int = 1) -> int:
    """A Python integer of at least 1; booleans, floats and traced values are refused."""
    expected = "a positive int" if low == 1 else f"an int of at least {low}"
    try:
        number = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except Exception:  # a tracer raises its own error here, which would hide the argument's name
        number = None
    if number is None:
        raise TypeError(f"{name}: expected {expected} known at trace time, got {describe(value)}.")
    if number < low:
        raise ValueError(f"{name}: expected {expected}, got {number}.")
    return number


def count(name: str, value: Any) -> int:
    """A Python integer of at least 0, as `positive_int`."""
    return positive_int(name, value, 0)


def boolean(name: str, value: Any) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {describe(value)}.")


def number(name: str, value: Any, low: float | None = None, high: float | None = None) -> None:
    """A finite real number (or array of them) within [low, high]; traced values pass unread."""
    if isinstance(value, jax.core.Tracer):
        dtype = value.dtype
    else:
        try:
            array = np.asarray(value)
            dtype = jnp.result_type(array)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: expected a real number, got {describe(value)}.") from None
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(f"{name}: expected a real number, got {describe(value)}.")
    if isinstance(value, jax.core.Tracer):
        return
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got {value}.")
    if low is not None and (array < low).any():
        raise ValueError(f"{name}: expected at least {low}, got {value}.")
    if high is not None and (array > high).any():
        raise ValueError(f"{name}: expected at most {high}, got {value}.")


def fits(name: str, value: Any, shape: tuple[int, ...]) -> None:
    """A number, or an array of them, for the last axes of an array of this shape."""
    own = jnp.shape(value)
    if len(own) > len(shape) or any(a not in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False)):
        raise ValueError(
            f"{name}: expected one number, or an array for the last axes of {list(shape)}, got"
            f" {describe(value)}."
        )


def key(value: Any) -> None:
    """None, a typed key of shape (), or a raw uint32 key."""
    if value is None:
        return
    typed = hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    raw = hasattr(value, "dtype") and value.dtype == jnp.uint32 and value.ndim == 1
    if not raw and not (typed and value.shape == ()):
        raise TypeError(f"key: expected one key from jax.random.key, got {describe(value)}.")


def float_dtype(name: str, value: Any) -> None:
    try:
        real = jnp.issubdtype(jnp.dtype(value), jnp.floating)
    except TypeError:
        real = False
    if not real:
        raise TypeError(f"{name}: expected a real floating dtype such as jnp.float32, got {value!r}.")


def features(name: str, x: Any, size: int) -> None:
    """One array whose last axis holds `size` real numbers."""
    if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"{name}: expected floating point inputs, got {describe(x)};"
            " embed or one-hot encode integers first."
        )
    if x.ndim == 0 or x.shape[-1] != size:
        raise ValueError(f"{name}: expected a last axis of {size} (that of the kernel), got {describe(x)}.")


def params(cell: Any, expected: Any, got: Any, size: int) -> None:
    """The tree that `cell.init` makes for inputs of this size, whatever its dtypes."""

    def shapes(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: tuple(jnp.shape(leaf)), tree)

    if shapes(expected) != shapes(got):
        raise ValueError(
            f"params: for xs with {size} features {cell} expects {describe(expected)}, got {describe(got)}."
        )


def alike(expectation: str, expected: Any, got: Any) -> Any:
    """What came, if it has the structure and shapes of what is expected; plain tuples and lists serve for
    NamedTuples. The dtypes may be narrower, never wider or of another kind."""
    got = _named(expected, got)
    structures: list[Any] = [jax.tree.structure(expected), jax.tree.structure(got)]
    same = structures[0] == structures[1]
    for want, have in zip(jax.tree.leaves(expected), jax.tree.leaves(got), strict=False):
        same = same and want.shape == jnp.shape(have)
        same = same and _fits(jnp.result_type(have), want.dtype)
    if not same:
        raise ValueError(f"{expectation} {describe(expected)}, got {describe(got)}.")
    return got


def _named(expected: Any, got: Any) -> Any:
    """Plain tuples and lists as the tuples that are expected in their place."""
    plain = isinstance(expected, tuple) and type(got) in (tuple, list, type(expected))
    if not plain or len(got) != len(expected):
        return got
    parts = map(_named, expected, got)
    return type(expected)(*parts) if hasattr(expected, "_fields") else tuple(parts)


def _fits(narrow: Any, wide: Any) -> bool:
    if narrow == wide:
        return True
    kinds = (jnp.complexfloating, jnp.floating, jnp.integer, jnp.bool_)
    alike = any(jnp.issubdtype(narrow, kind) and jnp.issubdtype(wide, kind) for kind in kinds)
    return alike and wider(wide, narrow) == wide


def sequence(xs: Any, input_ndim: int) -> tuple[int, tuple[int, ...]]:
    """The length and the batch shape of inputs [T, *B, ...]."""
    leaves = jax.tree.leaves(xs)
    if not leaves or not all(hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves):
        raise TypeError(f"xs: expected arrays [T, *batch, ...], got {describe(xs)}.")
    if min(leaf.ndim for leaf in leaves) < 1 + input_ndim:
        raise ValueError(
            f"xs: expected a time axis, then any batch axes, then {input_ndim} feature"
            f" {'axis' if input_ndim == 1 else 'axes'}, got {describe(xs)}."
        )
    leading = {leaf.shape[: leaf.ndim - input_ndim] for leaf in leaves}
    if len(leading) > 1:
        raise ValueError(f"xs: expected leaves that share time and batch axes, got {describe(xs)}.")
    length, *batch = leading.pop()
    return length, tuple(batch)


def _array(value: Any, kind: type) -> Any:
    """As it is, traced or in NumPy; an empty list is of this kind."""
    if isinstance(value, jax.core.Tracer):
        return value
    array = np.asarray(value)
    return array.astype(kind) if isinstance(value, list) and not array.size else array


def lengths(value: Any, batch_shape: tuple[int, ...], length: int) -> jax.Array:
    """int [*B], each within [0, T]; traced values are clipped."""
    array = _array(value, np.int32)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"lengths: expected integers, got {describe(array)}.")
    if array.shape != batch_shape:
        raise ValueError(
            f"lengths: expected shape {list(batch_shape)}, one per sequence, got {describe(array)}."
        )
    if isinstance(array, jax.core.Tracer):
        return jnp.clip(array.astype(wider(array.dtype, jnp.int32)), 0, length)  # 8 bits may not hold T
    if array.size and (array.min() < 0 or array.max() > length):
        raise ValueError(f"lengths: expected values from 0 to {length}, got {array.tolist()}.")
    return jnp.asarray(array, jnp.int32)


def flags(name: str, value: Any, shape: tuple[int, ...]) -> jax.Array:
    """bool [T, *B]."""
    array = _array(value, np.bool_)
    if array.dtype != jnp.bool_:
        raise TypeError(f"{name}: expected booleans, got {describe(array)}.")
    if array.shape != shape:
        raise ValueError(
            f"{name}: expected shape {list(shape)}, one per tick and sequence, got {describe(array)}."
        )
    return jnp.asarray(array)
