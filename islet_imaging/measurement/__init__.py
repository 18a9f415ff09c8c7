"""One row per cell: what the pixels of its nucleus, its ring and its neighbours say.

The way in is :func:`islet_imaging.measurement.measure.measure_cells`.
"""
