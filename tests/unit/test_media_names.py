import re

import pytest

from store.names import make_name, parse_name

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


@pytest.mark.parametrize(
    ("head", "given", "expected"),
    [
        (PNG, "", ".png"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 20, "", ".jpg"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 20, "a.JPEG", "_a.jpeg"),
        (b"GIF89a" + b"\0" * 20, "", ".gif"),
        (b"RIFF\n\0\0\0WEBPVP8 ", "", ".webp"),
        (b"%PDF-1.4\n", "report.pdf", "_report.pdf"),
        (b"a,b\n1,2\n", "out.csv", "_out.csv"),
        (b"a,b\n1,2\n", "数据 1.csv", "_数据_1.csv"),
        (b"a,b\n1,2\n", "../../etc/passwd", "_etc_passwd.bin"),
        (b"a,b\n1,2\n", "..", ".bin"),
        (b"a,b\n1,2\n", "a.b\r\nx: y", "_a.b_x_y.bin"),
        (b"a,b\n1,2\n", 'x".csv', "_x_.csv"),
        (PNG, "chart.csv", "_chart.csv.png"),
        (b"<script>", "x.png", "_x.png.bin"),
        (b"<svg>", "x.svg", "_x.svg"),
        (b"a,b\n1,2\n", "a.longextension", "_a.longextension.bin"),
    ],
)
def test_a_name_has_the_detected_type_and_the_safe_part_of_the_original_name(
    head: bytes, given: str, expected: str
) -> None:
    name = make_name(head, given)
    assert re.fullmatch(r"[0-9a-f]{32}", name[:32])
    assert name[32:] == expected


def test_a_long_name_is_shortened_for_file_systems() -> None:
    name = make_name(b"a,b\n", "样" * 300 + ".csv")
    assert len(name.encode()) < 200
    assert name.endswith("样.csv")


@pytest.mark.parametrize("stem", ["x" * 300, "样" * 100])
def test_a_name_that_no_file_system_takes_is_none_of_ours(stem: str) -> None:
    assert parse_name(f"{'0' * 32}_{stem}.png") is None


def test_no_two_names_are_alike() -> None:
    assert len({make_name(PNG, "a.png") for _ in range(1000)}) == 1000
