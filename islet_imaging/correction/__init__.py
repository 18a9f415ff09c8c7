"""Correction of pixels before anything is measured: offset, flat field, background, bleed-through.

The way in is :func:`islet_imaging.correction.image.correct_image`.
"""
