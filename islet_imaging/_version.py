"""The version, in this one place: the package, its metadata and the docs take it from here."""

__version__ = "0.1.0"
