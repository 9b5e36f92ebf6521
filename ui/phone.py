"""Models for phones: the files of those that `convert --for stock` made, to be downloaded from the page."""

from html import escape
from pathlib import Path
from urllib.parse import quote

from starlette.responses import FileResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from falcon_runtime.errors import ModelDamaged
from falcon_runtime.models.exported import is_exported, parse_exported
from falcon_runtime.models.library import converted_models

from . import words
from .words import say

PREFIX = "/phone/"
FILES = (
    "model.pte",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "README.md",
)
"""What is given away of a model's folder, and nothing else of the disk."""


class PhoneFiles:
    """The files in a models folder that are for phones."""

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir

    def find(self, model: str, file: str) -> Path | None:
        """The path of a file. What is asked for is looked up among what there is, and opens no path by itself."""
        known = model in converted_models(self._models_dir) and is_exported(self._models_dir / model)
        path = self._models_dir / model / file
        return path if known and file in FILES and path.is_file() else None

    def links(self, model: str) -> str:
        """The links to them, with size and licence, as HTML; empty where the model is not for phones."""
        found = {file: path for file in FILES if (path := self.find(model, file))}
        try:
            facts = parse_exported(self._models_dir / model) if found else None
        except ModelDamaged:
            facts = None
        if not facts or facts.target != "stock":
            return ""
        links = say("list.comma").join(
            f'<a href="{PREFIX}{quote(model, safe="")}/{file}" download>{file}</a> ({_size(path)})'
            for file, path in found.items()
        )
        told = say("phone.take", links=links)
        return f"{told} {say('phone.licence', licence=escape(facts.licence.rstrip('.')))}" if facts.licence else told


class Downloads:
    """Middleware (ASGI) that answers with the files of `files`. A download that was cut off goes on where it ended."""

    def __init__(self, app: ASGIApp, files: PhoneFiles) -> None:
        self._app, self._files = app, files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"].startswith(PREFIX):
            model, _, file = scope["path"].removeprefix(PREFIX).partition("/")
            if path := self._files.find(model, file):
                headers = {"x-content-type-options": "nosniff"}
                response = FileResponse(path, filename=file, media_type="application/octet-stream", headers=headers)
                return await response(scope, receive, send)
        await self._app(scope, receive, send)


def _size(path: Path) -> str:
    size = path.stat().st_size
    if size >= 100_000:
        return say("size.megabytes", size=words.number(size / 1e6, 1))
    return say("size.kilobytes", size=words.number(size / 1e3, 1))
