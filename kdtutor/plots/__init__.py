"""Figures as pure functions of data, one module per theme; ``style`` is how they all look."""
