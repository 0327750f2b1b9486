"""Type and size of an image from its first bytes."""

from __future__ import annotations

import zlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.files.pictures import Picture, is_heic, may_be_picture, read_picture


def picture(form: str, size: tuple[int, int] = (30, 20)) -> bytes:
    """A real picture."""
    out = BytesIO()
    Image.new("RGB", size, "teal").save(out, form)
    return out.getvalue()


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("GIF", "image/gif"),
        ("WEBP", "image/webp"),
        ("BMP", "image/bmp"),
    ],
)
def test_the_type_and_size_of_an_image_are_read(form: str, kind: str) -> None:
    assert read_picture(picture(form)) == Picture(kind, 30, 20)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "AVIF"])
def test_a_picture_is_recognized_by_its_first_bytes(form: str) -> None:
    head = picture(form)[:64]
    assert may_be_picture(head)
    assert not is_heic(head)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1"])
def test_a_heic_picture_is_recognized_and_is_none_that_a_model_sees(brand: bytes) -> None:
    head = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic"
    assert is_heic(head)
    assert not may_be_picture(head)


def test_a_photo_with_a_second_one_appended_is_a_jpeg() -> None:
    """Phones make such files: the upstream was given a type that it does not display."""
    out = BytesIO()
    photo = Image.new("RGB", (30, 20), "teal")
    photo.save(out, "MPO", save_all=True, append_images=[photo])
    assert read_picture(out.getvalue()) == Picture("image/jpeg", 30, 20)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "AVIF"])
def test_a_damaged_image_never_raises(form: str) -> None:
    """A damaged AVIF was a 500: its reader raises errors of its own."""
    whole = picture(form)
    for at in range(min(len(whole), 400)):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        read_picture(bytes(damaged))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF"])
def test_type_and_size_are_read_from_the_beginning_alone(form: str) -> None:
    large = picture(form, (640, 480))
    found = read_picture(large[: len(large) // 2])
    assert found is not None
    assert (found.width, found.height) == (640, 480)


def test_a_picture_that_would_be_vast_once_decoded_is_only_looked_at() -> None:
    head = bytearray(picture("PNG"))
    head[16:24] = (12_000).to_bytes(4, "big") * 2
    head[29:33] = zlib.crc32(bytes(head[12:29])).to_bytes(4, "big")
    assert read_picture(bytes(head)) == Picture("image/png", 12_000, 12_000)


@given(st.binary(max_size=200), st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP"]))
def test_arbitrary_bytes_never_raise(noise: bytes, form: str) -> None:
    read_picture(noise)
    head = bytearray(picture(form))
    at = len(noise) % len(head)
    head[at : at + len(noise)] = noise
    read_picture(bytes(head))


@pytest.mark.parametrize("content", [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"text"])
def test_text_is_not_an_image(content: bytes) -> None:
    assert read_picture(content) is None
