"""What the owner of a server can set: flags of `python app.py`, variables `FALCON_…`, and those that Gradio, the model
hub's client and Spaces set."""

import os
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliImplicitFlag,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from falcon_runtime.errors import FalconError
from falcon_runtime.limits import Count, RequestLimits
from falcon_runtime.models.choosing import Offer
from falcon_runtime.models.manifest import Backend

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine sees."""
ELSEWHERE = {"host": "GRADIO_SERVER_NAME", "port": "GRADIO_SERVER_PORT", "offline": "HF_HUB_OFFLINE"}
"""Settings that others have variables for."""


class BadSetting(FalconError):
    """A flag or a variable has a value that it cannot have."""


def described(name: str) -> str:
    """What a limit of a request is, which has another default here."""
    return RequestLimits.model_fields[name].description or ""


class Settings(BaseSettings, RequestLimits):
    """Opens the page at once and prepares the model while it is up. Every flag has a variable, such as FALCON_MODEL for
    --model; flags win over variables."""

    model_config = SettingsConfigDict(
        env_prefix="FALCON_",
        env_ignore_empty=True,
        frozen=True,
        cli_prog_name="app.py",
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_enforce_required=False,
    )

    model: str | None = Field(None, description="catalogue name, or folder of a converted model")
    draft: str = Field(
        "auto",
        description="converted model that drafts tokens for the others, which verify them: name, folder, `none`, or "
        "`auto`, which is falcon3-1b-instruct for the larger Falcon3 if it fits in memory",
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(7860, description="port to listen on")
    share: CliImplicitFlag[bool] = Field(False, description="also open a public link through Gradio")
    offer: Offer | None = Field(
        None,
        description="which models visitors may switch to; without, all on a page that only this machine sees, else the "
        "converted ones",
    )
    offline: CliImplicitFlag[bool] = Field(
        False, description="download nothing from the model hub, and offer nothing that is there"
    )
    backend: Backend = Field("xnnpack", description="ExecuTorch backend that the model was lowered for")

    prompt_characters: Count | None = Field(500_000, description=described("prompt_characters"))
    answer_seconds: Count | None = Field(900, description=described("answer_seconds"))
    queue_length: Count = Field(64, description="requests that wait; more are refused")
    requests_at_once: Count = Field(16, description="requests of one client that run or wait at a time")
    requests_per_minute: Count = Field(120, description="requests of one client in any minute")
    upload_megabytes: Count = Field(16, description="megabytes that one request or one file may have")
    unread_seconds: Count = Field(15, description="seconds for which an answer goes on that nobody reads")
    proxies: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="proxies in front of the server, each of which adds an address to X-Forwarded-For; without, 1 on a "
        "Space, else none",
    )

    @property
    def on_space(self) -> bool:
        return "SPACE_ID" in os.environ

    @property
    def private(self) -> bool:
        """Whether only this machine sees the page."""
        return self.host in LOCAL and not self.share

    @property
    def offered(self) -> Offer:
        """Which models visitors may switch to. No stranger may make this machine download gigabytes."""
        offer = self.offer or ("all" if self.private else "converted")
        return "converted" if self.offline and offer == "all" else offer

    @property
    def trusted_proxies(self) -> int:
        return int(self.on_space) if self.proxies is None else self.proxies

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        values = {name: value for name, variable in ELSEWHERE.items() if (value := os.environ.get(variable))}
        return init_settings, env_settings, InitSettingsSource(settings_cls, values)


def read_settings(arguments: Sequence[str]) -> Settings:
    """The settings of flags and variables. Errors: BadSetting; `--help` and flags that there are not end the program,
    as argparse does."""
    try:
        return CliApp.run(Settings, list(arguments))
    except ValidationError as error:
        raise BadSetting("\n".join(map(_sentence, error.errors()))) from None


def _sentence(error: ErrorDetails) -> str:
    name = str(error["loc"][0]).replace("-", "_")
    flag, variable = f"--{name.replace('_', '-')}", ELSEWHERE.get(name)
    variables = " or ".join(filter(None, [f"FALCON_{name.upper()}", variable]))
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{flag} (or the variable {variables}): {message}, not {error['input']!r}."
