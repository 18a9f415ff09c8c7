"""Three numbers that turn levels into a probability, learned from random phantoms.

The idea: of all features tried, two carry nearly everything once neighbours' light is taken away:
the own level against that of the run's positive cells, and against the noise of its negative cells.
The weights of a logistic of the two were fitted on phantoms with random optics, stains and
compositions by ``benchmarks/positivity/train.py``, which prints this file's numbers.
They fail on stainings whose dim positives are dimmer, or whose negatives are brighter, relative to
the typical positive cell than in the phantoms.
"""

from __future__ import annotations

#: of log(own / bright + 0.05 + 0.1 * spill / bright), of asinh(own / soft), and a constant
WEIGHTS = (0.94, 0.75, -1.48)
#: the positive level is taken to be at least this many spreads of negative cells
FLOOR = 15.0
