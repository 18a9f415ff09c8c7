"""A few numbers that turn intensities into a probability, learned from random phantoms.

The idea: of all features tried, three carry nearly everything once neighbours' light is taken away:
the own intensity against that of the run's positive cells, against the noise of its negative cells,
and the evidence of the run's two populations (of its controls, where populations are not separate).
The weights of a logistic of the three were fitted on phantoms with random optics, stains and
compositions by ``benchmarks/positivity/train.py``, which prints this file's numbers.
They fail on stainings whose dim positives are dimmer, or whose negatives are brighter, relative to
the typical positive cell than in the phantoms.
"""

from __future__ import annotations

Coefficients = tuple[float, float, float, float]
Learned = tuple[Coefficients, float, float]

#: of log(own / bright + 0.05 + 0.1 * spill / bright), asinh(own / soft), asinh(mix / 2), constant
COEFFICIENTS: Coefficients = (1.818, 0.524, 0.286, 1.172)
#: without and with the network: the four, then the weights of the own light that it sees and of its
#: logit
BY_LEVELS: Learned = (COEFFICIENTS, 0.0, 0.0)
BY_NETWORK: Learned = ((1.433, 0.0, 0.0, 4.581), 1.019, 0.489)
#: where no cut can be had: log odds = slope * network logit + constant
LOGIT_ALONE = (1.061, -0.030)
#: the positive level is taken to be at least this many spreads of negative cells
FLOOR = 15.0
