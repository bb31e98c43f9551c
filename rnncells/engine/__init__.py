"""How a cell runs over a sequence.

loops.py         which loop: one tick after the other, in chunks, or all at once
scan.py          a `jax.lax.scan` with a fast gradient, for any body
body.py          how it reads the body
linear_call.py   a linear function with a transpose of its own
"""
