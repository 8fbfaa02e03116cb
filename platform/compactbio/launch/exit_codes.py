"""What the command line ends with."""

from __future__ import annotations

FAILED = 1
BAD_INPUT = 2
STOPPED = 75  # "try again later" in sysexits.h
INTERRUPTED = 130
