"""Corrections by people: their journal, their replay on cells, the agreement of reviewers."""
