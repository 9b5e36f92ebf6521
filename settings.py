"""What the owner of the page can set: flags of `python app.py`, variables `FALCON_…`, and those that Gradio, the model
hub's client and Spaces set."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field, ValidationError
from pydantic_settings import CliApp, CliImplicitFlag, SettingsConfigDict

from falcon_runtime.models.choosing import Offer
from falcon_runtime.server.settings import ServerSettings

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine sees."""


class Settings(ServerSettings):
    """Opens the page at once and prepares the model while it is up. Every flag has a variable, such as FALCON_MODEL for
    --model; flags win over variables."""

    model_config = SettingsConfigDict(
        cli_prog_name="app.py",
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_enforce_required=False,
    )

    elsewhere: ClassVar[Mapping[str, str]] = {
        "host": "GRADIO_SERVER_NAME",
        "port": "GRADIO_SERVER_PORT",
        "offline": "HF_HUB_OFFLINE",
        "mcp": "GRADIO_MCP_SERVER",
    }

    port: Annotated[int, Field(ge=1, le=65535)] = Field(7860, description="port to listen on")
    share: CliImplicitFlag[bool] = Field(False, description="also open a public link through Gradio")
    mcp: CliImplicitFlag[bool] = Field(
        True, description="offer the endpoints as tools of the Model Context Protocol (MCP), too"
    )
    offer: Offer | None = Field(
        None,
        description="which models visitors may switch to; if unset, all on a page that only this machine can open, "
        "otherwise the converted ones",
    )
    offline: CliImplicitFlag[bool] = Field(
        False,
        description="download nothing from the model hub, and do not offer models that would have to come from it",
    )

    phone_files: CliImplicitFlag[bool] = Field(
        False, description="let visitors download the models that `convert --for stock` made for phones"
    )

    @property
    def private(self) -> bool:
        """Whether only this machine sees the page."""
        return self.host in LOCAL and not self.share

    @property
    def offered(self) -> Offer:
        """Which models visitors may switch to. No stranger may make this machine download gigabytes."""
        offer = self.offer or ("all" if self.private else "converted")
        return "converted" if self.offline and offer == "all" else offer


def read_settings(arguments: Sequence[str]) -> Settings:
    """The settings of flags and variables. Errors: BadSetting; `--help` and flags that there are not end the program,
    as argparse does."""
    try:
        return CliApp.run(Settings, list(arguments))
    except ValidationError as error:
        raise Settings.refused(error) from None
