"""Packages that only some things need, and the command that brings them."""

import importlib.util

# Where the name to import is not the name to install.
_TO_INSTALL = {
    "PIL": "pillow",
    "ai_edge_litert": "ai-edge-litert",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
}


def need(what, *modules):
    """Say in one line which packages are missing for something, before it begins.

    Args:
        what: str, what needs them, the subject of a sentence.
        modules: names of the packages, as they are imported.

    Raises:
        ImportError: one or more are not installed; the message holds the command that installs them.
    """
    missing = [_TO_INSTALL.get(name, name) for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{what} needs packages that are not installed: {', '.join(missing)}. "
            f"Install them: pip install {' '.join(missing)}"
        )
