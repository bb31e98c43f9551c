"""What is particular to a cell: its limits, its relatives, and the formulas that people print; by family."""
