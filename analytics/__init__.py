"""Maths: cells and their algebra, fits, allocation, simulation. Pure functions of values; no I/O."""
