"""What programs send: the fields of OpenAI's API that are honoured, and how they are meant here.

Null stands for the default, like leaving a field out. A field that would change the answer and is not supported is
refused by its name; others (`user`, `store`, `metadata`, and what nobody knows) are taken and change nothing.
Source: OpenAI's API reference; `top_k`, `min_p` and `repetition_penalty` as in vLLM's server.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..errors import InvalidRequest
from ..sampling import SamplingParams
from ..text.tools import Tools
from ..text.turns import Message
from .description import describe
from .failures import Unsupported
from .messages import messages_of_items

MOST_CHOICES = 16
SEEDS = 2**63

REFUSED = {
    "audio": "the model writes text only",
    "prediction": "predicted outputs are not supported; what repeats the prompt is drafted without being told",
    "functions": "use `tools`",
    "function_call": "use `tool_choice`",
    "web_search_options": "the model cannot search the web",
    "logits_processors": "programs cannot be sent",
    "guided_json": "use `response_format`",
    "guided_regex": "use `regex`",
    "guided_grammar": "use `grammar`",
    "guided_choice": "use `choice`",
    "tools": "tools are for chat completions and responses",
    "tool_choice": "tools are for chat completions and responses",
    "suffix": "the model continues texts, and fills no gaps",
    "best_of": "ask for `n` answers, and choose",
    "previous_response_id": "answers are not kept: send the conversation with each request",
    "conversation": "answers are not kept: send the conversation with each request",
}
"""Fields that would change the answer, and why they do not. Null and an empty list ask for nothing."""
HARMLESS: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "suffix": ("",),
}
"""Values of these fields that ask for what happens anyway."""


class StreamOptions(BaseModel):
    include_usage: bool | None = None


class Body(BaseModel):
    """What the ways to ask have in common."""

    model_config = ConfigDict(extra="allow", json_schema_extra=describe)

    model: str | None = Field(None, description="Name of a model, as `/v1/models` lists them; null: the current one.")
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = Field(None, description="-1 and 0: all tokens.")
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = Field(None, description="A text that ends the answer, or several.")
    logit_bias: dict[str, float] | None = Field(None, description="What to add to the logits of tokens, by token id.")
    stop_on_repetition: bool | None = Field(
        None, description="End an answer that repeats the same words again and again; null: the model's default."
    )
    regex: str | None = Field(None, description="The answer must match this regular expression, in Rust's form.")
    grammar: str | None = Field(None, description="The answer must be of this grammar, in llguidance's form of Lark.")
    choice: list[str] | None = Field(None, description="The answer must be one of these texts.")
    stream: bool | None = Field(None, description="Send the answer as it comes, as server-sent events.")

    def check_supported(self) -> None:
        """Errors: Unsupported for a field that would change the answer."""
        for name, value in (self.model_extra or {}).items():
            if name in REFUSED and value not in (None, [], {}, False, *HARMLESS.get(name, ())):
                raise Unsupported(name, f"{REFUSED[name]}.")

    def sampling(self, shape: Mapping[str, Any], **more: Any) -> SamplingParams:
        """The parameters for the engine; `shape` is what else the answer must be. Errors: InvalidRequest,
        Unsupported."""
        self.check_supported()
        top_k = 0 if self.top_k == -1 else self.top_k
        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=None if self.seed is None else self.seed % SEEDS,
            stop=self.stop,
            logit_bias=None if self.logit_bias is None else _bias(self.logit_bias),
            stop_on_repetition=self.stop_on_repetition,
            constraint=self._constraint(shape),
            **more,
        )

    def _constraint(self, shape: Mapping[str, Any]) -> dict[str, Any] | None:
        given: dict[str, Any] = {"regex": self.regex, "grammar": self.grammar, "choice": self.choice, **shape}
        return {name: value for name, value in given.items() if value is not None} or None


class StreamedBody(Body):
    n: int | None = Field(None, ge=1, le=MOST_CHOICES, description="How many answers.")
    stream_options: StreamOptions | None = Field(
        None, description="`include_usage`: report token usage at the end of the stream."
    )

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def counts_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


KIND = Field(json_schema_extra={"enum": ["text", "json_object", "json_schema"]})


class JsonSchema(BaseModel):
    model_config = ConfigDict(extra="allow", populate_by_name=True)

    name: str | None = None
    json_schema: dict[str, Any] | bool | None = Field(None, alias="schema")


class ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str = KIND
    json_schema: JsonSchema | None = None


class ToolBody(Body):
    """What may call functions."""

    tools: list[dict[str, Any]] | None = Field(
        None, description="Functions that the model may call, with arguments that satisfy their schemas."
    )
    tool_choice: str | dict[str, Any] | None = Field(
        None,
        description="`auto`: the model chooses; `required`: it calls at least one; a function's name: it calls that; "
        "`none`: it is not told about any tools; `allowed_tools`: it may call these.",
    )
    parallel_tool_calls: bool | None = Field(
        None, description="Whether an answer may have several calls; null: it may."
    )

    def functions(self, params: SamplingParams) -> Tools | None:
        """The functions that the model may call in an answer of these parameters. Errors: InvalidRequest."""
        if not self.tools and self.tool_choice in (None, "none", "auto"):
            return None
        tools = Tools(self.tools or [], self.tool_choice or "auto", self.parallel_tool_calls is not False)
        tools.check(params)
        return tools


class ChatBody(StreamedBody, ToolBody):
    """`POST /v1/chat/completions`"""

    messages: list[dict[str, Any]] = Field(
        min_length=1,
        description="The conversation: `role` system, developer, user, assistant or tool, and `content`, a text or "
        "parts of text. The assistant's may have `tool_calls`; a tool's is the result of that with its `tool_call_id`. "
        "If the last message is the assistant's, it is continued.",
    )
    max_completion_tokens: int | None = Field(
        None, description="The most tokens to generate; null: what is left of the context."
    )
    max_tokens: int | None = Field(None, description="The older name of `max_completion_tokens`.")
    logprobs: bool | None = Field(None, description="Report each token's log-probability.")
    top_logprobs: int | None = Field(None, description="How many alternatives to report for each token, 0 to 20.")
    response_format: ResponseFormat | None = Field(
        None, description="`text`, `json_object`, or `json_schema` with a schema that the answer then satisfies."
    )
    modalities: list[str] | None = Field(None, description="`text`.")
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="More variables for the chat template.")

    def params(self, room: int) -> SamplingParams:
        """An answer may have `room` tokens where the client names no number. Errors: InvalidRequest, Unsupported."""
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs: alternatives come with `logprobs: true` only.")
        if self.modalities and self.modalities != ["text"]:
            raise Unsupported("modalities", "the model writes text only.")
        named = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        form = self.response_format
        schema = form.json_schema.json_schema if form and form.json_schema else None
        return self.sampling(
            shape_of("response_format", form.type if form else "text", schema),
            max_new_tokens=most_tokens(named, getattr(self, named), room),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )


class CompletionBody(StreamedBody):
    """`POST /v1/completions`"""

    prompt: str | list[str] | list[int] | list[list[int]] = Field(description="Text or tokens, or a list of either.")
    max_tokens: int | None = Field(None, ge=0, description="The most tokens to generate; null: 16.")
    echo: bool | None = Field(None, description="Give the prompt back before what follows it.")
    logprobs: int | None = Field(
        None, description="Report each token's log-probability, and those of this many alternatives: 0 to 20."
    )

    @property
    def writes(self) -> bool:
        """Whether anything should follow the prompt."""
        return self.max_tokens != 0

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt that there is. Errors: InvalidRequest where there is none."""
        prompt: Any = self.prompt
        prompts = [prompt] if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)) else list(prompt)
        if not prompts:
            raise InvalidRequest("prompt: there is none. Give a text, or tokens.")
        return prompts

    def params(self, room: int) -> SamplingParams:
        """An answer may have `room` tokens. Errors: InvalidRequest, Unsupported."""
        wanted = min(16, room) if self.max_tokens is None else self.max_tokens
        return self.sampling(
            {},
            # An answer has a token at least; one that nobody wants is left out.
            max_new_tokens=most_tokens("max_tokens", max(wanted, 1), room),
            logprobs=self.logprobs,
            prompt_logprobs=self.logprobs if self.echo else None,
        )


