"""Errors that a user can act on.

The idea: whatever goes wrong with a file, a protocol or a request is raised as one family that
says which file, what is wrong and what to do.  A batch run catches exactly this family (and
whatever a reader library throws is turned into it), notes the message beside the image and goes on.
It fails when code raises a bare ``ValueError`` for something the user caused.
"""

from __future__ import annotations


class IsletImagingError(ValueError):
    """Base of all errors with a message meant for the user.

    Examples
    --------
    >>> from islet_imaging import IsletImagingError, read_image
    >>> try:
    ...     read_image("nowhere.tif")
    ... except IsletImagingError as error:
    ...     print(error)
    nowhere.tif: there is no such file; check the path
    """


class ImageReadError(IsletImagingError):
    """A file cannot be read as a stained image."""


class PixelSizeError(IsletImagingError):
    """A length in micrometres is needed and the pixel size is not known."""


class ChannelError(IsletImagingError):
    """A channel that was asked for is not in the image, or its name is ambiguous."""


class ProtocolError(IsletImagingError):
    """A protocol or sample sheet holds something that is not allowed."""


class ModelError(IsletImagingError):
    """A network's files are missing, damaged or of another kind than asked for."""


class NotEstimableError(IsletImagingError):
    """A number was asked for that the data cannot support."""


class Cancelled(IsletImagingError):  # noqa: N818 - an answer to a wish, not an error
    """The caller asked a long computation to stop."""
