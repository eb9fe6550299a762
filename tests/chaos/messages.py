"""What a message for a user is."""


def in_one_line(error: Exception, begins: str = "") -> None:
    """Assert that an error says something, in one line."""
    said = str(error)
    assert said.strip(), "an empty message"
    assert len(said.splitlines()) == 1, f"several lines: {said!r}"
    assert said.startswith(begins), f"does not begin with {begins!r}: {said!r}"
