"""A review without a window: what is open, what is queued, what was edited, what is drawn.

Nothing here knows of Qt.
"""
