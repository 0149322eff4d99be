"""Remarks: what was unexpected in a source of images, and how it was read all the same."""

from __future__ import annotations

from typing import NamedTuple


class Remark(NamedTuple):
    """One line for the user.

    Attributes:
        about: ``files``, ``images``, ``labels``, ``classes`` or ``source``.
        text: what was found and what was done about it.
    """

    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.about}: {self.text}"


class Notes:
    """What is noticed in images while they are read. Each image counts once, however often it is read."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def add(self, kind: str, name: str) -> None:
        """Note of the image ``name`` that it is one ``kind``, such as ``with transparent pixels, laid on white``."""
        self._names.setdefault(kind, set()).add(name)

    def remarks(self) -> tuple[Remark, ...]:
        """One remark per kind: the number of images and the first of them."""
        return tuple(
            Remark("images", f"{counted(len(names), 'image')} {kind} ({min(names)})") for kind, names in self._names.items()
        )


def counted(number: int, noun: str) -> str:
    """``1 image``, ``3,000 images``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
