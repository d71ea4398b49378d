"""What the commands share: flags in, in groups; one line on stderr and exit status 1 where they fail."""

import contextlib
import importlib
import inspect
import os
import pathlib
import shutil
import sys
import textwrap

from absl import app, flags, logging

from adprune_keras.cli.flagfiles import by_name, check_flagfiles
from adprune_keras.files.quiet import quiet_libraries
from adprune_keras.text import did_you_mean

_WIDEST, _LEFT = 100, 26  # columns of a help text, and of its names of flags
_FOOT = "--flagfile=FILE reads flags from a file, one a line. --helpfull shows every flag, absl's too."


class Choice(flags.EnumParser):
    """A flag's value that is one of some words; a misspelt one is told the nearest."""

    def parse(self, argument):
        """Return the word, or raise `ValueError`."""
        if argument not in self.enum_values:
            near = did_you_mean(str(argument), self.enum_values)
            raise ValueError(f"value should be one of <{'|'.join(self.enum_values)}>.{near}")
        return argument


class Show(flags.BooleanFlag):
    """A flag that prints a text in place of everything else, as --help does.

    Args:
        name: str, of the flag.
        about: str, its help.
        text: function that returns what is printed.
        short_name: str of one letter, or `None`.
    """

    def __init__(self, name, about, text, short_name=None):
        super().__init__(name, False, about, short_name=short_name, allow_override=True)
        self.text = text

    def parse(self, argument):
        """Print, and end the program."""
        super().parse(argument)
        if self.value:
            print(self.text())
            sys.exit(0)


def run(name, act, groups=None):
    """Parse the flags and run a command.

    Args:
        name: str, of the command.
        act: as in `attempt`; the docstring of its module is the head of the help.
        groups: `{title: list of what flags.DEFINE_... returned}` for `--help`. Defaults to `None`: the
            flags of the module of `act`, without titles.
    """
    module = inspect.getmodule(act)
    if groups is None:
        groups = {"Flags": flags.FLAGS.get_key_flags_for_module(module)}
    app.define_help_flags()
    about = inspect.getdoc(module)
    flags.DEFINE_flag(Show("help", "Show this help.", lambda: help_text(about, groups), "h"))
    app.run(lambda argv: attempt(name, act, argv), flags_parser=parse)


def load_libraries():
    """Import TensorFlow, where it is installed, without its chatter.

    Importing `adprune_keras` silences nothing: there the process is somebody else's.
    """
    if "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # what goes wrong reaches Python as an exception
        with quiet_libraries(), contextlib.suppress(ImportError):
            importlib.import_module("tensorflow")


def attempt(name, act, argv):
    """Run a command whose flags are parsed.

    Args:
        name: str, of the command.
        act: function without arguments. A `ValueError` or `UsageError` (what it was given), an `OSError`
            (a file) or an `ImportError` (a package that is missing) that it raises ends the command with
            one line (`--verbosity=1` shows where it came from); anything else is a bug, and shows its
            traceback.
        argv: list of str, the arguments that are no flags, the name of the program first.
    """
    try:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # what libraries narrate
        if len(argv) > 1:
            raise app.UsageError(f"Unexpected arguments: {argv[1:]}. All settings are flags.")
        act()
    except (ValueError, OSError, ImportError, app.UsageError) as e:
        logging.debug("%s failed here:", name, exc_info=True)
        sys.exit(one_line(f"{name}: {e}"))


def parse(argv):
    """Parse flags as absl does by itself, but take no flagfile that is no small text file.

    Args:
        argv: list of str, the name of the program first.

    Returns:
        list of str, the arguments that are no flags.
    """
    try:
        argv = [argv[0], *by_name(argv[1:])]
        check_flagfiles(argv[1:], 0)
        return flags.FLAGS(argv)
    except (flags.Error, ValueError, OSError, RecursionError) as e:
        sys.exit(one_line(f"{pathlib.Path(argv[0]).name}: {e} (--help shows all flags.)"))


def help_text(about, groups):
    """Return a command's help: its flags under the titles of their groups, with their defaults.

    Args:
        about: str, what the command does.
        groups: `{title: list of flags, or of what flags.DEFINE_... returned}`.
    """
    width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)
    lines = [about.strip()]
    for title, members in groups.items():
        lines += ["", f"{title}:"]
        for member in members:
            flag = flags.FLAGS[member.name]
            left = f"  {_shown(flag)}"
            body = textwrap.wrap(
                _explained(flag), width, initial_indent=" " * _LEFT, subsequent_indent=" " * _LEFT
            )
            if len(left) < _LEFT - 1:
                body[0] = left + body[0][len(left) :]
            else:
                lines.append(left)
            lines += body
    return "\n".join([*lines, "", *textwrap.wrap(_FOOT, width)])


def _shown(flag):
    """A flag as it is typed, with its default."""
    if flag.boolean:
        return f"--{flag.name}" if isinstance(flag, Show) else f"--[no]{flag.name}"
    if flag.default is None:
        return f"--{flag.name}=..."
    value = flag.default
    return f"--{flag.name}={','.join(value) if isinstance(value, list) else value}"


def _explained(flag):
    values = getattr(flag.parser, "enum_values", None)
    text = " ".join(flag.help.split()).removesuffix("; repeat this option to specify a list of values")
    if values:  # absl's own enum flags have them in their help
        text = f"{text.removeprefix(f'<{chr(124).join(values)}>: ')} One of {', '.join(values)}."
    if flag.boolean and not isinstance(flag, Show):
        text += f" Default: {'on' if flag.default else 'off'}."
    return text


def one_line(text):
    """Return a message without line breaks, and not longer than a screen."""
    line = " ".join(str(text).split())
    return line if len(line) <= 2000 else f"{line[:2000]} ..."
