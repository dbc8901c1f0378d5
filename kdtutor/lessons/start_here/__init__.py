"""Lesson 00, start here: figures, widgets and checks."""
