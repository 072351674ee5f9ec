"""Values given by name: as text (`-p seeds=3`, `SET="ppo__episodes=640"`), and as fields of a frozen dataclass."""

import ast
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace

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


def with_field(node, parts: list[str], value, path: str):
    """A copy of a frozen dataclass with one (nested) field replaced."""
    names = [f.name for f in fields(node)]
    head, rest = parts[0], parts[1:]
    if head not in names:
        raise KitError(f"The profile has no field '{path}': '{head}' is none of {', '.join(names)}.")
    old = getattr(node, head)
    if (rest and not is_dataclass(old)) or (not rest and is_dataclass(old)):
        raise KitError(f"'{path}' does not name a single value of the profile; write for example sentiment__ppo__lr.")
    return replace(node, **{head: with_field(old, rest, value, path) if rest else _checked(old, value, path)})


def _checked(old, value, path: str):
    """`value`, if its type fits the old value's (int is a float; None may become a number)."""
    wanted = float if isinstance(old, float) else type(old)
    if old is None or value is None or (isinstance(value, bool) == isinstance(old, bool) and isinstance(value, wanted)):
        return value
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    raise KitError(f"'{path}' must be of type {wanted.__name__}, not {value!r}.")
