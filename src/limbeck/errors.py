"""Errors a user can act on: one line that names the key, file or class and says what to do."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class LimbeckError(Exception):
    """Bad input. The command line prints the message alone and exits with 1."""


def first_line(error: "ValidationError", where: str = "") -> str:
    """A pydantic error as one line: the key, the value and what is allowed."""
    lines = []
    for item in error.errors():
        key = ".".join([where, *map(str, item["loc"])] if where else map(str, item["loc"]))
        value = "" if item["type"] in ("missing", "extra_forbidden") else f" (got {item['input']!r})"
        lines.append(f"{key}: {item['msg']}{value}")
    return "; ".join(lines)
