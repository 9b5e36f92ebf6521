"""The conversation as HTML: what people wrote as they wrote it, answers as Markdown, and buttons below each."""

from collections.abc import Iterator, Sequence
from html import escape

from . import answers
from .conversations import Attachment, Conversation, Message
from .icons import icon
from .words import say


def render(path: Sequence[Message], conversation: Conversation, examples: Sequence[str]) -> str:
    """The messages of `path`, all or the first ones of those that the conversation shows; `examples` of questions where
    there are none."""
    if not path:
        buttons = "".join(
            f'<button type="button" class="example" dir="auto">{escape(example)}</button>' for example in examples
        )
        greeting = f"<h2>{say('message.greeting')}</h2><p>{say('message.private')}</p>"
        return f'<div class="greeting">{greeting}</div><div class="examples">{buttons}</div>'
    return "".join(_row(place, message, conversation) for place, message in enumerate(path))


def _row(place: int, message: Message, conversation: Conversation) -> str:
    if message.role == "user":
        kind, words = "user-row", "".join(map(_attachment, message.attachments))
        words += f'<div class="bubble written" dir="auto">{escape(message.content)}</div>' if message.content else ""
    else:
        kind, words = "bot-row", f'<div class="bubble">{answers.render(message.content)}</div>'
    tools = "".join(_tools(message, conversation)) + _versions(place, message, conversation)
    by = f'<span class="by">{escape(message.by)}</span>' if message.by else ""
    return f'<article class="{kind}" data-message="{message.id}">{words}<div class="tools">{tools}{by}</div></article>'


def _attachment(file: Attachment) -> str:
    size = f" · {say('message.tokens', count=file.tokens)}" if file.tokens else ""
    return (
        f'<details class="attachment"><summary>{icon("file")}{escape(file.name)}{size}</summary>'
        f'<pre dir="auto">{escape(file.text)}</pre></details>'
    )


def _tools(message: Message, conversation: Conversation) -> Iterator[str]:
    """What can be done with a message."""
    yield _tool("copy")
    is_last = message.id == conversation.current
    if message.role == "user":
        yield _tool("edit")
        if message == conversation.last_question:
            yield _tool("undo")
        if is_last:
            yield _tool("again")
        return
    yield _tool("again")
    yield _tool("choose", 'aria-haspopup="menu"')
    if is_last:
        yield _tool("continue")
    yield _tool("fork")
    yield _tool("speak", 'aria-pressed="false"')
    for rating in ("Like", "Dislike"):
        yield _tool(rating.lower(), f'aria-pressed="{str(message.feedback == rating).lower()}"')


def _tool(name: str, state: str = "") -> str:
    words = say(f"message.{name}")
    return f'<button type="button" data-do="{name}" aria-label="{words}" title="{words}" {state}>{icon(name)}</button>'


def _versions(place: int, message: Message, conversation: Conversation) -> str:
    """Which version of a message is shown, and buttons that show the ones beside it."""
    versions = conversation.versions(message.id)
    if len(versions) < 2:
        return ""
    at = versions.index(message.id)
    name = say("message.question" if message.role == "user" else "message.answer", number=place // 2 + 1)
    beside = (("‹", say("message.earlier_version"), at - 1), ("›", say("message.later_version"), at + 1))
    earlier, later = (
        f'<button type="button" data-do="show" aria-label="{name}{words}"'
        + (f' data-version="{versions[other]}"' if 0 <= other < len(versions) else " disabled")
        + f">{sign}</button>"
        for sign, words, other in beside
    )
    return f'<span class="versions">{earlier}<span>{at + 1}/{len(versions)}</span>{later}</span>'
