"""A conversation: what the visitor's browser keeps of it, and what an exported file holds.

The messages of a conversation form a tree: another wording of a question and another answer to it stand beside the
earlier ones, and one path through the tree is shown. Nothing here changes an object; every function returns a new one.
What comes from a browser or a file may have been edited by hand: it is checked before it becomes an object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from secrets import randbelow
from typing import Annotated, Any, Literal, Self
from uuid import uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from falcon_runtime.errors import InvalidRequest
from falcon_runtime.system.unicode import whole

FORMAT, VERSION = "falcon-conversation", 1
MAX_FILE_BYTES = 5_000_000
"""About what a browser keeps for a page."""
MAX_ID = 2**53 - 1
"""Up to here JavaScript tells whole numbers apart."""
TITLE_LENGTH = 40
UNTITLED = "New conversation"
SPEAKERS = {"user": "You", "assistant": "Model"}
RATINGS = {"Like": "liked", "Dislike": "disliked"}

Role = Literal["user", "assistant"]
Feedback = Literal["Like", "Dislike"]


def _new_id() -> str:
    return uuid4().hex


Text = Annotated[str, AfterValidator(whole)]
Id = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(whole)]


class Checked(BaseModel):
    """A model that neither changes nor takes fields that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Attachment(Checked):
    """A file that came with a message, as text."""

    name: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(whole)]
    text: Text
    tokens: Annotated[int, Field(ge=0)] = 0


class Message(Checked):
    """One message and the one that it follows."""

    id: Annotated[int, Field(ge=0, le=MAX_ID)]
    parent: int | None
    role: Role
    content: Text
    feedback: Feedback | None = None
    attachments: tuple[Attachment, ...] = ()
    by: Annotated[str, Field(max_length=200), AfterValidator(whole)] = ""
    """What wrote an answer where that was not the page's own model and settings."""
    cut: bool = False
    """Whether the page was closed while the answer was written."""

    @property
    def told(self) -> str:
        """What the model sees: what is attached, each with its name, and then the message."""
        files = [f"{file.name}:\n\n{file.text}" for file in self.attachments]
        return "\n\n".join([*files, self.content] if self.content else files)


class Conversation(Checked):
    """A tree of messages, in order of their creation. Functions that take a message's id raise InvalidRequest if there
    is no such message."""

    id: Id = Field(default_factory=_new_id)
    system: Text | None = None
    """The system prompt; None for the model's own, empty for none at all."""
    name: Annotated[str, Field(max_length=200), AfterValidator(whole)] = ""
    """The title that the visitor gave it."""
    messages: tuple[Message, ...] = ()
    current: int | None = None
    """The last message of the path that is shown."""

    @model_validator(mode="after")
    def _is_tree(self) -> Self:
        check_tree(self.messages, self.current)
        return self

    @property
    def path(self) -> list[Message]:
        """The messages that are shown: from the first one to the current one."""
        return self._path_to(self.current)

    @property
    def title(self) -> str:
        """The visitor's own, or the first words of the first question that is shown."""
        if self.name:
            return self.name
        questions = (message.content for message in self.path if message.role == "user")
        return shortened(next(questions, "")) or UNTITLED

    @property
    def last_question(self) -> Message | None:
        """The last message of the visitor's that is shown."""
        return next((message for message in reversed(self.path) if message.role == "user"), None)

    def message(self, id: int) -> Message:
        """The message with this id."""
        for message in self.messages:
            if message.id == id:
                return message
        raise InvalidRequest("This message is no longer in the conversation. Reload the page.")

    def add(self, role: Role, content: str, **fields: Any) -> Conversation:
        """With a message after the current one, which becomes current."""
        return self._with_new(self.current, role, content, **fields)

    def revise(self, id: int, content: str) -> Conversation:
        """With another version of a message beside it, which becomes current."""
        message = self.message(id)
        return self._with_new(message.parent, message.role, content, attachments=message.attachments)

    def rate(self, id: int, feedback: Feedback | None) -> Conversation:
        """With a rating of a message, or without the one that it had."""
        rated = self.message(id).model_copy(update={"feedback": feedback})
        messages = tuple(rated if message.id == id else message for message in self.messages)
        return self.model_copy(update={"messages": messages})

    def back_to(self, id: int | None) -> Conversation:
        """With this message as the current one, or none. What follows it is kept."""
        return self.model_copy(update={"current": None if id is None else self.message(id).id})

    def remove(self, id: int) -> Conversation:
        """Without a message and all that follow it. The one before it becomes current."""
        gone = _below(self.messages, id)
        kept = tuple(message for message in self.messages if message.id not in gone)
        return self.model_copy(update={"messages": kept, "current": self.message(id).parent})

    def versions(self, id: int) -> list[int]:
        """The ids of a message and those beside it, the oldest first."""
        parent = self.message(id).parent
        return [message.id for message in self.messages if message.parent == parent]

    def show(self, id: int) -> Conversation:
        """With the path through a message that goes on with the newest one at each step."""
        newest = {message.parent: message.id for message in self.messages}
        last = self.message(id).id
        while last in newest:
            last = newest[last]
        return self.back_to(last)

    def _path_to(self, id: int | None) -> list[Message]:
        by_id = {message.id: message for message in self.messages}
        path = []
        while id is not None:
            path.append(by_id[id])
            id = by_id[id].parent
        return path[::-1]

    def _with_new(self, parent: int | None, role: Role, content: str, **fields: Any) -> Conversation:
        # Random, since another tab of the browser may be adding to the same conversation.
        id = randbelow(MAX_ID)
        message = Message(id=id, parent=parent, role=role, content=content, **fields)
        return self.model_copy(update={"messages": (*self.messages, message), "current": id})


