"""The viewer's side: layers, text, the histogram, and work beside the window."""
