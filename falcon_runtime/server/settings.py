"""What flags and variables `FALCON_…` can set: which model runs and how, and what the owner of a server decides."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    CliImplicitFlag,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from ..errors import UsageError
from ..limits import Count, RequestLimits
from ..models.manifest import Backend
from ..text.well_known import WELL_KNOWN


class BadSetting(UsageError):
    """A flag or a variable has a value that it cannot have."""


def described(name: str) -> str:
    """What a limit of a request is, which has another default here."""
    return RequestLimits.model_fields[name].description or ""


class ModelSettings(BaseSettings):
    """Which model runs, and how. Every flag has a variable, as FALCON_MODEL for --model; flags win over variables."""

    model_config = SettingsConfigDict(env_prefix="FALCON_", env_ignore_empty=True, frozen=True, extra="ignore")

    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Settings that others have variables for."""

    model: str | None = Field(None, description="catalogue name, or folder of a converted model or of any other .pte")
    draft: str = Field(
        "auto",
        description="converted model that drafts tokens for the others, which verify them: name, folder, `none`, or "
        "`auto`, which is falcon3-1b-instruct for the larger Falcon3 if it fits in memory",
    )
    chat_template: str | None = Field(
        None, description=f"chat template of models that have none of their own: {', '.join(WELL_KNOWN)}, or a file"
    )
    backend: Backend = Field("xnnpack", description="ExecuTorch backend that the model was lowered for")
    threads: Count | None = Field(None, description="threads of the engine; if unset, one for each CPU that it may use")

    @classmethod
    def read(cls, flags: Mapping[str, Any]) -> Self:
        """The settings of flags, None for those that were not given, and of variables. Errors: BadSetting."""
        given = {name: value for name in cls.model_fields if (value := flags.get(name)) is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            raise cls.refused(error) from None

    @classmethod
    def refused(cls, error: ValidationError) -> BadSetting:
        """The same as a sentence for each setting that cannot be."""
        return BadSetting("\n".join(_sentence(item, cls.elsewhere) for item in error.errors()))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        values = {name: value for name, variable in cls.elsewhere.items() if (value := os.environ.get(variable))}
        return init_settings, env_settings, InitSettingsSource(settings_cls, values)


class ServerSettings(ModelSettings, RequestLimits):
    """Answers programs over HTTP, in the form of OpenAI's API. Every flag has a variable, such as FALCON_MODEL for
    --model; flags win over variables."""

    model_config = SettingsConfigDict(frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8001, description="port to listen on")
    api_key: SecretStr | None = Field(
        None, description="key that programs must send to `/v1`; if unset, none is needed"
    )
    wait_for_model: CliImplicitFlag[bool] = Field(
        True,
        description="requests wait while the model is being loaded; otherwise they get a 503 that says when to retry",
    )

    prompt_characters: Count | None = Field(500_000, description=described("prompt_characters"))
    answer_seconds: Count | None = Field(900, description=described("answer_seconds"))
    queue_length: Count = Field(64, description="requests that wait; more are refused")
    requests_at_once: Count = Field(16, description="requests of one client that run or wait at a time")
    requests_per_minute: Count = Field(120, description="requests of one client in any minute")
    upload_megabytes: Count = Field(16, description="megabytes that one request or one file may have")
    unread_seconds: Count = Field(15, description="seconds after which an answer that nobody reads is ended")
    proxies: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="proxies in front of the server, each of which adds an address to X-Forwarded-For; if unset, 1 on "
        "a Space, otherwise 0",
    )

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def on_space(self) -> bool:
        return "SPACE_ID" in os.environ

    @property
    def trusted_proxies(self) -> int:
        return int(self.on_space) if self.proxies is None else self.proxies


class ReplicaSettings(ServerSettings):
    """The same for several engines behind one address. Limits are those of all together."""

    model_config = SettingsConfigDict(frozen=True)

    replicas: Count | None = Field(
        None,
        description="engines that Ray Serve keeps behind one address, each with the model and its share of the CPUs; "
        "if unset, one engine without Ray",
    )


def _sentence(error: ErrorDetails, elsewhere: Mapping[str, str]) -> str:
    name = str(error["loc"][0]).replace("-", "_")
    flag, variable = f"--{name.replace('_', '-')}", elsewhere.get(name)
    variables = " or ".join(filter(None, [f"FALCON_{name.upper()}", variable]))
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{flag} (or the variable {variables}): {message}, not {error['input']!r}."
