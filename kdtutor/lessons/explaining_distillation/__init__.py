"""Lesson 10, explaining distillation: figures, widgets and checks."""
