"""The conversation as HTML: what people wrote as they wrote it, answers as Markdown, and buttons below each."""

from collections.abc import Sequence
from html import escape

from . import answers
from .conversations import Conversation, Message

GREETING = (
    '<div class="greeting"><h3>Ask anything</h3><p>Your conversations stay in this browser, on no server.</p></div>'
)
ICONS = {
    "Copy": "M9 9h11v11H9zM15 9V4H4v11h5",
    "Edit": "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
    "Like": "M8 11l4-7c1.6 0 2.4 1.2 2 2.8L13.2 10H18.5c1.2 0 2 1 1.8 2l-1.3 6.3c-.2 1-1 1.7-2 1.7H8zM4 11h4v9H4z",
    "Dislike": "M8 13l4 7c1.6 0 2.4-1.2 2-2.8L13.2 14H18.5c1.2 0 2-1 1.8-2L19 5.7C18.8 4.7 18 4 17 4H8zM4 4h4v9H4z",
}


def render(path: Sequence[Message], conversation: Conversation, examples: Sequence[str]) -> str:
    """The messages of `path`, all or the first ones of those that the conversation shows; `examples` of questions where
    there are none."""
    if not path:
        buttons = "".join(f'<button type="button" class="example">{escape(example)}</button>' for example in examples)
        return f'{GREETING}<div class="examples">{buttons}</div>'
    return "".join(_row(place, message, conversation) for place, message in enumerate(path))


def _row(place: int, message: Message, conversation: Conversation) -> str:
    if message.role == "user":
        kind, words = "user-row", f'<div class="bubble written" dir="auto">{escape(message.content)}</div>'
        tools = _tool("Copy") + _tool("Edit")
    else:
        kind, words = "bot-row", f'<div class="bubble">{answers.render(message.content)}</div>'
        ratings = "".join(_tool(rating, str(message.feedback == rating).lower()) for rating in ("Like", "Dislike"))
        tools = _tool("Copy") + ratings
    tools += _versions(place, message, conversation)
    return f'<article class="{kind}" data-message="{message.id}">{words}<div class="tools">{tools}</div></article>'


def _tool(name: str, pressed: str = "") -> str:
    """A small button; `pressed` says whether it is, where it can be."""
    state = f' aria-pressed="{pressed}"' if pressed else ""
    icon = f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{ICONS[name]}"/></svg>'
    return f'<button type="button" data-do="{name.lower()}" aria-label="{name}" title="{name}"{state}>{icon}</button>'


def _versions(place: int, message: Message, conversation: Conversation) -> str:
    """Which version of a message is shown, and buttons that show the ones beside it."""
    versions = conversation.versions(message.id)
    if len(versions) < 2:
        return ""
    at = versions.index(message.id)
    name = f"{'Question' if message.role == 'user' else 'Answer'} {place // 2 + 1}"
    earlier, later = (
        f'<button type="button" data-do="show" aria-label="{name}: {word} version"'
        + (f' data-version="{versions[other]}"' if 0 <= other < len(versions) else " disabled")
        + f">{sign}</button>"
        for sign, word, other in (("‹", "earlier", at - 1), ("›", "later", at + 1))
    )
    return f'<span class="versions">{earlier}<span>{at + 1}/{len(versions)}</span>{later}</span>'
