"""Files as visitors have them: of several encodings, encrypted, scanned, damaged, or not what their names say."""

from pathlib import Path

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from falcon_runtime.errors import InvalidRequest
from ui.documents import MAX_BYTES, MAX_PAGES, read_document


def pdf(*pages: str) -> PdfWriter:
    """A PDF with a line of text on each page."""
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for text in pages:
        page = writer.add_blank_page(200, 200)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = content
    return writer


def saved(writer: PdfWriter, path: Path) -> Path:
    writer.write(path)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("name", ["notes.txt", "README.MD"])
def test_text_of_the_usual_encodings(tmp_path: Path, encoding: str, name: str) -> None:
    (tmp_path / name).write_bytes("Ein Käfer – “klein”".encode(encoding))
    assert read_document(tmp_path / name) == "Ein Käfer – “klein”"
    assert read_document(str(tmp_path / name)) == "Ein Käfer – “klein”"


def test_line_ends_and_gaps_become_regular(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\r\n one\r\ntwo\rthree\0\n\n\nfour\n \n\t\n\n\n\nfive\n\n")
    assert read_document(path) == " one\ntwo\nthree\n\n\nfour\n\n\nfive"


def test_text_of_all_pages_of_a_pdf(tmp_path: Path) -> None:
    path = saved(pdf("First page", "Second page"), tmp_path / "a.PDF")
    assert read_document(path) == "First page\n\nSecond page"


def test_a_pdf_that_opens_without_a_password_is_read(tmp_path: Path) -> None:
    writer = pdf("Not to be printed")
    writer.encrypt("", "owner", algorithm="RC4-128")
    assert read_document(saved(writer, tmp_path / "a.pdf")) == "Not to be printed"


def test_an_encrypted_pdf_is_refused(tmp_path: Path) -> None:
    writer = pdf("Secret")
    writer.encrypt("password", algorithm="RC4-128")
    with pytest.raises(InvalidRequest, match="encrypted"):
        read_document(saved(writer, tmp_path / "a.pdf"))


def test_a_scanned_pdf_is_refused(tmp_path: Path) -> None:
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    with pytest.raises(InvalidRequest, match="pictures"):
        read_document(saved(writer, tmp_path / "a.pdf"))


def test_a_pdf_of_too_many_pages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=f"{MAX_PAGES + 1} pages"):
        read_document(saved(pdf(*["x"] * (MAX_PAGES + 1)), tmp_path / "a.pdf"))


@pytest.mark.parametrize("content", [b"Just text", b"%PDF-1.7\n", b"%PDF-1.7\n" + b"\0" * 1000])
def test_a_damaged_pdf_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pdf").write_bytes(content)
    with pytest.raises(InvalidRequest, match="damaged"):
        read_document(tmp_path / "a.pdf")


@pytest.mark.parametrize("part", range(0, 100, 5))
def test_a_pdf_that_breaks_off_is_read_or_refused(tmp_path: Path, part: int) -> None:
    path = saved(pdf("First page"), tmp_path / "a.pdf")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * part // 100])
    try:
        assert read_document(path) == "First page"
    except InvalidRequest as error:
        assert "a.pdf" in str(error)  # noqa: PT017  # Either will do, for pypdf mends what it can.


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xfe",
        b"caf\xe9\0",
        b"\x81\x8d undefined in cp1252",
        b"\xff\xfeodd",
    ],
)
def test_what_is_not_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InvalidRequest, match="not a text file"):
        read_document(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["a.docx", "a", "a.txt.exe"])
def test_other_kinds_are_refused_with_those_that_can_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"text")
    with pytest.raises(InvalidRequest, match=r"\.txt, \.md, \.pdf"):
        read_document(tmp_path / name)


def test_a_large_file_is_refused_with_its_size(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InvalidRequest, match="10,000,001 bytes"):
        read_document(tmp_path / "a.txt")


@pytest.mark.parametrize(("name", "content"), [("a.txt", b""), ("a.md", b" \n\0\t\n"), ("a.pdf", b"")])
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match="empty"):
        read_document(tmp_path / name)
