"""Infilling as the paper has it (§2.3): splits, layouts, and what is cut from a generated middle. Pure Python.

Training, generation, serving and evaluation all build their infill ids here (law 2), so a model meets at the
cursor exactly what it was trained on.
"""