def load(text: str) -> Conversation:
    """What a browser kept, the result of `dump`. Anything unreadable gives an empty conversation."""
    try:
        data = json.loads(text)
        return Conversation.model_validate(
            {key: value for key, value in data.items() if key != "title"} if isinstance(data, dict) else {}
        )
    except (ValueError, RecursionError, InvalidRequest):  # pydantic's errors are ValueErrors.
        return Conversation()


def dump(conversation: Conversation) -> str:
    """What a browser keeps, as JSON: the conversation, and its title for the menu.

    As one text, since Gradio's page copies every part of every component's value with each piece of an answer.
    """
    return json.dumps({**conversation.model_dump(mode="json"), "title": conversation.title}, ensure_ascii=False)


def to_json(conversation: Conversation) -> str:
    """A conversation as a file, which `from_json` reads."""
    content = conversation.model_dump(mode="json", exclude={"id"})
    return json.dumps({"format": FORMAT, "version": VERSION, **content}, ensure_ascii=False, indent=2) + "\n"


def from_json(text: str | bytes) -> Conversation:
    """The conversation in a file of `to_json`, or in a list of messages as OpenAI's API has them. Its id is new.

    Errors: InvalidRequest if the file is too large, no JSON, of another format, or its messages do not fit together.
    """
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(content) > MAX_FILE_BYTES:
        raise InvalidRequest(
            f"The file has {len(content):,} bytes; at most {MAX_FILE_BYTES:,} are allowed. Choose a smaller one."
        )
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The file is not JSON. Choose a conversation that was exported as JSON.") from error
    try:
        return Conversation.model_validate(_from_list(data) if isinstance(data, list) else _from_file(data))
    except ValidationError as error:
        raise _damaged(_problem(error)) from error


def to_markdown(conversation: Conversation) -> str:
    """The path that is shown, to be read by people. Answers are Markdown already; what a person wrote stands in a block
    of code, where every character stays what it is."""
    parts = [f"# {_escaped(conversation.title)}"]
    if conversation.system and conversation.system.strip():
        parts += ["**System prompt**", _fenced(conversation.system)]
    for message in conversation.path:
        rating = f" ({RATINGS[message.feedback]})" if message.feedback else ""
        content = _fenced(message.content) if message.role == "user" else message.content
        parts += [f"**{SPEAKERS[message.role]}**{rating}", content]
        parts += [f"Attached, {_escaped(file.name)}:\n\n{_fenced(file.text)}" for file in message.attachments]
    return "\n\n".join(parts) + "\n"


def _fenced(text: str) -> str:
    """A text as a block of code, with a fence longer than any row of backticks in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def _escaped(line: str) -> str:
    """A line of text as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#+\-.!|~&$])", r"\\\1", line)


def shortened(text: str, length: int = TITLE_LENGTH) -> str:
    """The text on one line, cut after a word if it is longer than `length` characters."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    beginning, _, rest = line[:length].rpartition(" ")
    return (beginning or rest[:-1]) + "…"


def check_tree(messages: Sequence[Message], current: int | None) -> None:
    """Errors: InvalidRequest unless the messages form a tree, or several, and `current` is one of them."""
    ids = {message.id for message in messages}
    if len(ids) < len(messages):
        raise _damaged("two of its messages have the same id")
    for message in messages:
        if message.parent is not None and message.parent not in ids:
            raise _damaged(f"message {message.id} follows message {message.parent}, which is not there")
    if lost := ids - _below(messages, None):
        raise _damaged(f"message {min(lost)} follows itself")
    if current is not None and current not in ids:
        raise _damaged(f"message {current}, which is to be shown, is not there")


def _damaged(problem: str) -> InvalidRequest:
    return InvalidRequest(f"The conversation is damaged: {problem}. Export it again, or repair the file.")


def _below(messages: Sequence[Message], id: int | None) -> set[int | None]:
    """The ids of a message and of all that follow it; None stands before the first ones."""
    children: dict[int | None, list[int]] = {}
    for message in messages:
        children.setdefault(message.parent, []).append(message.id)
    found, waiting = {id}, [id]
    while waiting:
        following = children.get(waiting.pop(), [])
        found.update(following)
        waiting += following
    return found


def _from_file(data: Any) -> dict[str, Any]:
    """The fields of a conversation in the content of a file of ours."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InvalidRequest(
            "The file holds no conversation. Choose one that was exported here, or a list of messages with role and "
            "content."
        )
    if data.get("version") != VERSION:
        raise InvalidRequest(
            f"The file is of version {data.get('version')!r:.20} of its format; this page reads version {VERSION}. "
            f"Export it again from here."
        )
    return {key: value for key, value in data.items() if key not in ("format", "version", "id")}


def _from_list(data: list[Any]) -> dict[str, Any]:
    """The fields of a conversation in a list of messages, each of which follows the one before it."""
    turns = list(_turns(data))
    system = turns.pop(0)[1] if turns and turns[0][0] == "system" else None
    messages = [
        {"id": i, "parent": i - 1 if i else None, "role": role, "content": content}
        for i, (role, content) in enumerate(turns)
    ]
    return {"system": system, "messages": messages, "current": len(messages) - 1 if messages else None}


def _turns(data: list[Any]) -> Iterator[tuple[Any, Any]]:
    for message in data:
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise InvalidRequest(
                f"Each message in the file must have a role and a content; {message!r:.100} has not. Repair the file."
            )
        yield message["role"], message["content"]


def _problem(error: ValidationError) -> str:
    """The first problem that pydantic found: where it is and what is wrong."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}"
