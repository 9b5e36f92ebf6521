"""What a chat template knows of tools, found out by trying it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from weakref import WeakKeyDictionary

from .call_form import HERMES, CallForm
from .calls import Calling, CallReader
from .encoder import CLOSE, OPEN, Encoder
from .filling import Shape, filled
from .templates import Refused
from .turns import Call, Turn

_NAMES = "probe_of_one", "probe_of_two"
_ARGUMENTS = {"probed_key": "probed value"}
_CALLS = [Call(f"{i + 1:09}", name, _ARGUMENTS) for i, name in enumerate(_NAMES)]
_FUNCTIONS = [
    {
        "name": name,
        "description": "A probe.",
        "parameters": {
            "type": "object",
            "properties": {"probed_key": {"type": "string", "description": "Any text."}},
            "required": ["probed_key"],
        },
    }
    for name in _NAMES
]
_WORDS = "Probed words."


@dataclass(frozen=True)
class Dialect:
    shape: Shape | None
    """How the template gets calls; None where it knows no tools, and all is told in words (`tool_prompt.py`)."""
    form: CallForm
    """How calls are written."""


IN_WORDS = Dialect(None, HERMES)
_known: WeakKeyDictionary[Encoder, Dialect] = WeakKeyDictionary()


def dialect_of(encoder: Encoder) -> Dialect:
    """What the encoder's template knows of tools.

    It knows them if it shows functions, calls and results, and writes calls in a form in which they can be read again.
    """
    if encoder not in _known:
        shapes: tuple[Shape, ...] = ("function", "flat")
        found = (Dialect(shape, form) for shape in shapes if (form := _form(encoder, shape)))
        _known[encoder] = next(found, IN_WORDS)
    return _known[encoder]


def _form(encoder: Encoder, shape: Shape) -> CallForm | None:
    """How the template writes calls, if it does and that can be read."""
    asked = Turn("user", "A question.")
    words = _tried(encoder, [asked, Turn("assistant", _WORDS)], shape)
    one, two = (
        _tried(
            encoder,
            [asked, Turn("assistant", "", tuple(calls)), *(Turn("tool", "A result.", answered=call) for call in calls)],
            shape,
        )
        for calls in (_CALLS[:1], _CALLS)
    )
    if not words or not one:
        return None
    before, _, after = words.partition(_WORDS)
    ending = encoder.first_control(after)
    start = _common(before, one)
    try:
        name = one.index(_NAMES[0], start)
        arguments, end = _object(one, name)
        stop = one.index(ending, end) if ending else -1
    except ValueError:
        return None
    if stop < 0:
        return None
    begin, middle = one[start:name].lstrip(), one[name + len(_NAMES[0]) : arguments]
    return _readable(encoder, begin, middle, _between(one[:end], two, middle), one[end:stop])


def _tried(encoder: Encoder, turns: Sequence[Turn], shape: Shape) -> str:
    """The turns in the template; empty where it does not take them."""
    try:
        text, complete = filled(encoder, turns, {}, _FUNCTIONS, shape)
    except Refused:
        return ""
    return text if complete else ""


def _common(one: str, other: str) -> int:
    """How many characters two texts have in common, no part of a seal."""
    common = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    opened = common.rfind(OPEN)
    return opened if opened > common.rfind(CLOSE) else len(common)


def _object(text: str, start: int) -> tuple[int, int]:
    """Where the arguments stand in `text`. Errors: ValueError."""
    at = text.rindex("{", start, text.index('"probed_key"', start))
    value, end = json.JSONDecoder().raw_decode(text, at)
    if value != _ARGUMENTS:
        raise ValueError
    return at, end


def _between(one: str, two: str, middle: str) -> str | None:
    """What stands between two calls; `one` is the text up to the end of the first."""
    if not two.startswith(one):
        return None
    between, _, rest = two[len(one) :].partition(_NAMES[1])
    return between if rest.startswith(middle) else None


def _readable(encoder: Encoder, begin: str, middle: str, between: str | None, end: str) -> CallForm | None:
    """The form, if calls that are written in it are read as what they are."""
    texts, controls = encoder.unsealed([begin, middle, between or "", end])
    form = CallForm(texts[0], texts[1], None if between is None else texts[2], texts[3], controls)
    written = json.dumps(_ARGUMENTS)
    pairs = [f"{name}{form.middle}{written}" for name in (_NAMES if form.between is not None else _NAMES[:1])]
    reader = CallReader(Calling(_NAMES, form))
    reader.add(f"{form.begin}{(form.between or '').join(pairs)}{form.end}")
    reader.end()
    read = [(call.name, call.arguments, call.whole) for call in reader.calls]
    expected = [(name, written, True) for name in _NAMES[: len(pairs)]]
    return form if read == expected and not reader.content else None
