"""The one base class of everything that clmsda refuses."""


class InputError(ValueError):
    """Input that cannot be used as it is.

    The message says, in one line, what was expected, what was found, where, and what to do.
    Subclasses live beside the code that raises them and name the reason; the command line prints
    the message without a traceback and exits with status 2.
    """
