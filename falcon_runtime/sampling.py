"""The sampling parameters."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .constraint import Constraint
from .errors import InvalidRequest
from .system.unicode import whole

LONGEST_STOP = 1000
"""Characters. Each token is looked at for how much of a stop text it may be the beginning of."""


class SamplingParams(BaseModel):
    """How tokens are chosen and when to end. Each field's description is shown wherever the option is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int = Field(256, ge=1, description="The most tokens to generate.")
    temperature: float = Field(  # Low by default: small models stray at what suits large ones.
        0.2, ge=0, le=5, description="How adventurous the choice is: 0 always takes the likeliest token."
    )
    top_k: int = Field(50, ge=0, description="Choose among the k likeliest tokens only; 0 means all.")
    top_p: float = Field(
        0.9, gt=0, le=1, description="Choose among the likeliest tokens that together have this probability."
    )
    min_p: float = Field(
        0.0, ge=0, le=1, description="Leave out tokens less likely than this share of the likeliest one's probability."
    )
    repetition_penalty: float = Field(
        1.0, gt=0, le=5, description="Above 1, tokens that are already in the text become less likely."
    )
    presence_penalty: float = Field(
        0.0, ge=-2, le=2, description="Above 0, tokens that are already in the answer become less likely."
    )
    frequency_penalty: float = Field(
        0.0, ge=-2, le=2, description="Above 0, tokens become less likely each time they appear in the answer."
    )
    stop: tuple[str, ...] = Field((), max_length=16, description="Texts that end the answer; they are not part of it.")
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="The same seed gives the same text for the same prompt; without one, answers vary.",
    )
    logit_bias: dict[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=-100, le=100)]] = Field(
        {}, description="What to add to the logits of tokens, by token id: -100 bans a token, 100 forces it."
    )
    logprobs: int | None = Field(
        None,
        ge=0,
        le=20,
        description="Report each token's log-probability, and those of this many of the likeliest tokens in its place.",
    )
    stop_on_repetition: bool = Field(True, description="End an answer that repeats the same words again and again.")
    constraint: Constraint | None = Field(
        None,
        description="What the answer must be: one of `json_schema`, `json_object`, `regex`, `grammar` and `choice`.",
    )
    prompt_logprobs: int | None = Field(
        None,
        ge=0,
        le=20,
        description="Report the log-probabilities of the prompt's tokens too, and those of this many of the likeliest "
        "tokens in the place of each.",
    )

    def __init__(self, **values: Any) -> None:
        """None stands for a field's default, like leaving it out."""
        try:
            super().__init__(**{name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            raise InvalidRequest(_sentence(error)) from None

    def over(self, defaults: "SamplingParams") -> "SamplingParams":
        """These parameters where they were given, and `defaults` for the others."""
        return defaults.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})

    @field_validator("stop", mode="before")
    @classmethod
    def _stop_as_tuple(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = (value,)
        if isinstance(value, list | tuple):
            return tuple(whole(text) if isinstance(text, str) else text for text in value)
        return value

    @field_validator("stop")
    @classmethod
    def _stop_can_come(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("a stop text must not be empty")
        if any(len(text) > LONGEST_STOP for text in value):
            raise ValueError(f"a stop text has at most {LONGEST_STOP:,} characters")
        return value


def _sentence(error: ValidationError) -> str:
    """A pydantic error as a sentence: which parameter, what is wrong, and what was given."""
    parts = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"] if part != "[key]")
        if item["type"] == "extra_forbidden":
            known = ", ".join(SamplingParams.model_fields)
            parts.append(f"there is no parameter {name}; the parameters are {known}")
        elif item["loc"][:1] == ("constraint",) and item["type"] == "value_error":
            parts.append(item["msg"].removeprefix("Value error, "))  # It names the kind of constraint itself.
        else:
            parts.append(f"{name}: {item['msg'][0].lower()}{item['msg'][1:]}, not {item['input']!r}")
    return whole("; ".join(parts))[:1000]
