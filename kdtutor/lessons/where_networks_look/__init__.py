"""Lesson 06, where the network looks: figures, widgets and checks."""
