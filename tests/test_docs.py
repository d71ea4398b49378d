"""What README and docs/ say runs: Python, commands, and links.

A page's Python blocks run in order, in one namespace, as a reader would paste them, in an empty folder.
Blocks with `>>>` are checked against the answers that they print. In front of a block an HTML comment
`<!-- docs: ...; ... -->`, which readers do not see, may say:

- `given NAME, ...`: what the reader is to bring, of those in `given`;
- `short`: `fit` runs two epochs of one step at the most;
- `run by tests/FILE`: it belongs to another test.

Commands are parsed by the flags of the program that they call; those on the run of the quick start that
take seconds are carried out. benchmarks/docs.py carries out what takes minutes.
"""

import ast
import contextlib
import doctest
import functools
import importlib.metadata
import pathlib
import re
import shlex

import keras
import numpy as np
import pytest
from absl import flags
from toys import compiled

from adprune_keras import models
from adprune_keras.cli import command, flagfiles

if keras.backend.backend() != "tensorflow":
    pytest.skip("pages load and export with TensorFlow", allow_module_level=True)

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


COMMANDS = {
    entry.name: entry.module
    for entry in importlib.metadata.entry_points(group="console_scripts")
    if entry.module.startswith("adprune_keras.")
}
QUICK = "--run_dir=runs/digits"  # the run that the quick start leaves
FOLDERS = ("adprune_keras", "benchmarks", "configs", "docs", "examples", "export", "tests")
SLOW = ("docs/deploy.md", "docs/faq.md", "docs/models.md")  # they train for many epochs
LONG = ("--latency", "--formats=all", "--pixel_input")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page):
    """Yield (language, text, directives) of each fenced block."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        said = re.search(r"<!-- docs: ([^>]*) -->\s*$", text[: found.start()])
        yield found[1], found[2], said[1].split("; ") if said else []


def commands(page):
    """Yield the words of each command in a page's shell blocks, environment and comments left out."""
    for language, text, _ in blocks(page):
        if language not in ("", "bash", "sh"):
            continue
        before = []
        for line in re.sub(r"(\\|&&)\n", lambda m: " " * (m[1] == "\\") or "&&", text).splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words.pop(0)
                if words and words[0].startswith("--"):  # instead of flags of the command before
                    words = before + words
                if words and words[0] in (*COMMANDS, "python"):
                    before = words
                    yield words


PROGRAMS = [(name, words) for page, name in zip(PAGES, IDS, strict=True) for words in commands(page)]


@pytest.fixture(scope="module")
def given():
    """What pages ask their readers to bring: the digits, as colour images of 32 pixels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = np.repeat(np.kron(x.reshape(-1, 8, 8, 1), np.ones((1, 4, 4, 1))) / 8 - 1, 3, -1)
    x_train, x_test = x[:320].astype("float32"), x[320:384].astype("float32")
    return {
        **{"x_train": x_train, "y_train": y[:320], "x_test": x_test, "y_test": y[320:384]},
        "train": Batches(x_train, y[:320]),
        "val": Batches(x_test, y[320:384]),
        "model": lambda: compiled(models.VGG11(widths=[8] * 8)),
        "mine.keras": lambda: compiled(models.VGG11(widths=[8] * 8)).save("mine.keras"),
    }


class Batches(keras.utils.PyDataset):
    """Pairs of arrays, 8 images a batch."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 8

    def __getitem__(self, index):
        part = slice(8 * index, 8 * index + 8)
        return self.x[part], self.y[part]


