"""`python -m netc` is the command `netc`."""

from __future__ import annotations

import sys

from . import _netc


def main() -> int:
    """Does what the command line says, and gives the exit code."""
    return _netc.run_command(["netc", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
