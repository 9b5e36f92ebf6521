"""Prompts: text, messages or an instruction to token ids."""

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import InvalidRequest, PromptTooLong
from .call_form import CallForm
from .chat_template import Rendering, render
from .encoder import Encoder
from .transcripts import Transcripts
from .turns import Message, Turn, turns_of
from .well_known import WELL_KNOWN, fitting_templates

Render = Callable[[list[Turn]], Rendering]
NO_VARIABLES: Mapping[str, Any] = {}
MAX_CHARACTERS = 1_000_000
"""More than any context holds; tokenizing it would only keep a processor busy."""


def encode_text(encoder: Encoder, text: str, context: int, max_characters: int | None = None) -> list[int]:
    """Tokens of a text that is to be continued, with the special tokens that the tokenizer puts before a text.

    Errors: InvalidRequest; PromptTooLong unless a new token fits after them into `context`.
    """
    if not text:
        raise InvalidRequest("The prompt is empty. Write the beginning of the text that the model should continue.")
    _check_size([text], max_characters)
    tokens = [*encoder.prefix, *encoder(text)]
    _check_length(tokens, context)
    return tokens


def check_tokens(tokens: Sequence[int], vocabulary: int, context: int) -> list[int]:
    """Token ids, special ones included, as the prompt that they are. Errors: InvalidRequest unless the model, which has
    `vocabulary` tokens, knows each of them; PromptTooLong unless a new token fits after them into `context`."""
    if not tokens:
        raise InvalidRequest("The prompt is empty. Give at least one token.")
    _check_length(tokens, context)
    check_known(tokens, vocabulary)
    return list(tokens)


def check_known(tokens: Sequence[int], vocabulary: int) -> None:
    """Errors: InvalidRequest unless the model, which has `vocabulary` tokens, knows each of these ids."""
    for token in tokens:
        if type(token) is not int or not 0 <= token < vocabulary:
            raise InvalidRequest(
                f"The model has no token {token!r:.200}; its tokens are the whole numbers from 0 to {vocabulary - 1:,}."
            )


@dataclass(frozen=True)
class ChatPrompt:
    """A conversation up to where the assistant goes on."""

    text: str
    """As rendered, control tokens as the encoder's seals."""
    tokens: list[int]
    dropped_messages: int
    """How many of the oldest messages were left out."""
    form: CallForm
    """How calls of functions are written in it."""


