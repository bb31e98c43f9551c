"""What libraries do differently with the gates of one cell: signs, and a second bias."""

from __future__ import annotations

from rnncells.cell import Cell, Params
from rnncells.cells.gated.gru import GRU
from rnncells.convert.arrays import Array, concatenate, fuse, listed, parameters, split, zeros
from rnncells.parts.gated import DenseCell, ProjectedCell


def negate_gate(cell: Cell, params: Params, gate: str) -> Params:
    """The parameters with what one gate computes before its activation negated.

        params = negate_gate(GRU(8, reset_after=False), params, "z")

    A logistic gate s(a) becomes s(-a) = 1 - s(a), its complement. So this turns the GRU's z of papers
    that let the new value in with it (h' = (1 - z) h + z n) into ours, which keeps the past, and back:
    it is its own inverse.

    Args:
        cell: with gates that are all in `kernel`, `recurrent_kernel` and `bias`: a `ProjectedCell`,
            `DenseCell` or `GatedCell`. Of a wrapped cell, give the inner one and its params.
        params: of the cell.
        gate: one of `cell.gates` that changes sign with its parameters: the m of a `MultiplicativeLSTM`, a
            product of two sides, does not, nor does a gate that takes the input itself.

    Raises:
        ValueError: for another gate, a cell without gates, or one with parameters beside those three
            that act on its gates (peepholes, normalisation); and for params of another tree.
    """
    if not isinstance(cell, ProjectedCell):
        raise ValueError(f"cell: expected a cell whose gates share fused kernels, got {cell}.")
    signed = [name for name in cell.gates if name not in cell.unsigned_gates]
    if gate not in signed:
        raise ValueError(
            f"gate: expected one of {', '.join(signed)}, the gates of {cell} that change sign with their"
            f" parameters, got {gate!r}."
        )
    declared = {
        "kernel": cell.input_gates,
        "recurrent_kernel": cell.recurrent_gates if isinstance(cell, DenseCell) else (),
        "bias": cell.biased_gates,
        "recurrent_bias": ("n",) if isinstance(cell, GRU) else (),
    }
    fused = {name: cell.gates if gates is None else gates for name, gates in declared.items()}
    params = parameters(cell, params)
    if others := [name for name in params if not fused.get(name)]:
        raise ValueError(
            f"cell: expected gates that kernel, recurrent_kernel and bias make alone, got {cell}, which has"
            f" {listed(others)} as well."
        )
    if not any(gate in fused[name] for name in params):
        raise ValueError(f"gate: expected one with a kernel or a bias, got {gate!r} of {cell}.")

    def negated(leaf: Array, gates: tuple[str, ...]) -> Array:
        if gate not in gates:
            return leaf
        blocks = split(leaf, gates)
        return fuse({**blocks, gate: -blocks[gate]}, gates)

    return {name: negated(leaf, fused[name]) for name, leaf in params.items()}


def one_bias(cell: Cell, bias: Array, recurrent_bias: Array) -> dict[str, Array]:
    """Our biases for a library that has one beside each kernel, both [G*H] in the order of our gates:
    only inside r (h U_n + q) do they differ."""
    if not (isinstance(cell, GRU) and cell.reset_after):
        return {"bias": bias + recurrent_bias}
    ours, theirs = split(bias, cell.gates), split(recurrent_bias, cell.gates)
    summed = {"r": ours["r"] + theirs["r"], "z": ours["z"] + theirs["z"], "n": ours["n"]}
    return {"bias": fuse(summed, cell.gates), "recurrent_bias": theirs["n"]}


def two_biases(params: Params) -> tuple[Array, Array]:
    """Biases [G*H] for a library that has one beside each kernel: ours in the first, but for q."""
    bias = params["bias"]
    recurrent = zeros(bias.shape, bias)
    if "recurrent_bias" in params:
        q = params["recurrent_bias"]
        recurrent = concatenate([recurrent[: -q.shape[0]], q])
    return bias, recurrent


def with_biases(cell: Cell, params: Params) -> Params:
    """The parameters of a cell with `use_bias=False` as those of one with biases."""
    if "bias" in params:
        return params
    kernel = params["kernel"]
    params = {**params, "bias": zeros((kernel.shape[1],), kernel)}
    if isinstance(cell, GRU) and cell.reset_after:
        params["recurrent_bias"] = zeros((cell.features,), kernel)
    return params
