"""Errors a user can act on: one line that names the key, file or class and says what to do."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

BRANCH = re.compile(r"[\[(]|^constrained-|^(int|float|str|bool)$")


class LimbeckError(Exception):
    """Bad input. The command line prints the message alone and exits with 1."""

    def __str__(self) -> str:
        # one line, whatever is in a path or key that it quotes: line breaks, escapes of the terminal, bytes that are no UTF-8
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in super().__str__())


class ArtifactError(LimbeckError):
    """A file under results is missing, damaged or not what its reader asked for."""


def first_line(error: "ValidationError", where: str = "") -> str:
    """A pydantic error as one line: the key, the value and what is allowed."""
    found = []  # where, what is wrong there, and whether the value is of another kind altogether
    for item in error.errors():
        # of a union every branch complains under its own type's name; keys and places have no brackets
        parts = (*([where] if where else []), *(str(part) for part in item["loc"] if not BRANCH.search(str(part))))
        # of a whole section the message names what is wrong in it
        shown = item["type"] not in ("missing", "extra_forbidden") and not isinstance(item["input"], dict)
        said = item["msg"].removeprefix("Value error, ") + (f" (got {item['input']!r})" if shown else "")
        found.append((parts, said, item["type"].endswith("_type")))
    # a branch for another kind of value has nothing to say where one for this kind has
    meant = [parts for parts, _, other in found if not other]
    kept = [(parts, said) for parts, said, other in found if not (other and any(m[: len(parts)] == parts for m in meant))]
    return "; ".join(dict.fromkeys(f"{'.'.join(parts)}: {said}" for parts, said in kept))
