import io
import stat
import struct
import zipfile

import numpy as np
import pytest
from toys import png

from adprune_keras.files import limits


def npz(path, **members):
    """Write a zip archive with these members as they are, bytes, or arrays as NumPy writes them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            if not isinstance(content, bytes):
                file = io.BytesIO()
                np.lib.format.write_array(file, content, allow_pickle=True)
                content = file.getvalue()
            archive.writestr(f"{name}.npy", content)
    return path


def header(shape, descr="|u1", version=(1, 0)):
    """The start of a `.npy` file, with whatever shape it claims."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text)) + text


def test_arrays_come_back(tmp_path):
    path = npz(tmp_path / "a.npz", a=np.arange(6).reshape(2, 3), b=np.ones(2, "uint8"))
    assert list(limits.read_npz(path, 1000)) == ["a", "b"]
    np.testing.assert_array_equal(limits.read_npz(path, 1000, ["a"])["a"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            header("(10**12,)".replace("10**12", "1000000000000")),
            r"says shape \(1000000000000,\), and holds",
        ),
        (header("(99999999999, 99999999999)"), "says shape"),
        (header("(-1, 4)") + bytes(9), r"says shape \(-1, 4\)"),
        (header("(4,)", "|O") + b"cposix\nsystem\n(S'true'\ntR.", "Object arrays cannot be loaded"),
        (header("(" * 3000), "."),
        (header("(4,)", "nonsense"), "descr"),
        (header("(4,)", version=(3, 0)) + bytes(9), r"is of version \(3, 0\)"),
        (b"\x93NUMPY", "."),
        (b"", "."),
        (np.array([{}]), "Object arrays cannot be loaded"),
    ],
)
def test_arrays_that_are_not_what_they_say(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        limits.read_npz(npz(tmp_path / "a.npz", a=content), 1 << 20)


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = npz(tmp_path / "a.npz", a=header("(30000000,)") + bytes(30_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"its arrays would take 30,000,\d+ bytes, and 1,048,576 are"):
        limits.read_npz(path, 1 << 20)
    assert limits.read_npz(path, 1 << 20, []) == {}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x05\x06" + b"\xff" * 18, b"\x00" * 99])
def test_what_is_no_zip(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match="."):
        limits.read_npz(tmp_path / "a.npz", 1 << 20)


def test_image_sizes(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(30, 20))
    assert limits.image_size(path) == (20, 30)
    assert limits.image_size(path, 600) == (20, 30)
    with pytest.raises(ValueError, match=r"at most 599 pixels. Received: .*a.png, 30 x 20 pixels. Make"):
        limits.image_size(path, 599)
    for side in (8193, 50_000, 2**31 - 1):
        path.write_bytes(png(side, side))
        with pytest.raises(ValueError, match=r"at most 67,108,864 pixels. Received: .*a.png"):
            limits.image_size(path)
    for content in (b"", b"GIF89a", b"%PDF-1.4", png(3, 3)[:20]):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"must be a readable BMP, GIF, JPEG or PNG file of at most"
        ):
            limits.image_size(path)


def archive(path, *names, mode=0, content=b"x"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(member, content)
    return path


def test_archive_that_is_what_it_should_be(tmp_path):
    path = archive(tmp_path / "a.zip", "top/", "top/a/b.txt", mode=stat.S_IFREG | 0o644)
    limits.check_zip(path, "top", 1000, 2)
    with pytest.raises(ValueError, match="it has 2 members, and 1 are allowed"):
        limits.check_zip(path, "top", 1000, 1)


@pytest.mark.parametrize(
    "name",
    [
        *("other/a", "a", "/etc/passwd", "top/../a", "../top/a", "top/../../a", "top//a", "top/./a"),
        *("C:/top/a", "top/C:/a", "top\\..\\..\\a", "\\top\\a", "//host/top/a", "topp/a", "top\\a"),
    ],
)
def test_members_outside_the_folder(tmp_path, name):
    with pytest.raises(
        ValueError, match=r"not unpacked. Received: .*a.zip, but its member .* does not lie"
    ):
        limits.check_zip(archive(tmp_path / "a.zip", "top/good", name), "top", 1000, 9)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_members_that_are_no_files(tmp_path, kind):
    path = archive(tmp_path / "a.zip", "top/a", mode=kind | 0o777, content=b"/etc/passwd")
    with pytest.raises(ValueError, match="its member 'top/a' is neither a file nor a folder"):
        limits.check_zip(path, "top", 1000, 9)


def test_archive_that_would_fill_the_disk(tmp_path):
    path = archive(tmp_path / "a.zip", "top/a", content=bytes(1_000_000))
    with pytest.raises(ValueError, match="its members would take 1,000,000 bytes, and 999,999 are"):
        limits.check_zip(path, "top", 999_999, 9)
    with pytest.raises(ValueError, match=r"the archive would take 1,\d\d\d bytes, and 900 are"):
        limits.check_zip(path, "top", 900, 9)


def test_memory_is_known():
    assert 1 << 28 < limits.memory() < 1 << 50