@contextlib.contextmanager
def shortened(directives):
    """Let `fit` train two epochs of one step at the most where the directives say so."""
    fit = keras.Model.fit

    @functools.wraps(fit)
    def short(self, *args, epochs=1, **kwargs):
        self.jit_compile, self.run_eagerly = False, True  # compiling a large network takes a minute
        few = {"steps_per_epoch": 1, "validation_steps": 1}
        return fit(self, *args, epochs=min(epochs, 2), **kwargs | few)

    with pytest.MonkeyPatch.context() as patch:
        if "short" in directives:
            patch.setattr(keras.Model, "fit", short)
        yield


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for page, name in zip(PAGES, IDS, strict=True)
    ],
)
def test_python(page, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for language, text, directives in blocks(page):
        if language not in ("python", "pycon") or any(d.startswith("run by ") for d in directives):
            continue
        for name in [n for d in directives if d.startswith("given ") for n in d[6:].split(", ")]:
            names[name] = given[name]() if callable(given[name]) else given[name]
        with shortened(directives):
            if language == "python":
                exec(compile(text, f"{page.name}: {text.splitlines()[0]}", "exec"), names)
            else:
                test = doctest.DocTestParser().get_doctest(text, names, page.name, str(page), 0)
                runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
                runner.run(test, clear_globs=False)
                assert not runner.failures, f"what {page.name} prints is not what comes out"
                names |= test.globs
    keras.config.set_dtype_policy("float32")


def test_blocks_that_other_tests_run_are_run_there():
    for page in PAGES:
        for language, _, directives in blocks(page):
            assert language in ("", "bash", "sh", "python", "pycon", "text"), (page, language)
            for directive in directives:
                assert re.fullmatch(r"given .+|short|run by tests/\w+\.py", directive), directive
                if directive.startswith("run by "):
                    assert page.name in (ROOT / directive[7:]).read_text()


@contextlib.contextmanager
def own_flags(name):
    """Yield (main, flags) of a command, with flags of its own instead of the process'."""
    module = importlib.import_module(COMMANDS[name])
    values = flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        for define in [d for d in dir(flags) if d == "DEFINE" or d.startswith("DEFINE_")]:
            patch.setattr(flags, define, functools.partial(getattr(flags, define), flag_values=values))
        for owner in (flags, module):
            patch.setattr(owner, "FLAGS", values)
        yield module.main, values


def parse(words, act=False):
    """Parse a command's flags as the command does; carry it out where asked."""
    with own_flags(words[0]) as (main, values), pytest.MonkeyPatch.context() as patch:

        def run(name, do, groups=None):
            values(flagfiles.by_name(words))
            if act:
                do()

        patch.setattr(command, "run", run)
        main()


def flags_of_script(path):
    """Names of the flags that a script defines, without importing it."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    defined = [c for c in calls if getattr(c.func, "attr", "").startswith("DEFINE_")]
    return {c.args[0].value for c in defined if isinstance(c.args[0], ast.Constant)}


def test_flags_of_commands(monkeypatch):
    monkeypatch.chdir(ROOT)  # flagfiles are named from there
    for page, words in PROGRAMS:
        try:
            if words[0] in COMMANDS and "--help" not in words:
                parse(words)
            elif words[0] == "python" and words[1] != "-m":
                known = flags_of_script(ROOT / words[1])
                used = {re.match(r"--(no)?(\w+)", w)[2] for w in words[2:] if w.startswith("--")}
                assert used <= known, f"{sorted(used - known)} of {sorted(known)}"
        except (flags.Error, AssertionError, OSError) as e:
            pytest.fail(f"{page}: {' '.join(words)}: {e}")


def test_a_flag_that_is_none_is_found(tmp_path):
    with pytest.raises(flags.Error, match="progres"):
        parse(["adprune-train", "--run_dir=x", "--progres=1"])
    page = tmp_path / "page.md"
    page.write_text("```\nA=1 adprune-train --a \\\n    --b && adprune-report --c  # d\n    --e\n```\n")
    assert list(commands(page)) == [
        *(["adprune-train", "--a", "--b"], ["adprune-report", "--c"], ["adprune-report", "--c", "--e"]),
    ]


def test_commands_on_the_run_of_the_quick_start(tmp_path, monkeypatch, capsys):
    """A run of two short epochs stands where the quick start's would; each distinct command once."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    small = ["--network=VGG11", "--width_scale=0.1", "--epochs=4", "--prune_at=2", "--batch_size=64"]
    parse(["adprune-train", QUICK, *small], act=True)
    seen = {
        tuple(sorted(words))
        for _, words in PROGRAMS
        if QUICK in words and words[0] != "adprune-train" and not {*LONG} & {*words}
    }
    assert {words[-1] for words in seen} >= {"adprune-report", "adprune-export"}
    for words in sorted(seen):
        parse([words[-1], *words[:-1]], act=True)
    assert "verified" in capsys.readouterr().out
    assert (tmp_path / "runs" / "digits" / "export" / "model.tflite").stat().st_size


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.replace("`", "").lower()).replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=[*IDS, "CONTRIBUTING.md"])
def test_links(page):
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://\w", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists() and file.is_relative_to(ROOT), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}"
    for path in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)", text):
        assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_each_page_is_in_the_index_and_each_picture_is_used():
    index = (ROOT / "docs" / "README.md").read_text()
    everything = "".join(page.read_text() for page in PAGES)
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name
    for picture in [*(ROOT / "docs").glob("*.png"), *(ROOT / "docs" / "figures").glob("*")]:
        path = picture.relative_to(ROOT / "docs")
        assert f"({path})" in everything or f"(docs/{path})" in everything, picture.name
        assert picture.stat().st_size < 200_000
