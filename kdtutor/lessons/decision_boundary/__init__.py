"""Lesson 04, the decision boundary: figures, widgets and checks."""
