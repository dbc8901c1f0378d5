"""One switch for how much a lesson trains: the environment variable ``KDTUTOR_BUDGET``.

``smoke``: seconds, for tests.  ``cpu`` (the default): minutes on two cores, what the committed
outputs show. ``full``: the published scale, for a GPU or a patient night."""

import os

BUDGETS = ("smoke", "cpu", "full")


def budget() -> str:
    """The current budget, from ``KDTUTOR_BUDGET``.

    Returns:
        "smoke", "cpu" (the default) or "full".

    Raises:
        ValueError: If the variable is set to something else than the three names.
    """
    name = os.environ.get("KDTUTOR_BUDGET", "cpu")
    if name not in BUDGETS:
        raise ValueError(
            f"KDTUTOR_BUDGET={name!r}: expected one of {', '.join(BUDGETS)}. Unset it for the "
            "default, cpu."
        )
    return name


def pick(*, smoke, cpu, full):
    """The argument that belongs to the current budget.

    Args:
        smoke: For tests.
        cpu: For two cores.
        full: For the published scale.

    Returns:
        One of the three.

    Raises:
        ValueError: As ``budget`` does.

    Example:
        >>> pick(smoke=1, cpu=10, full=200) in (1, 10, 200)
        True
    """
    return {"smoke": smoke, "cpu": cpu, "full": full}[budget()]
