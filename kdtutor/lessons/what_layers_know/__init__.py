"""Lesson 05, what the layers know: figures, widgets and checks."""
