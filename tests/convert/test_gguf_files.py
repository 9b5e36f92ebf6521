"""Of several GGUF files the one that is meant is taken, or people are told what there is."""

import pytest

from falcon_runtime.convert.gguf_files import check_whole, choose_gguf, gguf_files, only_gguf
from falcon_runtime.errors import ConversionFailed

PARTS = [f"Q8_0/Small-Q8_0-0000{i}-of-00002.gguf" for i in (1, 2)]
FILES = [
    *("Small-Q4_0_4_4.gguf", "Small-Q4_0.gguf", "Small-Q4_K_M.gguf", "Small-UD-Q4_K_M.gguf", "small.q5_k_s.gguf"),
    *("IQ3_M/Small.gguf", "mmproj-Small-F16.gguf", "Small-imat-F16.GGUF", "README.md", "config.json", *PARTS),
]


@pytest.mark.parametrize(
    ("quantization", "file"),
    [
        ("Q4_K_M", "Small-Q4_K_M.gguf"),
        ("q4_k_m", "Small-Q4_K_M.gguf"),
        ("UD-Q4_K_M", "Small-UD-Q4_K_M.gguf"),
        ("Q4_0", "Small-Q4_0.gguf"),
        ("Q5_K_S", "small.q5_k_s.gguf"),
        ("IQ3_M", "IQ3_M/Small.gguf"),
        ("F16", "Small-imat-F16.GGUF"),
        (None, "Small-Q4_K_M.gguf"),
    ],
)
def test_the_file_of_a_quantization(quantization: str | None, file: str) -> None:
    assert choose_gguf(FILES, "ORG/NAME", quantization) == file
    assert choose_gguf(reversed(FILES), "ORG/NAME", quantization) == file


@pytest.mark.parametrize(
    ("names", "file"),
    [
        (["a-Q8_0.gguf", "a-Q4_0.gguf", "a-F16.gguf"], "a-Q4_0.gguf"),
        (["a-Q8_0.gguf", "a-Q2_K.gguf"], "a-Q8_0.gguf"),
        (["a-Q2_K.gguf", "mmproj-a.gguf"], "a-Q2_K.gguf"),
        ([*PARTS, "a-Q2_K.gguf"], "a-Q2_K.gguf"),
    ],
)
def test_the_usual_file(names: list[str], file: str) -> None:
    assert choose_gguf(names, "ORG/NAME") == file


@pytest.mark.parametrize(
    ("names", "quantization", "words"),
    [
        (FILES, "Q4_K", r"no GGUF file of Q4_K\. .*ORG/NAME/IQ3_M/Small\.gguf; there are .*Small-Q4_K_M\.gguf"),
        (FILES, "Q8_0", r"Q8_0-00001-of-00002\.gguf of ORG/NAME is one of 2 parts.*llama-gguf-split --merge"),
        (["a-Q2_K.gguf", "a-F16.gguf"], None, r"several GGUF files.*there are a-F16\.gguf, a-Q2_K\.gguf\."),
        (PARTS, None, "one of 2 parts"),
        (["model.safetensors"], "Q8_0", "no GGUF files at all: name ORG/NAME alone"),
        ([f"a-{i:02}.gguf" for i in range(25)], None, r"a-19\.gguf and 5 more"),
    ],
)
def test_what_cannot_be_chosen(names: list[str], quantization: str | None, words: str) -> None:
    with pytest.raises(ConversionFailed, match=words):
        choose_gguf(names, "ORG/NAME", quantization)


def test_what_is_a_model_and_what_is_not() -> None:
    assert gguf_files(["b.gguf", "a.GGUF", "mmproj-b.gguf", "x/imatrix.gguf", "c.bin"]) == ["a.GGUF", "b.gguf"]
    assert only_gguf(["a.gguf", "config.json", "pytorch_model.bin"])
    assert not only_gguf(["a.gguf", "model.safetensors"])
    assert not only_gguf(["mmproj-a.gguf"])
    check_whole("a-of-b.gguf", "ORG/NAME")
    with pytest.raises(ConversionFailed, match="one of 12 parts"):
        check_whole("a-00003-of-00012.gguf", "ORG/NAME")
