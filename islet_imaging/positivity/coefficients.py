"""A few numbers that turn intensities into a probability, learned from random phantoms.

The idea: of all features tried, four carry nearly everything once neighbours' light is taken away:
the own intensity against that of the run's positive cells, against the noise of its negative cells,
the evidence of the run's two populations (of its controls, where populations are not separate), and
how much of neighbours' light was taken away, since what is left of it looks like the cell's own.
The weights of a logistic of the four were fitted on phantoms with random optics, stains and
compositions by ``benchmarks/positivity/train.py``.  With the network's other weights as they are it
asks for 1.18 of light left over and a constant of 5.40, and on phantoms with granular and uneven
stains for 1.23 and 5.87; what stands here is a little less of both, by which granules and thick
sections are read better (``patterns.py``, ``run.py``).
They fail on stainings whose dim positives are dimmer, or whose negatives are brighter, relative to
the typical positive cell than in the phantoms.
"""

from __future__ import annotations

Coefficients = tuple[float, float, float, float]
Learned = tuple[Coefficients, float, float, float]

#: of log(own / bright + 0.05 + 0.1 * spill / bright), asinh(own / soft), asinh(mix / 2), constant
COEFFICIENTS: Coefficients = (1.323, 0.645, 0.421, 1.437)
#: without and with the network: the four, the weight of light left over, then the weights of the
#: own light that the network sees and of its logit
BY_LEVELS: Learned = (COEFFICIENTS, 1.0, 0.0, 0.0)
BY_NETWORK: Learned = ((1.433, 0.0, 0.0, 5.15), 0.95, 1.019, 0.489)
#: where no cut can be had: log odds = slope * network logit + constant
LOGIT_ALONE = (1.006, 0.843)
#: the positive level is taken to be at least this many spreads of negative cells
FLOOR = 15.0
