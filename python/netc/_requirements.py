"""What has to be there, said in words before the native part fails without them."""

from __future__ import annotations

import numpy

OLDEST_NUMPY = (1, 23)


def check(version: str) -> None:
    """Refuses a NumPy that is older than the interface that the native part is built for.

    >>> check("2.0.0rc1")
    >>> check("1.19.5")
    Traceback (most recent call last):
    ImportError: netc needs NumPy 1.23 or newer, this is 1.19.5; `pip install -U numpy` gets it
    """
    numbers = []
    for part in version.split(".")[:2]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits or 0))
    if tuple(numbers) < OLDEST_NUMPY:
        oldest = ".".join(map(str, OLDEST_NUMPY))
        raise ImportError(f"netc needs NumPy {oldest} or newer, this is {version}; `pip install -U numpy` gets it")


check(numpy.__version__)
