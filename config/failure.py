"""The one exception that ends a command with a sentence in place of a traceback."""


class StartError(Exception):
    """Say in one sentence why Perennial cannot start and what to do about it."""
