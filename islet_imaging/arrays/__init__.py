"""Plain arrays and label images: statistics over labels, label files, masks as text, resampling.

Knows nothing of stains, cells or islets; every step may use it.
"""
