"""The napari plugin of islet-imaging."""
