"""The pause of a training that waits for people. By itself, so that trained results do not hang on the store's code."""

from rlhf_lib.errors import KitError


class Waiting(KitError):
    """People have been asked and have not answered yet; the sentence says where to label."""