def encode_chat(
    encoder: Encoder,
    messages: Sequence[Message],
    context: int,
    max_new_tokens: int | None,
    transcripts: Transcripts | None = None,
    max_characters: int | None = None,
    variables: Mapping[str, Any] = NO_VARIABLES,
    functions: Sequence[Mapping[str, Any]] = (),
) -> ChatPrompt:
    """A conversation as a prompt for the answer to its last message or, where that is the assistant's, for the rest of
    it.

    The prompt leaves room for an answer of `max_new_tokens`, at most a quarter of `context` tokens: where it would not,
    the oldest turns are left out; with None, nothing is. `transcripts` say how the model spelled earlier answers;
    without them, all is tokenized afresh. `variables` are for the template, beside the messages; `functions` (name,
    description, parameters) are those that the model may call. Errors: InvalidRequest; PromptTooLong where what is
    never left out exceeds the context.
    """
    if not encoder.chat_template:
        raise InvalidRequest(_no_template(encoder))
    turns = turns_of(messages)
    _check_answerable(turns)
    calls = [json.dumps(call.arguments) for turn in turns for call in turn.calls]
    _check_size([*(turn.content for turn in turns), *calls, *map(json.dumps, functions)], max_characters)
    room = None if max_new_tokens is None else min(max_new_tokens, context // 4)
    rendered = partial(render, encoder, variables=variables, functions=functions)
    kept, (text, form), tokens = _fit(encoder, turns, context, room, rendered)
    _check_length(tokens, context)
    # What to leave out depends on the conversation alone, so it was decided on fresh tokens.
    spelled = transcripts.encode(text) if transcripts else tokens
    return ChatPrompt(text, spelled if len(spelled) < context else tokens, len(turns) - len(kept), form)


def instruction_messages(instruction: str, context: str, system: str) -> list[Message]:
    """An instruction, and the text that it is about where there is one, as a conversation of one turn."""
    if not (instruction or "").strip():
        raise InvalidRequest("The instruction is empty. Say what the model should do.")
    content = f"{instruction}\n\n{context}" if context.strip() else instruction
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    return [*messages, {"role": "user", "content": content}]


def _check_answerable(turns: Sequence[Turn]) -> None:
    if not turns:
        raise InvalidRequest("The conversation is empty. Send at least one message of the user's.")
    role, content = turns[-1].role, turns[-1].content
    if role == "system":
        raise InvalidRequest(
            "The last message is the system's. It must be the user's, to be answered, or the assistant's, to be "
            "continued."
        )
    if not any(turn.role == "user" for turn in turns):
        raise InvalidRequest(
            "There is no user message. The assistant needs one to answer: put it before the assistant's."
        )
    if role == "user" and not content.strip():
        raise InvalidRequest("The message is empty. The user's last message must say something.")
    if role == "assistant" and not content.strip():
        raise InvalidRequest(
            "The assistant's message at the end is empty. Leave it out to have the user's answered, or begin it to "
            "have it continued."
        )


def _fit(
    encoder: Encoder, turns: list[Turn], context: int, room: int | None, rendered: Render
) -> tuple[list[Turn], Rendering, list[int]]:
    """The turns that are kept so that `room` tokens (None: whatever) are left in the context, rendered, and their fresh
    tokens.

    System messages, the last user message and what follows it are always kept, so that it may still be too long.
    """
    rendering = rendered(turns)
    tokens = encoder(rendering.text)
    if room is None:
        return turns, rendering, tokens
    excess = len(tokens) + room - context
    # Where the rest may begin: at a user message.
    cuts = [i for i, turn in enumerate(turns) if turn.role == "user" and i > 0]
    if excess <= 0 or not cuts:
        return turns, rendering, tokens

    def dropped(cut: int) -> int:
        return len(tokens) - len(encoder(rendered(_from(turns, cut)).text))

    # Were just the excess dropped, each turn would drop another one and everything after it be read again. In steps
    # of a quarter of the context, the prompt begins the same until the conversation has grown by that much.
    step = max(1, context // 4)
    for wanted in (-(-excess // step) * step, excess):
        if (i := bisect_left(cuts, wanted, key=dropped)) < len(cuts):
            break
    kept = _from(turns, cuts[min(i, len(cuts) - 1)])
    rendering = rendered(kept)
    return kept, rendering, encoder(rendering.text)


def _from(turns: list[Turn], cut: int) -> list[Turn]:
    return [turn for turn in turns[:cut] if turn.role == "system"] + turns[cut:]


def _no_template(encoder: Encoder) -> str:
    """Why there can be no conversation, and what to do."""
    fitting = fitting_templates(encoder.tokenizer)
    known = f"; {' and '.join(fitting)} would fit its tokens" if fitting else ""
    return (
        "This model has no chat template: it can only continue text. Use generate. Or choose a template, on the page "
        f"under Models, or with --chat-template (a file or one of {', '.join(WELL_KNOWN)}{known}), or put the model's "
        "own into its folder as chat_template.jinja, and start again."
    )


def _check_length(tokens: Sequence[int], context: int) -> None:
    if len(tokens) >= context:
        raise PromptTooLong(  # Clients know it by these words: "This model's maximum context length is".
            f"This model's maximum context length is {context:,} tokens, prompt and answer together, and the prompt "
            f"has {len(tokens):,}. Shorten it, or use a model with a longer context."
        )


def _check_size(texts: Sequence[str], most: int | None) -> None:
    most = most or MAX_CHARACTERS
    if (size := sum(map(len, texts))) > most:
        raise PromptTooLong(f"The prompt has {size:,} characters; at most {most:,} are allowed here. Shorten it.")
