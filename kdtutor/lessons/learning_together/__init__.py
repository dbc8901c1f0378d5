"""Lesson 08, learning together: figures, widgets and checks."""
