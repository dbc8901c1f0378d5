"""Lesson 14, the ablation bench: figures, widgets and checks."""
