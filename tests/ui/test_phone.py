"""Files for phones: what is given away, and that nothing else is."""

import json
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from falcon_runtime.models.exported import Exported
from ui.phone import Downloads, PhoneFiles

NUMBER = "0" * 64


@pytest.fixture
def files(tmp_path: Path) -> PhoneFiles:
    """A model for phones, and folders that are none."""
    models = tmp_path / "models"
    for name in ("a phone's", "theirs"):
        folder = models / name
        folder.mkdir(parents=True)
        (folder / "model.pte").write_bytes(bytes(range(256)) * 1000)
        (folder / "tokenizer.json").write_text(json.dumps({"name": name}))
        (folder / "secret.txt").write_text("secret")
    facts = Exported(
        name="a phone's",
        title="A phone's",
        target="stock",
        recipe="int4",
        parameters=1,
        context=64,
        licence="Apache-2.0 <b>",
        source="nowhere",
        source_sha256=NUMBER,
        program_bytes=256_000,
        program_sha256=NUMBER,
        versions={},
    )
    facts.save(models / "a phone's")
    (tmp_path / "model.pte").write_text("outside")
    return PhoneFiles(models)


def test_links_tell_size_and_licence(files: PhoneFiles) -> None:
    links = files.links("a phone's")
    assert '<a href="/phone/a%20phone%27s/model.pte" download>model.pte</a> (0.3 MB)' in links
    assert "Licence: Apache-2.0 &lt;b&gt;." in links
    assert "secret" not in links
    assert files.links("theirs") == files.links("nobody's") == ""


def test_only_what_is_for_phones_is_given_away(files: PhoneFiles) -> None:
    client = TestClient(Downloads(Starlette(), files))
    whole = client.get("/phone/a%20phone's/model.pte")
    assert whole.content == bytes(range(256)) * 1000
    assert whole.headers["content-disposition"].startswith("attachment")
    rest = client.get("/phone/a%20phone's/model.pte", headers={"Range": "bytes=255999-"})
    assert (rest.status_code, rest.content) == (206, b"\xff")
    paths = ("theirs/model.pte", "a%20phone's/secret.txt", "a%20phone's/export.json", "a%20phone's/", "../model.pte")
    for path in (*paths, "..%2Fmodel.pte", "a%20phone's/..%2F..%2Fmodel.pte", "a%20phone's%2Fmodel.pte%00/model.pte"):
        assert client.get(f"/phone/{path}").status_code == 404, path
    assert client.post("/phone/a%20phone's/model.pte").status_code == 404
