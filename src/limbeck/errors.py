"""Errors a user can act on: one line that names the key, file or class and says what to do."""


class LimbeckError(Exception):
    """Bad input. The command line prints the message alone and exits with 1."""
