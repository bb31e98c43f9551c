"""LSTMP: an LSTM with more memory than what recurs."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Out, Outputs, Params, Shape, Weights
from rnncells.cells.gated.lstm import LSTMCarry, PeepholeLSTM
from rnncells.dtypes import dtype_of
from rnncells.fields import static
from rnncells.initializers import Glorot, Initializer, gate_kernel, scheme
from rnncells.parts.arithmetic import dense


def _width(name: str, value: Any) -> None:
    if value is not None:
        checks.positive_int(name, value)


class LSTMP(PeepholeLSTM):
    """LSTM whose recurrence, and output, is a narrow projection of what its memory shows.

        i = s(x W_i + r U_i + p_i c + b_i)      f = s(x W_f + r U_f + p_f c + b_f)
        c' = f c + i a(x W_g + r U_g + b_g)
        o = s(x W_o + r U_o + p_o c' + b_o)     m = o t(c')
        r' = m R,    y = r'                     or y = (r', m D), with direct

    Products with p are elementwise. The memory costs 4 I + 5 P weights for each of its H cells, where an LSTM
    of that size has 4 I + 4 H.

    Shapes: x [..., I], carry `LSTMCarry(cell, hidden)` of c [..., H] and r [..., P], y [..., P], or
    [..., P + Q] with a direct projection of width Q; kernel W [I, 4H], recurrent_kernel U [P, 4H], bias
    b [4H], gates in the order i, f, g, o; peephole p [3, H] in the order i, f, o; projection_kernel R [H, P]
    and, with direct, direct_kernel D [H, Q].

    Args:
        features: H.
        size: P; a quarter of H by default, as the 512 of 2048 in the paper's large networks.
        direct: Q, the width of a second projection, which goes to the output alone; none by default.
        projection_init: of R and D; Glorot uniform.
        forget_bias, kernel_init, recurrent_init, peephole_init and the activations: as PeepholeLSTM.

    Source: Sak, Senior & Beaufays 2014, arXiv 1402.1128; with direct their second architecture. They draw all
    weights small and uniform, and clip the memory at 50, for networks of thousands of cells; here the weights
    are drawn as those of the other LSTMs and nothing is clipped. Without peepholes it is
    `Projection(LSTM(H), P)`, PyTorch's `proj_size`.
    """

    paper = "Sak, Senior & Beaufays 2014, arXiv 1402.1128"
    emits = ""

    size: int | None = static(default=None, check=_width)
    direct: int | None = static(default=None, check=_width)
    projection_init: Initializer = scheme(Glorot(), kw_only=True)

    @property
    def projected(self) -> int:
        """P."""
        return max(1, self.features // 4) if self.size is None else self.size

    @property
    def output_size(self) -> int:
        return self.projected + (self.direct or 0)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, recurrent_key, *keys = jax.random.split(key, 4)
        size = self.features
        kernel = gate_kernel(self.recurrent_init, recurrent_key, self.projected, size, 4, dtype)
        params = super().init(key, input_size, dtype) | {"recurrent_kernel": kernel}
        widths = {"projection_kernel": self.projected, "direct_kernel": self.direct}
        return params | {
            name: self.projection_init(own, (size, width), dtype)
            for own, (name, width) in zip(keys, widths.items(), strict=True)
            if width is not None
        }

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> LSTMCarry:
        widths, dtype = (self.features, self.projected), dtype_of(params, like)
        return LSTMCarry(*(jnp.zeros((*batch_shape, width), dtype) for width in widths))

    def step(self, weights: Weights, carry: LSTMCarry, drive: jax.Array) -> tuple[LSTMCarry, Out]:
        (cell, _), shown = super().step(weights, carry, drive)
        recurrent = dense(shown, weights["projection_kernel"])
        return LSTMCarry(cell, recurrent), recurrent if self.direct is None else (recurrent, shown)

    def readout(self, weights: Weights, out: Out, drive: jax.Array) -> Outputs:
        if self.direct is None:
            return out
        recurrent, shown = out
        return jnp.concatenate([recurrent, dense(shown, weights["direct_kernel"])], -1)
