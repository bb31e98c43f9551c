"""What cells are made of.

gated.py         DenseCell and GatedCell: fused kernels, gate by gate
linear.py        LinearCell: a step that is its monoid's
activations.py   activations as fields, by name or with numbers
arithmetic.py    products, gates, normalisation
stand_ins.py     what may take the place of a kernel: masked, factored, normalised
hippo.py         fixed matrices that write a signal in Legendre polynomials
"""
