"""Packages whose public names are imported when they are first asked for.

This is why the command line answers `--help` without torch, pandas or scipy. It is the scheme of
SPEC 1 of scientific Python (https://scientific-python.org/specs/spec-0001/): the imports of a
package stand in its `__init__.py` under `if TYPE_CHECKING:`, for type checkers and readers, and
run one by one later.
"""

import ast
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def lazy_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package, from the imports under its `if TYPE_CHECKING:`.

    No public name may be that of a module of the package: Python binds the module to that name.

    Example:
        if TYPE_CHECKING:
            from ecgtransfer.signals.leads import LEADS
        else:
            __getattr__, __dir__ = lazy_names(__name__)
    """

    @cache
    def homes() -> dict[str, str]:
        return names_for_type_checkers(package)

    def get(name: str) -> Any:
        if name not in homes():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes()[name]
        if home == package:
            return import_module(f"{package}.{name}")
        value = getattr(import_module(home), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes()})

    return get, names


def names_for_type_checkers(package: str) -> dict[str, str]:
    """The module of each name that a package imports under `if TYPE_CHECKING:`."""
    spec = find_spec(package)
    source = spec.loader.get_source(package) if spec and spec.loader else None  # type: ignore[attr-defined]
    if source is None:
        raise ImportError(f"the source of {package} is missing; install ecgtransfer again")
    return {
        alias.name: str(statement.module)
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
