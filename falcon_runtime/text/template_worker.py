"""The chat templates' process: `python -m falcon_runtime.text.template_worker SOCKET SECONDS BYTES`, started by
`templates.py`, whose limits these are.

A template is a program that somebody else has written. Jinja's sandbox keeps it from Python's attributes, but not from
endless loops, nor from texts of gigabytes. Messages are JSON: who found a way out of the sandbox would be in this
process alone. The environment is that of transformers (`utils/chat_template_utils.py`), whose import takes a second.
"""

import json
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..system.bounded import serve
from .templates import LONGEST, Reply


class Generation(Extension):
    """`{% generation %}` marks what the assistant says, for those who train models."""

    tags = {"generation"}  # noqa: RUF012  (As its base class has it.)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@lru_cache(8)
def compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)


def filled(request: bytes) -> Reply:
    """The text, or the template's own words why there is none."""
    template, variables = json.loads(request)
    try:
        text = compiled(template).render({"tools": None, "documents": None} | variables)
    except MemoryError:
        return {"refusal": "it takes too much memory"}
    except Exception as error:  # Templates raise all that Python does.
        return {"refusal": f"{error!s:.1000}" or type(error).__name__}
    return {"text": text} if len(text) <= LONGEST else {"refusal": f"it writes more than {LONGEST:,} characters"}


if __name__ == "__main__":
    serve(lambda request: json.dumps(filled(request)).encode())
