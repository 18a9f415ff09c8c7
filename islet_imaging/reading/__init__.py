"""From files to named channels.

The idea: content, not suffix, decides how a file is opened; every format becomes a `Source`; one
function binds that to a protocol's channels and scale.  It fails with an `ImageReadError`,
`ChannelError` or `PixelSizeError` that names the file and says what to do, never with another
library's exception.
"""

from islet_imaging.reading.read import read_image

__all__ = ["read_image"]
