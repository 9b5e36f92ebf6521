"""Chat templates of well-known families, for models that come without their own.

Sources: the model cards and tokenizers of the families. Each is the plain form, of a system prompt and turns; a family
that has no system prompt gets it as a part of the first question (`chat_template.render`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import TokenizerError
from ..models.tokenizer_files import TEMPLATE_BYTES
from ..system.files import Unreadable, read_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class WellKnown:
    tokens: tuple[str, ...]
    """That it is written with, and that the model must have; the last one ends a turn."""
    turn: str
    """What a turn is, with its `role` and `text`."""
    answer: str
    """What an answer follows."""
    begin: str = ""
    """What a conversation begins with."""
    roles: Mapping[str, str] | None = None
    """What the roles are called. None: as here; a role that is left out is refused."""

    @property
    def template(self) -> str:
        """For Jinja."""
        naming = "{% set role = message['role'] %}"
        if self.roles is not None:
            names = ", ".join(f"'{role}': '{name}'" for role, name in self.roles.items())
            naming = (
                "{% if message['role'] not in {" + names + "} %}{{ raise_exception('no role ' + message['role']) }}"
                "{% endif %}{% set role = {" + names + "}[message['role']] %}"
            )
        return (
            f"{self.begin}{{% for message in messages %}}{naming}{{% set text = message['content'] | trim %}}"
            f"{self.turn}{{% endfor %}}{{% if add_generation_prompt %}}{self.answer}{{% endif %}}"
        )


WELL_KNOWN = {
    "chatml": WellKnown(
        tokens=("<|im_start|>", "<|im_end|>"),
        turn="<|im_start|>{{ role }}\n{{ text }}<|im_end|>\n",
        answer="<|im_start|>assistant\n",
    ),
    "llama3": WellKnown(
        tokens=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        turn="<|start_header_id|>{{ role }}<|end_header_id|>\n\n{{ text }}<|eot_id|>",
        answer="<|start_header_id|>assistant<|end_header_id|>\n\n",
        begin="<|begin_of_text|>",
    ),
    "falcon3": WellKnown(
        tokens=("<|system|>", "<|user|>", "<|assistant|>", "<|endoftext|>"),
        turn="<|{{ role }}|>\n{{ text }}{% if role == 'assistant' %}<|endoftext|>{% endif %}\n",
        answer="<|assistant|>\n",
    ),
    "gemma": WellKnown(
        tokens=("<bos>", "<start_of_turn>", "<end_of_turn>"),
        turn="<start_of_turn>{{ role }}\n{{ text }}<end_of_turn>\n",
        answer="<start_of_turn>model\n",
        begin="<bos>",
        roles={"user": "user", "assistant": "model"},
    ),
    "phi3": WellKnown(
        tokens=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        turn="<|{{ role }}|>\n{{ text }}<|end|>\n",
        answer="<|assistant|>\n",
    ),
    "llama2": WellKnown(
        tokens=("<s>", "</s>"),
        turn="{% if role == 'user' %}<s>[INST] {{ text }} [/INST]{% else %} {{ text }} </s>{% endif %}",
        answer="",
        roles={"user": "user", "assistant": "assistant"},
    ),
}
"""In the order in which they are offered: those that few tokenizers fit by chance come first."""


class BorrowedTemplate:
    """The chat template of a model that came without one, as soon as somebody chooses it."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        self._tokenizer = tokenizer
        self.name: str | None = None
        """The chosen one's."""

    @property
    def fitting(self) -> list[str]:
        """Names of those that may be the model's, as far as its tokens tell."""
        return fitting_templates(self._tokenizer)

    def choose(self, name: str) -> None:
        """By the name of a well-known one, or a file. Errors: those of `template_of`."""
        self._tokenizer.chat_template = template_of(name, self._tokenizer)
        self.name = name

    @property
    def stops(self) -> tuple[str, ...]:
        """What ends an answer, beside the end tokens of the model: the end of a turn."""
        known = WELL_KNOWN.get(self.name or "")
        return (known.tokens[-1],) if known else ()


def template_of(name: str, tokenizer: "PreTrainedTokenizerBase") -> str:
    """The template of a name, or in a file. Errors: TokenizerError where there is none, or the tokenizer does not have
    its tokens."""
    if known := WELL_KNOWN.get(name):
        if lacking := sorted(set(known.tokens) - tokenizer.get_vocab().keys()):
            fitting = ", ".join(fitting_templates(tokenizer)) or "none of the well-known ones"
            raise TokenizerError(
                f"The chat template {name} does not fit this model, whose tokenizer has no {lacking[0]}. "
                f"What fits it: {fitting}, or a file of the model's own."
            )
        return known.template
    try:
        return read_bytes(Path(name), TEMPLATE_BYTES).decode()
    except (Unreadable, UnicodeDecodeError) as error:
        raise TokenizerError(
            f"There is no chat template {name!r:.200}: as a file, it {error}. Name a file, or one of "
            f"{', '.join(WELL_KNOWN)}."
        ) from error


def fitting_templates(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The names of those whose tokens it has."""
    vocabulary = tokenizer.get_vocab().keys()
    return [name for name, known in WELL_KNOWN.items() if vocabulary >= set(known.tokens)]
