"""What one request may take of a model that is shared."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .errors import InvalidRequest, PromptTooLong
from .sampling import SamplingParams

Count = Annotated[int, Field(ge=1)]


class RequestLimits(BaseModel):
    """None stands for no limit beside the model's own."""

    model_config = ConfigDict(frozen=True)

    prompt_characters: Count | None = Field(
        default=None, description="most characters in one request, all its texts together"
    )
    prompt_tokens: Count | None = Field(default=None, description="most tokens in a prompt")
    new_tokens: Count | None = Field(default=None, description="most tokens in an answer")
    answer_seconds: Count | None = Field(
        default=None, description="most seconds that an answer may take, not counting waiting"
    )

    def check_prompt(self, tokens: int) -> None:
        """Errors: PromptTooLong."""
        if self.prompt_tokens and tokens > self.prompt_tokens:
            raise PromptTooLong(
                f"The prompt has {tokens:,} tokens; at most {self.prompt_tokens:,} are allowed here. Shorten it."
            )

    def over(self, params: SamplingParams, asked: SamplingParams | None) -> SamplingParams:
        """`params` with no more new tokens than there may be. Errors: InvalidRequest where more were `asked` for."""
        most = self.new_tokens
        if most is None or params.max_new_tokens <= most:
            return params
        if asked and "max_new_tokens" in asked.model_fields_set:
            raise InvalidRequest(
                f"max_new_tokens: an answer has at most {most:,} tokens here, not {params.max_new_tokens:,}."
            )
        return params.model_copy(update={"max_new_tokens": most})
