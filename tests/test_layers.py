"""The architecture as a test: imports point down, and each room keeps to its own tools."""

import ast
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "ecgtransfer"
CLI = REPOSITORY / "cli"

#: A room may import from itself and from what stands before it.
LAYERS = [
    "lazy",
    "errors",
    "defaults",
    "storage",
    "statistics",
    "signals",
    "corpus",
    "simulation",
    "drawing",
    "models",
    "training",
    "rhythm",
    "diffusion",
    "transfer",
    "synthesis",
    "export",
    "evaluation",
    "pipeline",
    "experiments",
    "cli",
]

MODULES = sorted(
    path for path in [*PACKAGE.rglob("*.py"), *CLI.rglob("*.py")] if path != PACKAGE / "__init__.py"
)
NAMES = [str(path.relative_to(REPOSITORY)) for path in MODULES]
every_module = pytest.mark.parametrize("path", MODULES, ids=NAMES)

#: Distributions that only some rooms may touch, and the first of those rooms.
BEGINS_AT = {"torch": "models", "safetensors": "models", "accelerate": "training"}
ONLY_IN_CLI = {"typer", "rich"}

#: What runs whatever somebody wrote into a file.
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "pandas.read_pickle", "pd.read_pickle"}

#: Left to `storage`, which writes whole or not at all.
FILE_CALLS = {"os.fsync", "os.link", "os.rename", "os.replace"} | {
    f"tempfile.{name}" for name in ("NamedTemporaryFile", "TemporaryFile", "mkdtemp", "mkstemp")
}

#: Absent on machines that only train; imported inside the functions that need them.
LAZY = {"wfdb", "neurokit2", "matplotlib", "pyarrow", "peft"}


def layer_of(path):
    if path.is_relative_to(CLI):
        return "cli"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def absolute(node, path):
    """The modules, and the names from them, that one import statement may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        here = (
            ["ecgtransfer", *path.relative_to(PACKAGE).parts]
            if layer_of(path) != "cli"
            else ["ecgtransfer_cli", *path.relative_to(CLI).parts]
        )
        base = ".".join([*here[: -node.level], *([base] if base else [])])
    return [f"{base}.{alias.name}" for alias in node.names]


def imported(path, tree=None):
    nodes = ast.walk(tree or parsed(path))
    return [
        name
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in absolute(node, path)
    ]


def imported_layers(path):
    layers = set()
    for name in imported(path):
        root, _, rest = name.partition(".")
        if root == "ecgtransfer_cli":
            layers.add("cli")
        elif root == "ecgtransfer":
            first = rest.split(".")[0]
            layers.add(first if first in LAYERS else "experiments")  # the root sees every room
    return layers


def called(path):
    return {ast.unparse(node.func) for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)}


def loaded_on_import(path):
    """Distributions that a module loads when it is imported itself, not when it is used."""

    def statements(body):
        for statement in body:
            if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
                yield from statements(statement.orelse)
            elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                yield statement
                for field in ("body", "orelse", "finalbody"):
                    yield from statements(getattr(statement, field, []))

    return {
        name.split(".")[0]
        for statement in statements(parsed(path).body)
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for name in absolute(statement, path)
    }


def test_there_are_modules_to_hold_to_these_rules():
    assert {layer_of(path) for path in MODULES} <= set(LAYERS)
    assert {"errors", "storage", "signals", "corpus", "simulation"} <= {
        layer_of(path) for path in MODULES
    }


@every_module
def test_imports_point_down(path):
    here = LAYERS.index(layer_of(path))
    above = {layer for layer in imported_layers(path) if LAYERS.index(layer) > here}
    assert not above, f"{layer_of(path)} must not import from {', '.join(sorted(above))}"


@every_module
def test_torch_begins_at_models_and_the_terminal_at_cli(path):
    here = LAYERS.index(layer_of(path))
    used = {name.split(".")[0] for name in imported(path)}
    early = {name for name, room in BEGINS_AT.items() if here < LAYERS.index(room)}
    assert not used & early
    assert layer_of(path) == "cli" or not used & ONLY_IN_CLI


@every_module
def test_only_the_command_line_prints(path):
    assert layer_of(path) == "cli" or "print" not in called(path)


@every_module
def test_nothing_read_from_a_file_is_ever_run(path):
    assert not {name.split(".")[0] for name in imported(path)} & UNSAFE_MODULES
    assert not called(path) & UNSAFE_CALLS
    trusting = [
        keyword
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
    ]
    assert not trusting


@every_module
def test_what_a_training_machine_lacks_is_imported_where_it_is_used(path):
    assert layer_of(path) == "cli" or not loaded_on_import(path) & LAZY


@every_module
def test_only_storage_renames_flushes_and_locks(path):
    if layer_of(path) != "storage":
        assert not called(path) & FILE_CALLS
        assert not {name.split(".")[0] for name in imported(path)} & {"fcntl", "filelock"}


def test_the_training_path_runs_without_readers_and_drawings():
    program = (
        "import sys\n"
        "for name in ('wfdb', 'neurokit2', 'matplotlib', 'typer', 'rich'):\n"
        "    sys.modules[name] = None\n"
        "from ecgtransfer.simulation import *\n"
        "from ecgtransfer.training import *\n"
        "import ecgtransfer.transfer\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tests_have_no_network():
    with socket.socket() as door, pytest.raises(OSError, match="tests have no network"):
        door.connect(("127.0.0.1", 9))


def test_the_rules_see_what_they_forbid(tmp_path):
    source = (
        "import pickle\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import wfdb\n"
        "try:\n    import pyarrow\nfinally:\n    pass\n"
        "def read():\n    import matplotlib\n    print(eval('1'))\n"
    )
    path = PACKAGE / "signals" / "example.py"
    tree = ast.parse(source)
    assert set(imported(path, tree)) >= {"pickle", "wfdb", "pyarrow", "matplotlib"}
    written = tmp_path / "example.py"
    written.write_text(source)
    assert called(written) >= {"print", "eval"}
    assert absolute(ast.parse("from ..corpus import ecgset").body[0], path) == [
        "ecgtransfer.corpus.ecgset"
    ]
