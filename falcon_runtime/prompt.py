"""Prompts: text, messages or an instruction to token ids, through the tokenizer's own chat template.

Nothing else in the code knows a template.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import InvalidRequest, PromptTooLong

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, Any]
"""`{"role": "system" | "user" | "assistant", "content": text}`; the content may also be a list of text parts, as in
OpenAI's API: `[{"type": "text", "text": text}]`."""

ROLES = ("system", "user", "assistant")
MAX_CHARACTERS = 1_000_000
"""More than any context holds; tokenizing it would only keep a processor busy."""


def encode_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Tokens of a text that is to be continued, with the special tokens that the tokenizer puts before a text."""
    if not text:
        raise InvalidRequest("The prompt is empty. Write the beginning of the text that the model shall continue.")
    _check_size(text)
    return list(tokenizer.encode(text))


def encode_chat(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message]) -> list[int]:
    """Tokens of a conversation up to where the assistant's next message begins."""
    if not tokenizer.chat_template:
        raise InvalidRequest("This model has no chat template: it can only continue text. Use generate.")
    turns = [{"role": _role(message), "content": _content(message)} for message in messages]
    if not turns or turns[-1]["role"] != "user" or not turns[-1]["content"].strip():
        raise InvalidRequest("The message is empty. The last message must be the user's and say something.")
    _check_size(*(turn["content"] for turn in turns))
    try:
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    except Exception as error:  # jinja2's errors; templates raise them on purpose, say where roles do not alternate
        raise InvalidRequest(f"The model's chat template refuses this conversation: {error}.") from error
    return list(tokenizer.encode(text, add_special_tokens=False))


def instruction_messages(instruction: str, context: str, system: str | None) -> list[Message]:
    """An instruction, and the text that it is about where there is one, as a conversation of one turn."""
    if not instruction.strip():
        raise InvalidRequest("The instruction is empty. Say what the model shall do.")
    content = f"{instruction.strip()}\n\n{context.strip()}" if context.strip() else instruction.strip()
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    return [*messages, {"role": "user", "content": content}]


def check_length(tokens: Sequence[int], context: int) -> None:
    """PromptTooLong unless a new token fits behind `tokens`."""
    if len(tokens) >= context:
        raise PromptTooLong(
            f"The prompt has {len(tokens):,} tokens, and the model's context holds {context:,} for prompt and answer "
            f"together. Shorten it, or convert the model with a larger --context."
        )


def _check_size(*texts: str) -> None:
    if (size := sum(map(len, texts))) > MAX_CHARACTERS:
        raise PromptTooLong(
            f"The prompt has {size:,} characters; more than {MAX_CHARACTERS:,} fit into no model's context. Shorten it."
        )


def _role(message: Message) -> str:
    role = message.get("role") if isinstance(message, Mapping) else None
    if role not in ROLES:
        raise InvalidRequest(f"A message must have a role, one of {', '.join(ROLES)}; {message!r:.200} has none.")
    return str(role)


def _content(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) and "text" in part for part in content):
        return "".join(str(part["text"]) for part in content)
    raise InvalidRequest(f"A message's content must be text, not {content!r:.200}.")
