"""What convolutional cells refuse, and in which words."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import unroll
from rnncells.cells.convolutional.conv import ConvGRU, ConvLSTM
from tests.cells.test_convolutional import KEY, B, I, T

pytestmark = pytest.mark.usefixtures("x64")
CELL = ConvLSTM(2, (4, 5))
P = CELL.init(KEY, I)
XS = np.ones((T, B, 4, 5, I))
SIZES = r"x: expected \[\*batch, 4, 5, 3\], the spatial sizes being ConvLSTM.shape, got float64\["
BAD = [
    (lambda: ConvLSTM(2, ()), r"ConvLSTM.shape: expected a tuple of 1 to 3 spatial sizes.* got \(\)"),
    (lambda: ConvGRU(2, (2, 2, 2, 2)), r"ConvGRU.shape: expected .* got \(2, 2, 2, 2\)"),
    (lambda: ConvLSTM(2, 28), r"ConvLSTM.shape: expected a tuple .*got 28 \(int\)"),
    (lambda: ConvLSTM(2, (4, 0)), r"ConvLSTM.shape\[1\]: expected a positive int, got 0"),
    (lambda: ConvGRU(2, (4, 4), (3, 2)), r"ConvGRU.kernel_size: expected odd sizes.* got \(3, 2\)"),
    (lambda: ConvGRU(2, (4,), [3]), "ConvGRU.kernel_size: expected an odd int, or a tuple"),
    (lambda: ConvLSTM(2, (4, 4), (3, 3, 3)), r"kernel_size: .* or 2 of them.*\(4, 4\), got \(3, 3, 3\)"),
    (lambda: unroll(CELL, P, jnp.ones((T, B, 5, 4, I))), SIZES + "2,5,4,3"),
    (lambda: CELL(P, CELL.initial_carry(P, (B,)), jnp.ones((B, 4, 6, I))), SIZES + "2,4,6,3"),
    (lambda: CELL.project(P, jnp.ones((5, I))), SIZES + "5,3"),
    (lambda: unroll(CELL, P, XS[..., :2]), r"x: expected a last axis of 3 .* got float64\[2,4,5,2\]"),
    (lambda: unroll(CELL, P, XS[:, 0, 0]), "xs: expected a time axis, then .* then 3 feature axes"),
    (lambda: unroll(CELL, P, XS.astype(int)), "x: expected floating point inputs, got int64"),
    (lambda: unroll(CELL, ConvLSTM(2, (4, 5), 5).init(KEY, I), XS), r"params: .*\[3,3,3,8\].*\[5,5,3,8\]"),
    (lambda: unroll(dataclasses.replace(CELL, peepholes=True), P, XS), r"params: .*peephole: float32\["),
    (lambda: unroll(CELL, {"params": P}, XS), "params: .* got {params:"),
]


@pytest.mark.parametrize(("call", "sentence"), BAD)
def test_errors(call, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        call()
