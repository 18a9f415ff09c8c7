"""What only training needs: data, losses, loops, evaluation, export of weights and their cards.

Needs the `train` extra; inference in :mod:`islet_imaging.network` needs nothing of it.
"""
