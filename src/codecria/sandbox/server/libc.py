"""The C library, opened once: every fork would pay for opening it again."""

from __future__ import annotations

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
