"""`__all__` of every room is true: sorted, complete, documented, and of the package itself."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ecgtransfer.lazy import names_for_type_checkers

PACKAGE = Path(__file__).parents[1] / "ecgtransfer"
ROOMS = sorted(
    "ecgtransfer." + folder.name
    for folder in PACKAGE.iterdir()
    if (folder / "__init__.py").is_file()
)
every_room = pytest.mark.parametrize("room", ["ecgtransfer", *ROOMS])


def public(room):
    module = importlib.import_module(room)
    return module, getattr(module, "__all__", None)


def kind_then_name(name):
    """The order that the linter keeps: constants, then classes, then functions."""
    if name.isupper():
        return 0, name
    return (1 if name[0].isupper() else 2), name


@every_room
def test_public_names_are_listed_once_and_in_order(room):
    _, names = public(room)
    if room == "ecgtransfer" and names is None:
        return  # the glossary alone
    assert names, f"{room} needs __all__"
    assert list(names) == sorted(set(names), key=kind_then_name)


@every_room
def test_public_names_exist_and_are_our_own(room):
    module, names = public(room)
    for name in names or ():
        value = getattr(module, name)
        home = getattr(value, "__module__", None)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert home.startswith("ecgtransfer"), f"{room}.{name} belongs to {home}"


@every_room
def test_public_names_are_documented(room):
    module, names = public(room)
    assert inspect.getdoc(module), f"{room} needs a docstring"
    for name in names or ():
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            own = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
            assert own, f"{room}.{name} needs a docstring"
            made_up = own.startswith(f"{name}(")  # what dataclass writes by itself
            assert not made_up, f"{room}.{name} needs a docstring of its own"


@every_room
def test_what_a_room_imports_for_others_is_in_its_list(room):
    module, names = public(room)
    offered = names_for_type_checkers(room).keys() | {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and name != "lazy_names"
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith("ecgtransfer")
    }
    assert names is None or offered <= set(names)


def test_every_package_is_installed():
    """An editable installation finds packages that an installed wheel would lack."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"]
    folders = [path.parent.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("__init__.py")]
    assert sorted(name for name in listed if name.startswith("ecgtransfer.")) == sorted(
        ".".join(folder.parts) for folder in folders if len(folder.parts) > 1
    )


@every_room
def test_lazy_names_are_those_of_the_list_and_none_is_that_of_a_module(room):
    module, names = public(room)
    homes = names_for_type_checkers(room)
    defined = {name for name, value in vars(module).items() if name in names} - homes.keys()
    assert not homes or homes.keys() | defined == set(names)
    modules = {found.name for found in pkgutil.iter_modules(module.__path__)}
    assert {name for name in modules & homes.keys() if homes[name] != room} == set()


def test_a_name_is_imported_when_it_is_asked_for():
    program = (
        "import sys\n"
        "import ecgtransfer\n"
        "from ecgtransfer import signals\n"
        "assert 'ecgtransfer.signals.leads' not in sys.modules\n"
        "assert 'LEADS' in dir(signals) and signals.LEADS[0] == 'I'\n"
        "assert ecgtransfer.LEADS is signals.LEADS and 'LEADS' in vars(signals)\n"
        "assert 'ecgtransfer.signals.wfdb_io' not in sys.modules\n"
        "from ecgtransfer.statistics import streams\n"
        "assert streams.__name__ == 'ecgtransfer.statistics.streams'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@every_room
def test_a_name_that_is_not_there_is_named(room):
    with pytest.raises(AttributeError, match=f"module '{room}' has no attribute 'no_such_name'"):
        _ = importlib.import_module(room).no_such_name


def test_lazy_names_need_their_source():
    with pytest.raises(ImportError, match="the source of no_such_package is missing"):
        names_for_type_checkers("no_such_package")
