"""Lesson 02, why soft targets work: figures, widgets and checks."""
