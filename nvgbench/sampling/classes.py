"""Classes by name or number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nvgbench.errors import InputError, did_you_mean


def select_classes(given: Iterable[str | int] | None, names: Sequence[str], *, unconditional: bool = True) -> tuple[int, ...]:
    """Numbers of the classes that ``given`` names, in its order; the number of classes stands for "no class".

    Args:
        given: numbers, names, ``none``, or words, each of which selects every class whose name contains it. All classes if
            None; "no class" if there are no classes.
        names: of the classes.
        unconditional: whether the model can be sampled without class.

    Raises:
        InputError: a number out of range, a name that no class has, an empty selection, or "no class" from a model that needs
            one.
    """
    if given is None:
        return tuple(range(len(names))) or (0,)
    chosen = [label for one in given for label in _matching(one, names)]
    if not chosen:
        raise InputError("no classes; name at least one, or leave it out for all")
    if len(names) in chosen and not unconditional:
        raise InputError("class 'none': models of this family need a class; name one, or leave it out for all")
    return tuple(chosen)


def _matching(given: str | int, names: Sequence[str]) -> list[int]:
    text = str(given).strip()
    if text in names:  # a class may be called "7"
        return [names.index(text)]
    if text == "none":
        return [len(names)]
    if text.lstrip("-").isdigit():
        if not names:
            raise InputError(f"class {text}: the model was trained without classes; leave the classes out")
        if not 0 <= int(text) < len(names):
            raise InputError(f"class {text} is out of range: 0 ({names[0]}) to {len(names) - 1} ({names[-1]})")
        return [int(text)]
    found = [label for label, name in enumerate(names) if text and text.lower() in name.lower()]
    if not found:
        raise InputError(f"no class {text!r}{did_you_mean(text, names)}; known: {_shortened(names)}")
    return found


def class_name(label: int, names: Sequence[str]) -> str:
    """The name of a class, or ``no class``."""
    return names[label] if label < len(names) else "no class"


def _shortened(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
