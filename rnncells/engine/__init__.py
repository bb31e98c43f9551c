"""How a cell runs over a sequence.

loops.py         which loop: one tick after the other, in chunks, or all at once
chunks.py        a sequence in chunks of ticks
scan.py          a `jax.lax.scan` with a fast gradient, for any body
backward.py      its backward pass
body.py          how it reads the body
program.py       what it reads it as, and how that runs
products.py      products with weights, and their derivatives
linear_call.py   a linear function with a transpose of its own
"""
