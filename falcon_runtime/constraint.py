"""What an answer must be: JSON of a schema, a text of a regular expression, of a grammar, or one of a few."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_CHARACTERS = 200_000
"""Of a schema, grammar or expression; compiling a larger one would hold everybody up."""
COMPACT: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as `json.dumps` writes it. Where any white space may stand, small models do not come to an end."""
KINDS = ("json_schema", "json_object", "regex", "grammar", "choice")
"""Of constraints, each with its field."""


class Constraint(BaseModel):
    """One kind of it is given. The model then chooses among the tokens that it allows, with their probabilities, and
    the answer ends where nothing can follow; one that reaches its limit of tokens before that is not whole.

    Errors: ValueError, in a sentence, where it cannot be honoured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    json_schema: dict[str, Any] | bool | None = Field(None, description="JSON that satisfies this schema.")
    json_object: bool | None = Field(None, description="Any JSON object.")
    regex: str | None = Field(None, description="A text that matches this regular expression, in Rust's form.")
    grammar: str | None = Field(None, description="A text of this grammar, in the form of Lark, as llguidance has it.")
    choice: tuple[str, ...] | None = Field(None, description="One of these texts.")
    begun: str = Field("", description="The part of the text that is already written, which the answer continues.")

    @field_validator("choice")
    @classmethod
    def _some_choice(cls, choice: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if choice is not None and (not choice or "" in choice):
            raise ValueError("choice: there must be texts to choose from, and none of them empty")
        return choice

    @model_validator(mode="after")
    def _can_be_honoured(self) -> "Constraint":
        given = [name for name in KINDS if getattr(self, name) not in (None, False)]
        if len(given) != 1:
            raise ValueError(f"a constraint has one of {', '.join(KINDS)}, not {len(given)} of them")
        (kind,) = given
        if len(self.begun) > MAX_CHARACTERS:
            raise ValueError(f"begun: it is too long; at most {MAX_CHARACTERS:,} characters are allowed")
        grammar = self.compiled()
        if len(grammar) > MAX_CHARACTERS:
            raise ValueError(f"{kind}: it is too long; at most {MAX_CHARACTERS:,} characters are allowed")
        from llguidance import LLMatcher  # Only here: few need it.

        wrong, messages = LLMatcher.validate_grammar_with_warnings(grammar)
        if wrong:
            raise ValueError(f"{kind}: it cannot be honoured: {' '.join(messages[0].split())}")
        return self

    def compiled(self) -> str:
        """As llguidance reads it."""
        from llguidance import LLMatcher

        if self.regex is not None:
            return str(LLMatcher.grammar_from_regex(self.regex))
        if self.grammar is not None:
            return str(LLMatcher.grammar_from_lark(self.grammar))
        schema: Any = {"type": "object"} if self.json_object else self.json_schema
        if self.choice is not None:
            alternatives = " | ".join(json.dumps(text, ensure_ascii=False) for text in self.choice)
            return str(LLMatcher.grammar_from_lark(f"start: {alternatives}"))
        return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=COMPACT))
