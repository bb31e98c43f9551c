"""Cells whose gates share fused kernels, block by block.

ProjectedCell    kernel and bias: the input alone
DenseCell        and a recurrent kernel
GatedCell        and a forget bias
"""

from __future__ import annotations

from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Cell, Drive, Params, Weights
from rnncells.fields import number, static
from rnncells.initializers import (
    ForgetBias,
    Glorot,
    Initializer,
    Orthogonal,
    Zeros,
    forget_blocks,
    fuse,
    gate_kernel,
    scheme,
)
from rnncells.parts.arithmetic import align, dense, split_gates


class ProjectedCell(Cell):
    """kernel [I, G*H] and bias [G*H], the gates fused in the order of `gates`; the drive is x W + b.

    Where a gate has no block in one of the two, subclasses name those that have: `input_gates`,
    `biased_gates`. The drive then holds the gates that have either, and `split_drive` takes it apart by name.
    Gates of another width than H are said by `block`.
    A subclass with a gate that keeps the past (`keep`), or one that lets the new value in (`write`), has a
    field `forget_bias`.
    """

    input_gates: ClassVar[tuple[str, ...] | None] = None
    """Gates that read the input; all by default."""
    biased_gates: ClassVar[tuple[str, ...] | None] = None
    """Gates with a bias; all by default."""
    unsigned_gates: ClassVar[tuple[str, ...]] = ()
    """Gates that do not change sign with their blocks: products, and what takes the input itself."""
    keep: ClassVar[str] = ""
    write: ClassVar[str] = ""

    features: int = static(check=checks.positive_int)
    kernel_init: Initializer = scheme(Glorot(), kw_only=True)
    bias_init: Initializer = scheme(Zeros(), kw_only=True)
    use_bias: bool = static(default=True, kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        kernel_key, bias_key = jax.random.split(key)
        return self.input_params(kernel_key, bias_key, input_size, dtype)

    def input_params(
        self, kernel_key: chex.PRNGKey, bias_key: chex.PRNGKey, input_size: int, dtype: DTypeLike
    ) -> Params:
        """kernel and bias, where any gate has one."""
        size, params = self.block("kernel"), {}
        if count := len(self._named("input_gates")):
            params["kernel"] = gate_kernel(self.kernel_init, kernel_key, input_size, size, count, dtype)
        if gates := self._named("biased_gates"):
            added = self.added_biases(bias_key, dtype)
            blocks = [self.bias_init(k, (size,), dtype) for k in jax.random.split(bias_key, len(gates))]
            params["bias"] = fuse(
                [
                    jax.tree.map(lambda leaf, more=added[gate]: leaf + more, block)
                    if gate in added
                    else block
                    for gate, block in zip(gates, blocks, strict=True)
                ]
            )
        return params

    def added_biases(self, key: chex.PRNGKey, dtype: DTypeLike) -> dict[str, jax.Array]:
        """What is added to the biases [H] that `bias_init` draws, by gate: the forget bias."""
        if not (self.keep or self.write):
            return {}
        bias: ForgetBias = self.forget_bias  # type: ignore[attr-defined]
        return forget_blocks(bias, key, self.block("kernel"), dtype, keep=self.keep, write=self.write)

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> Drive:
        read, biased = self._named("input_gates"), self._named("biased_gates")
        if read == biased or not biased:
            return dense(x, weights["kernel"], weights.get("bias"))
        product, bias = dense(x, weights["kernel"]), weights["bias"]
        if read != self._driven:
            blocks = self._blocks(product, read)
            none = jnp.zeros_like(next(iter(blocks.values())))
            product = jnp.concatenate([blocks.get(gate, none) for gate in self._driven], -1)
        if biased != self._driven:
            blocks = self._blocks(bias, biased)
            none = jnp.zeros_like(next(iter(blocks.values())))
            bias = jnp.concatenate([blocks.get(gate, none) for gate in self._driven])
        return product + align(bias.astype(product.dtype), product)

    def split_drive(self, drive: jax.Array) -> dict[str, jax.Array]:
        """The drive of each gate that has one, [..., H], by name."""
        return self._blocks(drive, self._driven)

    def split_bias(self, weights: Weights) -> dict[str, jax.Array]:
        """The bias [H] of each gate that has one, by name."""
        return self._blocks(weights["bias"], self._named("biased_gates")) if "bias" in weights else {}

    @staticmethod
    def _blocks(fused: jax.Array, gates: tuple[str, ...]) -> dict[str, jax.Array]:
        return dict(zip(gates, split_gates(fused, len(gates)), strict=True))

    def _named(self, which: str) -> tuple[str, ...]:
        if which == "biased_gates" and not self.use_bias:
            return ()
        named: tuple[str, ...] | None = getattr(self, which)
        return self.gates if named is None else named

    @property
    def _driven(self) -> tuple[str, ...]:
        """Gates with a block in the drive."""
        either = {*self._named("input_gates"), *self._named("biased_gates")}
        return tuple(gate for gate in self.gates if gate in either)


class DenseCell(ProjectedCell):
    """kernel [I, G*H], recurrent_kernel [H, G*H] and bias [G*H].

    Subclasses name their `gates` (and `recurrent_gates`, where not all of them read the state) and write
    `step`.
    """

    recurrent_gates: ClassVar[tuple[str, ...] | None] = None
    """Gates that read the state; all by default."""

    recurrent_init: Initializer = scheme(Orthogonal(), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        kernel_key, recurrent_key, bias_key = jax.random.split(key, 3)
        params = self.input_params(kernel_key, bias_key, input_size, dtype)
        rows, size = self.features, self.block("recurrent_kernel")
        count = len(self._named("recurrent_gates"))
        kernel = gate_kernel(self.recurrent_init, recurrent_key, rows, size, count, dtype)
        return {**params, "recurrent_kernel": kernel}

    def split_recurrent(self, product: jax.Array) -> dict[str, jax.Array]:
        """What the state gives to each gate that reads it, [..., H], by name."""
        return self._blocks(product, self._named("recurrent_gates"))


class GatedCell(DenseCell):
    """A `DenseCell` with a gate that decides how long a memory lives: `keep` or `write` names it."""

    emits: ClassVar[str] = ""
    """The field of the state that is the output, and that the recurrent kernel alone reads, if any."""

    forget_bias: ForgetBias = number(default=0.0)
