"""``python -m islet_imaging`` is the command line."""

from islet_imaging.cli import main

main()
