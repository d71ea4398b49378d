"""Files that others wrote: what they claim to hold is looked at before memory is spent on it."""

import math
import os
import pathlib
import stat
import warnings
import zipfile

import numpy as np

PIXELS = 1 << 26  # of one image: 8,192 x 8,192
_FORMATS = ("BMP", "GIF", "JPEG", "PNG")  # what TensorFlow decodes


def memory():
    """Return the bytes of memory that this process may use at the most, as far as is known."""
    known = []
    try:
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        known.append(int(pathlib.Path("/sys/fs/cgroup/memory.max").read_text()))  # a container's
    except (AttributeError, OSError, ValueError):  # another system, or no limit
        pass
    return min(known, default=8 << 30)


def read_npz(path, most, names=None):
    """Read an `.npz` file without pickle, and without trusting a size that it claims.

    Args:
        path: the file.
        most: int, bytes that its arrays may take.
        names: names of the arrays to read. Defaults to `None`: all.

    Returns:
        `{name: array}`, in the order of `names` or of the file.

    Raises:
        ValueError: not such a file; the message completes a sentence.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
            missing = sorted(set(names or ()) - set(members))
            if missing:
                raise ValueError(f"it has no array {', '.join(missing)} (it has {list(members)[:20]})")
            wanted = {name: members[name] for name in (members if names is None else names)}
            check_size("its arrays", sum(m.file_size for m in wanted.values()), most)
            return {name: _array(archive, member) for name, member in wanted.items()}
    except Exception as e:  # a parser may raise anything on a hostile file
        raise ValueError(str(e) or type(e).__name__) from e


def _array(archive, member):
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read:
            raise ValueError(f"{member.filename} is of version {version} of NumPy's format")
        shape, _, dtype = read[version](file)
        claimed = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or (not dtype.hasobject and claimed > member.file_size):
            raise ValueError(f"{member.filename} says shape {shape}, and holds {member.file_size} bytes")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def check_size(what, claimed, most):
    """Raise `ValueError` where something would take more bytes than it may."""
    if claimed > most:
        raise ValueError(f"{what} would take {claimed:,} bytes, and {most:,} are allowed here")


def image_size(path, most=PIXELS):
    """Return (height, width) of an image file from its header; nothing is decoded.

    Args:
        path: the file.
        most: int, pixels that it may have.

    Raises:
        ValueError: no image, or one that is too large.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images: they are refused below
            with open(path, "rb") as file, Image.open(file, formats=_FORMATS) as image:
                width, height = image.size
    except Exception as e:  # a parser may raise anything on a hostile file
        raise ValueError(
            f"An image must be a readable {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]} file of at most "
            f"{most:,} pixels. Received: {path}: {e}"
        ) from e
    if not 0 < width * height <= most:
        raise ValueError(
            f"An image may have at most {most:,} pixels. Received: {path}, {width} x {height} pixels. "
            "Make it smaller, or take it away."
        )
    return height, width


def check_zip(path, folder, most_bytes, most_members):
    """Raise `ValueError` where unpacking a zip archive would leave a folder or fill the disk.

    Args:
        path: the archive.
        folder: name of the one folder that all its members must lie in.
        most_bytes: int, what its members may take unpacked; the archive itself may not be larger either.
        most_members: int, how many it may have.
    """
    try:
        check_size("the archive", os.path.getsize(path), most_bytes)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        check_size("its members", sum(m.file_size for m in members), most_bytes)
        if len(members) > most_members:
            raise ValueError(f"it has {len(members):,} members, and {most_members:,} are allowed")
        for member in members:
            parts = member.filename.removesuffix("/").split("/")
            if parts[0] != folder or any(not is_name(part) for part in parts):
                raise ValueError(f"its member {member.filename!r} does not lie in {folder}/")
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"its member {member.filename!r} is neither a file nor a folder")
    except Exception as e:  # a parser may raise anything on a hostile file
        raise ValueError(f"This archive is not unpacked. Received: {path}, but {e}") from e


def is_name(text):
    """True where a text is the name of a file or folder, and no path that leads elsewhere."""
    return text not in ("", ".", "..") and not set(text) & set("/\\:\0")
