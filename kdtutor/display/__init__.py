"""How things are shown: the style of figures, the panel of widgets, the one progress bar."""
