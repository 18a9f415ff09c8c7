"""Phantoms: synthetic stained islets whose every cell is known.

The idea: a scene in three dimensions, cut, looked at through a lens and photographed, with the
truth kept at each step. It is the demonstration, the test data, the training data and the ruler.
How it fails: see ``docs/phantom.md`` for what still differs from real stainings.

The package itself can be called: ``islet_imaging.phantom(...)`` is the function `phantom`
whether or not the package was imported before, although both carry the same name.
"""

from __future__ import annotations

from islet_imaging._callable_package import make_callable
from islet_imaging.phantom.experiment import write_experiment
from islet_imaging.phantom.parameters import PhantomParameters
from islet_imaging.phantom.pattern import PATTERNS, random_pattern
from islet_imaging.phantom.presets import HARD_PRESETS, PRESETS, get_preset
from islet_imaging.phantom.random import random_parameters
from islet_imaging.phantom.render import phantom
from islet_imaging.phantom.truth import Phantom, PhantomTruth

__all__ = [
    "HARD_PRESETS",
    "PATTERNS",
    "PRESETS",
    "Phantom",
    "PhantomParameters",
    "PhantomTruth",
    "get_preset",
    "phantom",
    "random_parameters",
    "random_pattern",
    "write_experiment",
]

make_callable(__name__, phantom)
