"""The checks of the assignments, one module each, named as its notebook."""
