"""The parts of ``benchmarks/gpu.py``, in order of worth. Each is a module with

``COLUMNS``  the columns that name a row
``NOTE``     a sentence for the head of its table
``cells``    (options) -> its cells: what is measured in one piece, and stays measured

The table of a part is ``gpu_<name>.csv``. A part runs in a process of its own, without the notebook
stack, without pandas, without a network."""

PARTS = (
    "tests",
    "speed",
    "cache",
    "methods",
    "sharing",
    "entropy",
    "compiled",
    "lessons",
    "minutes",
    "table3",
)

BROKEN = 3  # the exit status after an error from which CUDA does not recover
