"""The seam: a distiller is a plan, stages in time, and in each stage players that minimise named
loss terms over their own parameters.
"""
