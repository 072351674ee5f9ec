"""The one error that a user of the kit should ever see."""


class KitError(Exception):
    """Bad input, said in one sentence that names the thing and the remedy.

    The command line prints the sentence without a traceback and exits with 2.
    """
