"""Lesson 07, relations: figures, widgets and checks."""
