"""A reference to the function that builds a user's own network → that function, whose code is trusted.

    package.module:factory     imported as Python does, the current folder first
    folder/net.py:factory      that file, wherever it lies; where its folder is a package, as a part of that

What the file imports itself is looked for beside it first, as where Python runs it. A file is executed once a process,
as a module is. Does not apply to a file whose path has a colon: the reference could not be read again.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from kdna_deploy.errors import InputError, UsageError
from kdna_deploy.input_files import check_regular

# As it is recorded, too.
MODULE_REFERENCE = r"[^\s:]+:[^\s:]+"
FILE_REFERENCE = r"((?:[A-Za-z]:)?[^:\r\n]+\.py):([^\s:]+)"
_LONGEST = 300  # characters of what a user's code says
_NAMED = 5


def check_reference(reference: str) -> None:
    """Refuse what names no function, or a file that is not there; nothing is run.

    Raises:
        UsageError: it is of another form.
        InputError: its file cannot be read.
    """
    named = named_file(reference)
    if named is not None:
        check_regular(named[0])
        return
    module, separator, function = reference.partition(":")
    if not separator or not module or not function:
        raise UsageError(f"'{reference}' is not of the form package.module:factory or folder/file.py:factory.")


def named_file(reference: str) -> tuple[Path, str] | None:
    """The file and the function that `reference` names; None where it names a module."""
    match = re.fullmatch(FILE_REFERENCE, reference)
    return (Path(match[1]), match[2]) if match else None


def recorded(reference: str) -> str:
    """What an artifact remembers of `reference`: a file's path from the current folder, not where that lies."""
    named = named_file(reference)
    if named is None:
        return reference
    path, function = named
    try:
        relative = Path(os.path.relpath(path)) if path.is_absolute() else path
    except ValueError:  # another drive: there is no relative way
        relative = Path(path.name)
    return f"{relative.as_posix()}:{function}"


def hint(reference: str, artifact: Path) -> str:
    """What to name so that what `artifact` remembers is found: the file from here, or beside the artifact."""
    named = named_file(reference)
    if named is None:
        return reference
    path, function = named
    places = (path, artifact.parent / path, artifact.parent / path.name)
    return f"{next((place for place in places if place.is_file()), path).as_posix()}:{function}"


def load_factory(reference: str) -> Callable[[], Any]:
    """The function that `reference` names.

    Raises:
        UsageError: it is of another form.
        InputError: there is no such file or function, or its module fails while it is imported.
    """
    check_reference(reference)
    named = named_file(reference)
    if named is None:
        module_name, _, function = reference.partition(":")
        _search_first("")  # a user's model lies in the current folder more often than not
        return _attribute(reference, lambda: getattr(importlib.import_module(module_name), function))
    path, function = named
    module = _attribute(reference, lambda: _imported(path.resolve()))
    found = getattr(module, function, None)
    if found is None:
        raise InputError(f"'{path}' has no function '{function}'{_what_it_has(module)}.")
    return found  # type: ignore[no-any-return]


def _attribute(reference: str, imported: Callable[[], Any]) -> Any:
    try:
        return imported()
    except (KeyboardInterrupt, InputError):
        raise
    except BaseException as error:  # no such name, or the user's module fails, or exits, while it is imported
        raise InputError(f"`model={reference!r}` cannot be imported: {told(error)}.") from error


def _imported(path: Path) -> ModuleType:
    package, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        package.insert(0, folder.name)
        folder = folder.parent
    _search_first(str(folder))
    if len(package) == 1:
        return _executed(path)
    module = importlib.import_module(".".join(package))
    if module.__file__ is None or Path(module.__file__).resolve() != path:
        raise InputError(f"'{path}' is hidden by another package of the name '{package[0]}'; rename one of them.")
    return module


def _executed(path: Path) -> ModuleType:
    """Under a name that hides no module, such as that of a ``torch.py``."""
    name = "own_network_" + re.sub(r"\W", "_", path.stem)
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # its name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _search_first(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _what_it_has(module: ModuleType) -> str:
    own = [
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return f"; it has {', '.join(own[:_NAMED])}{', …' if len(own) > _NAMED else ''}" if own else ""


def told(error: BaseException) -> str:
    """The first line of what a user's code says; an exit says a number or nothing."""
    try:
        said = str(error).replace("`", "'").strip().splitlines()  # backticks are ours: they name parameters
    except Exception:  # of a class that the network's code brings along
        said = []
    if isinstance(error, Exception) and said:
        return said[0][:_LONGEST].rstrip(".")
    return f"{type(error).__name__}{f' {said[0][:_LONGEST]}' if said else ''}"
