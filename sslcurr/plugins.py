"""Tables of names that other packages can extend: what a name stands for is imported at its first use.

A name of ours stands for "module:attribute". What another package brings by an entry point is called `package/name`:
the normalised name of its distribution (as pip lists it, in lower case, `-` for `_` and `.`), a slash, and the name of
the entry point. Names of ours have no slash, so the two cannot collide, and while only ours are used, installed
packages are not searched. A task's full name is part of the keys of its stages.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from sslcurr.errors import SslcurrError, did_you_mean
from sslcurr.wording import reason_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")

# What importing a module of somebody else's can raise.
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SslcurrError,
    SyntaxError,
    TypeError,
    ValueError,
)
# No dot, comma or space: those part settings, orderings and arguments from each other.
WORD = r"[a-z0-9]+([-_][a-z0-9]+)*"


class Registry(MutableMapping[str, T], Generic[T]):
    """What there is of one kind, by name: ours first, then those of installed packages.

    Iteration and `in` import nothing. `registry[name]` imports one, and raises KeyError for an unknown name. Setting a
    name puts an object there for this process only.

    Args:
        noun: what one is called in messages, such as "task".
        group: the group of entry points, such as "sslcurr.tasks".
        builtins: our names and what they stand for, "module:attribute".
        check: gives back the object of a name; raises `error` if it is not one that can be used under that name.
        error: the class of the errors.
    """

    def __init__(
        self,
        noun: str,
        group: str,
        builtins: Mapping[str, str],
        check: Callable[[str, object], T],
        error: type[SslcurrError],
    ) -> None:
        self.noun = noun
        self.group = group
        self.builtins = dict(builtins)
        self.check = check
        self.error = error
        self._loaded: dict[str, T] = {}
        self._entries: dict[str, list[EntryPoint]] | None = None

    # ---- as a table

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        return name in self.builtins or name in self._loaded or ("/" in name and name in self._others())

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys((*self.builtins, *sorted(self._others()), *self._loaded))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise KeyError(name)
        if name not in self._loaded:
            if name in self.builtins:
                module, _, attribute = self.builtins[name].partition(":")
                target = getattr(importlib.import_module(module), attribute)
            else:
                target = self._import(name)
            self._loaded[name] = self.check(name, target)
        return self._loaded[name]

    def __setitem__(self, name: str, value: T) -> None:
        if not re.fullmatch(f"({WORD}/)?{WORD}", name):
            raise self.error(
                f"a {self.noun} cannot be called {name!r}",
                "give lower-case letters, digits, - and _, as in notebook/mine",
            )
        self._loaded[name] = self.check(name, value)

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def is_installed(self, name: str) -> bool:
        """Whether other processes know that name too; one that was put into the table is known to this one only."""
        return name in self.builtins or name in self._others()

    def is_ours(self, name: str) -> bool:
        """Whether a name of ours stands for what it always does: nothing was put in its place in this process."""
        there = self._loaded.get(name)
        where = None if there is None else (getattr(there, a, "") for a in ("__module__", "__qualname__"))
        return name in self.builtins and (where is None or ":".join(where) == self.builtins[name])

    # ---- for a person

    def find(self, name: str) -> T:
        """The object of that name.

        Raises:
            SslcurrError: there is none of that name, or the package that brings it is broken.
        """
        if name not in self:
            raise self.unknown(name)
        return self[name]

    def unknown(self, name: str, without: Sequence[str] = ()) -> SslcurrError:
        """The error that says that there is none of that name, and what may have been meant, but for `without`."""
        package = name.partition("/")[0]
        hint = did_you_mean(name, [each for each in self if each not in without])
        if re.fullmatch(f"{WORD}/{WORD}", name) and not any(each.startswith(f"{package}/") for each in self._others()):
            hint = f"no installed package {package} brings one; {hint}"
        return self.error(f"unknown {self.noun} {name!r}", hint)

    def listing(self) -> tuple[dict[str, T], list[str]]:
        """All that can be used, by name, and a line for each that cannot; a broken package hides no other."""
        others, notes = self.others()
        return {**{name: self[name] for name in self.builtins}, **others}, notes

    def others(self) -> tuple[dict[str, T], list[str]]:
        """The same of what others have brought."""
        usable: dict[str, T] = {}
        notes = []
        for name in self:
            if name in self.builtins:
                continue
            try:
                usable[name] = self[name]
            except SslcurrError as error:
                notes.append(f"{error} ({error.hint})")
        return usable, notes

    # ---- entry points

    def _others(self) -> dict[str, list[EntryPoint]]:
        """The entry points of our group by full name, which several may have; read once."""
        if self._entries is None:
            from importlib.metadata import entry_points

            self._entries = {}
            for entry in entry_points(group=self.group):
                self._entries.setdefault(f"{package_of(entry)}/{entry.name}", []).append(entry)
        return self._entries

    def _import(self, name: str) -> object:
        entries = self._others()[name]
        package = name.partition("/")[0]
        if len({entry.value for entry in entries}) > 1:
            targets = " and ".join(sorted({entry.value for entry in entries}))
            raise self.error(
                f"two entry points of the package {package} are called {entries[0].name}: {targets}",
                f"give them different names in the group {self.group}, and install {package} again",
            )
        entry = entries[0]
        if not re.fullmatch(WORD, entry.name):
            raise self.error(
                f"the {self.noun} {entry.name!r} of the package {package} has a name that commands cannot take",
                f"its entry point needs a name of lower-case letters, digits, - and _, as in {package}/fine-name",
            )
        try:
            return entry.load()
        except FAILURES as error:
            reason = reason_of(error)
            raise self.error(
                f"the package {package} brings the {self.noun} {name}, and importing {entry.value} fails: "
                f"{type(error).__name__}: {reason}",
                f"update or mend {package}, or remove it: pip uninstall {package}",
            ) from error


def package_of(entry: EntryPoint) -> str:
    """The normalised name of the distribution that brings an entry point, as pip and PyPI have it."""
    name = (entry.dist.name if entry.dist is not None else None) or entry.value.partition(":")[0].partition(".")[0]
    return re.sub(r"[-_.]+", "-", name).lower()
