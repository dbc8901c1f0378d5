"""One folder per lesson: its figures (pure functions of data), its widgets (sliders on top of them)
and its checks.
"""
