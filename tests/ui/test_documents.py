"""Files as visitors have them: of several encodings, encrypted, scanned, damaged, or not what their names say."""

from pathlib import Path

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from falcon_runtime.errors import InvalidRequest
from falcon_runtime.system.bounded import Bounded
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


UTF = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.mark.parametrize("encoding", [*UTF, "cp1252"])
@pytest.mark.parametrize("name", ["notes.txt", "README.MD"])
def test_text_of_the_usual_encodings(tmp_path: Path, encoding: str, name: str) -> None:
    (tmp_path / name).write_bytes("Ein Käfer – “klein”".encode(encoding))
    assert read_document(tmp_path / name) == "Ein Käfer – “klein”"
    assert read_document(str(tmp_path / name)) == "Ein Käfer – “klein”"


SHORT = {
    "Привет, мир": ["cp1251", "koi8_r"],
    "Привіт, світе! Як справи сьогодні?": ["cp1251", "koi8_u"],
    "你好，世界": ["gbk", "gb18030", "big5"],
    "中文 English 混合 text。": ["gbk"],
    "こんにちは世界": ["cp932", "euc_jp", "iso2022_jp"],
    "テスト": ["cp932"],
    "안녕하세요 세계": ["cp949", "euc_kr"],
    "مرحبا بالعالم": ["cp1256"],
    "ما هي عاصمة الإمارات؟": ["cp1256", "iso8859_6"],
    "Γειά σου Κόσμε": ["cp1253", "iso8859_7"],
    "Zażółć gęślą jaźń": ["cp1250", "iso8859_2"],
    "Příliš žluťoučký kůň": ["cp1250", "iso8859_2"],
    "Türkçe güzel bir dildir, değil mi?": ["cp1254"],
    "¿Qué tal, señor?": ["cp1252", "iso8859_1"],
    "Prix : 5 € seulement": ["cp1252"],
    "“quoted” — it’s ±5 °C": ["cp1252"],
    "Räksmörgås på ön": ["cp1252"],
    "naïve": ["cp1252"],
}
LONG = {
    "Сокол самая быстрая птица на Земле. Она охотится днём и видит далеко.": ["cp1251", "koi8_r", "iso8859_5", "cp866"],
    "猎鹰是地球上最快的动物。它们白天狩猎，视力很好。": ["gbk"],
    "獵鷹是地球上最快的動物。牠們白天狩獵，視力很好。": ["big5"],
    "隼は地球上で最も速い動物です。昼間に狩りをします。": ["cp932", "euc_jp"],
    "송골매는 지구에서 가장 빠른 동물입니다. 낮에 사냥합니다.": ["euc_kr"],
    "الصقر أسرع حيوان على الأرض. يصطاد في النهار ويرى بعيدا جدا.": ["cp1256", "iso8859_6"],
    "הבז הוא החיה המהירה ביותר בעולם. הוא צד ביום.": ["cp1255", "iso8859_8"],
    "Το γεράκι είναι το πιο γρήγορο ζώο στη Γη.": ["cp1253", "iso8859_7"],
    "Sokół jest najszybszym zwierzęciem na świecie. Poluje w dzień.": ["cp1250", "iso8859_2"],
    "Ąžuolas žydi pavasarį, vanagas skraido aukštai danguje ir ieško grobio prie upės, kur žaidžia vaikai.": ["cp1257"],
    "Grüße aus München, schöne Straße": ["cp1252", "iso8859_1", "iso8859_15"],
}
CODED = [(text, encoding) for texts in (SHORT, LONG) for text, all in texts.items() for encoding in all]


@pytest.mark.parametrize(("text", "encoding"), CODED)
@pytest.mark.parametrize("times", [1, 150])
def test_text_of_an_encoding_that_the_file_does_not_say(tmp_path: Path, text: str, encoding: str, times: int) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\n".join([text] * times).encode(encoding))
    assert read_document(path) == "\n".join([text] * times)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Да", "cp1251"),
        ("Где?", "cp1251"),
        ("日本", "euc_jp"),
        ("ПРИВЕТ, МИР", "koi8_r"),
        ("Привет, мир", "mac_cyrillic"),
        ("мир", "iso8859_5"),
        ("שלום", "cp1255"),
    ],
)
def test_what_could_be_several_texts_is_never_guessed(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(InvalidRequest, match=r"encoding of a\.txt cannot be determined.*UTF-8"):
        read_document(path)


def test_indentation_of_the_first_line_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n    def f():\n        return 1\n")
    assert read_document(path) == "    def f():\n        return 1"


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


def test_a_pdf_that_takes_for_ever_is_refused_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Bounded("ui.pdf_worker", 1, 500_000_000)
    monkeypatch.setattr("ui.documents.PDFS", process)
    writer = pdf("x")
    content = DecodedStreamObject()
    content.set_data(b"BT /F1 12 Tf " + b"1 0 0 1 0 0 Tm (a) Tj " * 1_000_000 + b"ET")
    writer.pages[0][NameObject("/Contents")] = content.flate_encode()
    path = saved(writer, tmp_path / "a.pdf")
    assert path.stat().st_size < 200_000
    with pytest.raises(InvalidRequest, match="takes too long to read"):
        read_document(path)
    assert read_document(saved(pdf("Next"), tmp_path / "b.pdf")) == "Next"
    process.close()
