"""The recurrent highway network: several gated layers between one tick and the next."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Weights, derived
from rnncells.fields import number, static
from rnncells.initializers import ForgetBias, Initializer, Uniform, forget_blocks, scheme
from rnncells.parts.arithmetic import dense, split_gates
from rnncells.parts.gated import DenseCell


class RHN(DenseCell):
    """Recurrent highway network: a state that passes L highway layers in every tick.

        s_0 = s
        h_l = tanh([x W_h] + s_(l-1) U_h,l + b_h,l)
        t_l = sigma([x W_t] + s_(l-1) U_t,l + b_t,l)
        c_l = 1 - t_l, or with coupled=False sigma([x W_c] + s_(l-1) U_c,l + b_c,l)
        s_l = h_l t_l + s_(l-1) c_l        for l = 1 ... L
        s' = s_L,    y = s'

    with sigma the logistic function. Terms in brackets are in the first layer alone. With L = 1 and coupled
    gates it is a `UGRNN` whose gate is 1 - t.

    Shapes: x [..., I], s and y [..., H]; kernel W [I, G H], recurrent_kernel U [H, L G H], bias b [L G H], of
    G = 2 gates h, t in each layer, or G = 3 gates h, t, c; layer after layer.

    Args:
        features: H.
        depth: L, 3 as in the authors' class; 10 in the paper's language models.
        coupled: whether c = 1 - t.
        forget_bias: initial -b_t (and b_c) of every layer; 2 by default, 4 in the paper's character models; a
            number, an array [H], or a scheme, drawn for each layer.
        kernel_init, recurrent_init: drawn for each gate; U(-1/sqrt(H), 1/sqrt(H)).
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Zilly, Srivastava, Koutnik & Schmidhuber 2017, arXiv 1607.03474. Their code draws kernels and the
    biases of h from U(-.04, .04) for every H; at their 830 units that is nearly the range here. The paper's
    variational dropout is the wrapper `VariationalDropout`.
    """

    paper = "Zilly, Srivastava, Koutnik & Schmidhuber 2017, arXiv 1607.03474"

    depth: int = static(default=3, check=checks.positive_int)
    coupled: bool = static(default=True)
    forget_bias: ForgetBias = number(default=2.0)
    kernel_init: Initializer = scheme(Uniform(), kw_only=True)
    recurrent_init: Initializer = scheme(Uniform(), kw_only=True)

    @derived
    def _of_layer(self) -> tuple[str, ...]:
        return ("h", "t") if self.coupled else ("h", "t", "c")

    @derived
    def gates(self) -> tuple[str, ...]:
        return tuple(f"{gate}_{layer}" for layer in range(1, self.depth + 1) for gate in self._of_layer)

    @derived
    def input_gates(self) -> tuple[str, ...]:
        return self.gates[: len(self._of_layer)]

    def added_biases(self, key: chex.PRNGKey, dtype: DTypeLike) -> dict[str, jax.Array]:
        added: dict[str, jax.Array] = {}
        for layer, own in enumerate(jax.random.split(key, self.depth), 1):
            kept = forget_blocks(self.forget_bias, own, self.features, dtype, keep="c")["c"]
            added |= {f"t_{layer}": -kept, f"c_{layer}": kept}
        return added

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        return dense(x, weights["kernel"])

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        kernel, bias = weights["recurrent_kernel"], weights.get("bias")
        count, state = len(self._of_layer), carry
        for layer in range(self.depth):
            columns = slice(layer * count * self.features, (layer + 1) * count * self.features)
            fused = dense(state, kernel[:, columns], None if bias is None else bias[columns])
            if layer == 0:
                fused = drive + fused
            new, *gates = split_gates(fused, count)
            transform, *kept = map(jax.nn.sigmoid, gates)
            keep = 1 - transform if self.coupled else kept[0]
            state = jnp.tanh(new) * transform + state * keep
        return state, state
