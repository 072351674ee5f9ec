"""Values given by name as text: `-p seeds=3`, `SET="ppo__episodes=640"`."""

import ast
from collections.abc import Iterable

from rlhf_lib.errors import KitError


def named_values(pairs: Iterable[str]) -> dict:
    """`name=value` pairs as a dict, each value a Python literal where it reads as one and a string otherwise."""
    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise KitError(f"'{pair}' is not of the form name=value, such as seeds=3.")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found
