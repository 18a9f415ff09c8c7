"""A few numbers that turn levels into a probability, learned from random phantoms.

The idea: of all features tried, three carry nearly everything once neighbours' light is taken away:
the own level against that of the run's positive cells, against the noise of its negative cells, and
the evidence of the run's two populations (of its controls, where populations are not separate).
The weights of a logistic of the three were fitted on phantoms with random optics, stains and
compositions by ``benchmarks/positivity/train.py``, which prints this file's numbers.
They fail on stainings whose dim positives are dimmer, or whose negatives are brighter, relative to
the typical positive cell than in the phantoms.
"""

from __future__ import annotations

Weights = tuple[float, float, float, float]
Learned = tuple[Weights, float]

#: of log(own / bright + 0.05 + 0.1 * spill / bright), asinh(own / soft), asinh(mix / 2), constant
WEIGHTS: Weights = (1.818, 0.524, 0.286, 1.172)
#: the same of the network's own light, and the weight of its log odds from the picture alone
NETWORK_WEIGHTS: Learned = ((1.387, 0.370, 0.283, 1.109), 0.231)
#: where no cut can be had: log odds = slope * picture + constant
PICTURE_ALONE = (1.149, -0.039)
#: the positive level is taken to be at least this many spreads of negative cells
FLOOR = 15.0
