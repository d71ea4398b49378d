"""The rooms: imports run downwards only, files are one noun, and the face is light."""

import ast
import importlib
import json
import pathlib
import subprocess
import sys

import pytest

import adprune_keras

ROOT = pathlib.Path(__file__).parent.parent
FLOORS = (
    ("cli",),
    ("export",),
    ("train",),
    ("quantize",),
    ("prune", "report"),
    ("backup",),
    ("record", "live"),
    ("density", "counting", "models", "data"),
    ("graph",),
    ("files", "text", "settings", "_version", "configs"),
)
# Calls that go up: within a function, so that the lower room works without the upper one.
UPWARDS = {
    ("prune", "report"),  # `ADPrune.report` and `plot`
    ("prune", "export"),  # a target in bytes, milliseconds or RAM measures a file
}
MOST_LINES = 300  # of code; a longer file says why in its first lines


def files():
    """Yield (room, path) of each file of the package."""
    for path in sorted((ROOT / "adprune_keras").rglob("*.py")):
        room = path.relative_to(ROOT / "adprune_keras").parts[0].removesuffix(".py")
        if room != "__init__":
            yield room, path
    for path in sorted((ROOT / "export").glob("*.py")):
        yield "export", path


def imports(tree):
    """Yield (module, whether it is imported within a function) of all that a file imports of ours.

    What only a type checker reads is left out.
    """
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module == "adprune_keras"
            names = [f"{node.module}.{a.name}" for a in node.names] if whole else [node.module]
        else:
            continue
        for name in names:
            if name.startswith("adprune_keras."):
                yield name, id(node) in lazy


def floor(room):
    return next(n for n, rooms in enumerate(FLOORS) if room in rooms)


def upward(room, tree):
    """Return the imports of a file that do not go down to a lower floor, those allowed left out."""
    found = []
    for name, lazy in imports(tree):
        other = name.split(".")[1]
        if other != room and floor(other) <= floor(room) and not (lazy and (room, other) in UPWARDS):
            found.append(name)
    return found


@pytest.mark.parametrize(("room", "path"), files(), ids=lambda value: str(value).rpartition("/")[2])
def test_imports_run_downwards(room, path):
    assert upward(room, ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    ("room", "text", "found"),
    [
        ("prune", "from adprune_keras.report.page import html", ["adprune_keras.report.page"]),
        ("prune", "def f():\n    from adprune_keras.report.page import html", []),
        ("prune", "def f():\n    from adprune_keras.train import board", ["adprune_keras.train"]),
        ("graph", "import adprune_keras.live.meter", ["adprune_keras.live.meter"]),
        ("graph", "from adprune_keras import data", ["adprune_keras.data"]),
        ("record", "from adprune_keras.live import meter", ["adprune_keras.live"]),
        ("cli", "from adprune_keras.graph import cut", []),
    ],
)
def test_an_import_that_goes_up_is_seen(room, text, found):
    assert upward(room, ast.parse(text)) == found


def code_lines(text):
    """Count the lines of a file that hold code: no comments, docstrings or blank lines."""
    tree = ast.parse(text)
    documented = (ast.Module, ast.FunctionDef, ast.ClassDef)
    docs = {
        line
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    lines = enumerate(text.splitlines(), start=1)
    return sum(bool(s.strip()) and not s.strip().startswith("#") and n not in docs for n, s in lines)


def test_a_file_is_one_noun():
    long = {str(path): code_lines(path.read_text()) for _, path in files()}
    assert {path: lines for path, lines in long.items() if lines > MOST_LINES} == {}
    assert code_lines((ROOT / "adprune_keras/prune/callback.py").read_text()) <= 250


def test_no_module_stands_beside_the_rooms():
    beside = {path.name for path in (ROOT / "adprune_keras").glob("*.py")}
    assert beside == {"__init__.py", "_version.py", "settings.py", "text.py"}
    assert not list(ROOT.glob("*.py"))


def test_public_names_are_not_hidden_by_rooms():
    """A submodule that is imported takes its name in the package."""
    for _, path in files():
        if path.parent.name == "export" or path.name == "stopwatch.py":
            continue
        parts = path.relative_to(ROOT).with_suffix("").parts
        importlib.import_module(".".join(parts).removesuffix(".__init__"))
    for _ in range(2):
        for name in adprune_keras.__all__:
            thing = getattr(adprune_keras, name)
            assert callable(thing) or name in ("models", "__version__"), name


def test_names_that_are_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'Pruner'"):
        adprune_keras.Pruner  # noqa: B018
    assert {"ADPrune", "models", "resize"} <= set(dir(adprune_keras))


def heavy(code):
    """Run code in a fresh interpreter; return which of the heavy packages it has imported."""
    script = f"""
import sys, json
try:
    {code}
except SystemExit as e:
    print(e.code, file=sys.stderr)
heavy = ("keras", "tensorflow", "jax", "torch", "matplotlib", "onnx", "rich", "sklearn")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr


def test_the_face_is_light():
    assert heavy("import adprune_keras, adprune_keras.export; dir(adprune_keras)")[0] == []


@pytest.mark.parametrize("command", ["train", "plan", "report", "export"])
def test_help_is_light(command):
    found, said = heavy(
        f"sys.argv[1:] = ['--help']; from adprune_keras.cli import {command}; {command}.main()"
    )
    assert found == [] and f"adprune-{command}" in said


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("train", ["--list"], "Flagfiles"),
        ("train", ["--run_dir=r", "--epochs=0"], "--epochs"),
        ("train", ["--run_dir=r", "--learning_rate=nan"], "learning_rate"),
        ("train", ["--run_dir=r", "--overwrite", "--resume"], "exclude each other"),
        ("train", ["--run_dir=r", "--patience=0"], "patience"),
        ("train", ["--run_dir=r", "--widths=1,2"], "widths"),
        ("train", ["--run_dir=r", "--resume", "--nobackup"], "--resume needs backups"),
        ("train", ["--run_dir=r", "--export=onxx"], "onxx"),
        ("train", ["--run_dir=r", "--flagfile=none"], "no such file"),
        ("plan", ["--network=VGG11", "--model=net.keras"], "--model"),
        ("export", ["--run_dir=r", "--model=net.keras"], "either --run_dir or --model"),
        ("export", ["--model=net.keras", "--formats=onxx"], "onxx"),
        ("report", [], "run_dir"),
    ],
)
def test_refusals_that_follow_from_flags_are_light(command, flags, message):
    code = f"sys.argv[1:] = {flags!r}; from adprune_keras.cli import {command}; {command}.main()"
    found, said = heavy(code)
    assert found == [] and message in said
