"""Lesson 01, distilling MNIST: figures, widgets and checks."""
