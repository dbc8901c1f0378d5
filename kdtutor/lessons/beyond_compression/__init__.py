"""Lesson 09, beyond compression: figures, widgets and checks."""
