"""The ways to find a cut, one file each.

The idea: each takes the intensities of one staining run and gives a
:class:`~islet_imaging.positivity.threshold.Threshold`; which one is used is the protocol's word.
A method fails by saying "not estimable", with the reason, never by a cut that is there by force.
"""