class TextFormat(JsonSchema):
    type: str = KIND


class TextOptions(BaseModel):
    format: TextFormat | None = None


class ResponseBody(ToolBody):
    """`POST /v1/responses`"""

    input: str | list[dict[str, Any]] = Field(
        description="A message, or a conversation: messages, `function_call` items, and `function_call_output` items."
    )
    instructions: str | None = Field(None, description="The system prompt.")
    max_output_tokens: int | None = Field(
        None, description="The most tokens to generate; null: what is left of the context."
    )
    text: TextOptions | None = Field(None, description="`format`: `text`, `json_object`, or `json_schema`.")
    metadata: dict[str, str] | None = Field(None, description="Comes back with the answer.")

    def params(self, room: int) -> SamplingParams:
        """An answer may have `room` tokens where the client names no number. Errors: InvalidRequest, Unsupported."""
        form = (self.text and self.text.format) or TextFormat(type="text", schema=None)
        return self.sampling(
            shape_of("text.format", form.type, form.json_schema),
            max_new_tokens=most_tokens("max_output_tokens", self.max_output_tokens, room),
        )

    def messages(self) -> list[Message]:
        """Errors: InvalidRequest, Unsupported."""
        given = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else self.input
        system: list[Message] = [{"role": "system", "content": self.instructions}] if self.instructions else []
        return [*system, *messages_of_items(given)]


def shape_of(field: str, kind: str, schema: Any) -> dict[str, Any]:
    """What an answer of a type must be. Errors: InvalidRequest, Unsupported."""
    match kind:
        case "text":
            return {}
        case "json_object":
            return {"json_object": True}
        case "json_schema" if schema is None:
            raise InvalidRequest(f"{field}: a schema is missing.")
        case "json_schema":
            return {"json_schema": schema}
    raise Unsupported(field, f"answers of type {kind!r:.100} are not supported.")


def varied(params: SamplingParams, number: int) -> SamplingParams:
    """The parameters of one of several choices: where there is a seed, each has its own."""
    if params.seed is None:
        return params
    return params.model_copy(update={"seed": (params.seed + number) % SEEDS})


def most_tokens(field: str, most: int | None, room: int) -> int:
    """How many tokens an answer may have. Errors: InvalidRequest."""
    if most is None:
        return room
    if most < 1:
        raise InvalidRequest(f"{field}: an answer has at least one token, not {most}.")
    if most > room:
        raise InvalidRequest(f"{field}: an answer has at most {room:,} tokens here, not {most:,}.")
    return most


def _bias(bias: Mapping[str, float]) -> dict[int, float]:
    try:
        return {int(token): value for token, value in bias.items()}
    except ValueError:
        raise InvalidRequest('logit_bias: its keys must be token ids, as in {"42": -100}.') from None
