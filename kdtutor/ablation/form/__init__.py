"""The bench as a form in a notebook: ``bench(store)``. Needs the notebook stack; nothing else in
the bench does.
"""

from .form import bench

__all__ = ["bench"]
