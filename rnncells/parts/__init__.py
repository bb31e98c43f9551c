"""What cells are made of.

gated.py         DenseCell and GatedCell: fused kernels, gate by gate
raw_input.py     RawInput: an input that meets the state itself
linear.py        LinearCell: a step that is its monoid's
diagonal.py      what diagonal recurrences share: averages, rings, continuous time
cascade.py       linear recurrences one after the other, as one cell
activations.py   activations as fields, by name or with numbers
arithmetic.py    products, gates, normalisation
integrators.py   steps of differential equations, and the time that they take
orthogonal.py    maps that keep lengths, and the cells that step with them
memory.py        cells whose memory is a matrix for each head
key_value.py     matrices that keys and values write into, and their chunks
stand_ins.py     what may take the place of a kernel: masked, factored, in integers, normalised
hippo.py         fixed matrices that write a signal in Legendre polynomials
"""
