"""Lesson 03, Born-Again networks: figures, widgets and checks."""
