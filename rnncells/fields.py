"""What objects of this library are: frozen dataclasses that are pytrees, and the kinds of their fields.

static()       decides shapes or control flow: part of the compiled program
choice()       static, one of several words
number()       a leaf: may be traced, swept and differentiated
converted()    takes shorthands, such as the name of an activation
inner()        another cell
data()         arrays that travel with an object and are no hyperparameters
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeAlias, dataclass_transform

import flax.serialization
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from rnncells import checks

Number: TypeAlias = float | jax.Array | np.ndarray
Check: TypeAlias = Callable[[str, Any], object]


def static(*, default: Any = dataclasses.MISSING, check: Check | None = None, kw_only: bool = False) -> Any:
    """A field that decides shapes or control flow: part of the compiled program, never traced."""
    if check is None and isinstance(default, bool):
        check = checks.boolean
    return flax.struct.field(pytree_node=False, default=default, metadata={"check": check}, kw_only=kw_only)


def choice(*known: str, default: str, kw_only: bool = False) -> Any:
    """A static field that is one of these words."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in known:
            *others, last = map(repr, known)
            raise ValueError(f"{name}: expected {', '.join(others)} or {last}, got {value!r}.")

    metadata = {"check": check, "words": known}
    return flax.struct.field(pytree_node=False, default=known[0], metadata=metadata, kw_only=kw_only)


def number(*, default: Any = dataclasses.MISSING, low: float | None = None, high: float | None = None) -> Any:
    """A numeric field within [low, high]: a leaf of the pytree, so it may be traced, swept and
    differentiated."""
    return flax.struct.field(default=default, metadata={"low": low, "high": high})


def converted(
    *, convert: Callable[[str, Any], Any], default: Any = dataclasses.MISSING, kw_only: bool = False
) -> Any:
    """A field that holds a pytree and also takes what `convert(name, value)` makes into one. `convert` hands
    on what it does not know: unflattening puts placeholders into fields."""
    if default is not dataclasses.MISSING:
        default = convert("default", default)
    return flax.struct.field(default=default, metadata={"convert": convert}, kw_only=kw_only)


def data(*, default: Any = None) -> Any:
    """Arrays that travel with an object and are no hyperparameters: traced and differentiated as its
    leaves, but not checked for being finite; such as the memory that a decoder attends to."""
    return flax.struct.field(default=default, metadata={"data": True})


def inner(*, default: Any = dataclasses.MISSING) -> Any:
    """A field that holds another cell; with `default=None`, or none. Checked when it is used: a twin of the
    object that holds axes for `jax.vmap`, with None or an int in place of the cell, is legal."""

    def check(name: str, value: Any) -> None:
        if default is not None or value is not None:
            checks.cell(name, value)

    return flax.struct.field(default=default, metadata={"check": checks.not_a_class, "check_in_use": check})


@dataclass_transform(
    frozen_default=True,
    field_specifiers=(static, choice, number, converted, data, inner, flax.struct.field),
)
class Pytree:
    """A frozen dataclass that is a pytree: `static` fields in its type, numbers as its leaves.

    Equal by value: `==` always returns one bool. Hashable as long as every field is, that is, with
    plain numbers; with array fields an object travels through JAX as a pytree instead.
    """

    _flax_dataclass: ClassVar[bool]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        _register(cls)

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = f"{type(self).__name__}.{field.name}", getattr(self, field.name)
            if convert := field.metadata.get("convert"):
                object.__setattr__(self, field.name, convert(name, value))
            if check := field.metadata.get("check"):
                check(name, value)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        changed: Self = dataclasses.replace(self, **changes)  # type: ignore[type-var]
        return changed

    def _values(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(self)]

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        return all(map(_equal, self._values(), other._values()))

    def __hash__(self) -> int:
        return hash((type(self), *self._values()))

    def __repr__(self) -> str:
        """`LSTM(features=64)`: the fields that are not at their defaults."""
        own = [
            f"{field.name}={checks.describe(value) if hasattr(value, 'dtype') else repr(value)}"
            for field, value in zip(fields(self), self._values(), strict=True)
            if not _equal(value, field.default)
        ]
        return f"{type(self).__name__}({', '.join(own)})"


def _register(cls: type[Pytree]) -> None:
    """What `flax.struct.dataclass` does, but for one thing: the structures of two dataclasses that JAX
    flattens by itself are equal where their fields are, whatever their classes (seen in 0.10 and 0.12), and
    the compiled program of one cell may then serve another. With functions of its own a class counts."""
    kinds = {field.name: field.metadata.get("pytree_node", True) for field in fields(cls)}
    leaves = tuple(name for name, is_leaf in kinds.items() if is_leaf)
    statics = tuple(name for name, is_leaf in kinds.items() if not is_leaf)

    def flatten(self: Pytree) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(self, name) for name in leaves), tuple(getattr(self, name) for name in statics)

    def with_keys(self: Pytree) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, aux = flatten(self)
        return tuple(zip(map(jax.tree_util.GetAttrKey, leaves), children, strict=True)), aux

    def unflatten(aux: tuple[Any, ...], children: Any) -> Pytree:
        return cls(**dict(zip(statics, aux, strict=True)), **dict(zip(leaves, children, strict=True)))

    def state(self: Pytree) -> dict[str, Any]:
        return {name: flax.serialization.to_state_dict(getattr(self, name)) for name in leaves}

    def restored(self: Pytree, saved: dict[str, Any]) -> Pytree:
        own = {name: getattr(self, name) for name in leaves}
        return self.replace(**flax.serialization.from_state_dict(own, saved))

    jax.tree_util.register_pytree_with_keys(cls, with_keys, unflatten, flatten)
    flax.serialization.register_serialization_state(cls, state, restored)
    cls._flax_dataclass = True  # and so the decorator leaves it as it is


def fields(owner: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(owner)


def _equal(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if a is None or b is None or b is dataclasses.MISSING:
        return False
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        return False
    if isinstance(a, (jax.Array, np.ndarray)) or isinstance(b, (jax.Array, np.ndarray)):
        alike = jnp.shape(a) == jnp.shape(b) and jnp.result_type(a) == jnp.result_type(b)
        return alike and bool(np.array_equal(a, b))
    return bool(a == b)


def check_numbers(owner: Any) -> None:
    """The numeric fields of an object, nested ones included, where they are concrete; and that what is in use
    as a cell is one."""
    for field in fields(owner):
        if not field.metadata.get("pytree_node", True) or field.metadata.get("data"):
            continue
        name = f"{type(owner).__name__}.{field.name}"
        value = getattr(owner, field.name)
        if check := field.metadata.get("check_in_use"):
            check(name, value)
        for part in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(part):
                check_numbers(part)
            elif callable(part):
                raise TypeError(
                    f"{name}: expected a pytree dataclass, such as the schemes of rnncells.initializers,"
                    f" got {checks.describe(part)}."
                )
            else:
                for leaf in jax.tree.leaves(part):
                    checks.number(name, leaf, field.metadata.get("low"), field.metadata.get("high"))
