"""What all endpoints need: the models, the limits, and what is counted."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ..errors import InvalidRequest, UnknownModel
from ..fleet import Fleet
from ..models.library import Choice
from .answers import Answer, Ask
from .failures import RETRY_S, Failure
from .metrics import Metrics
from .settings import ServerSettings

ENDLESS = 1 << 62
"""More tokens than any context has."""


@dataclass(frozen=True)
class Service:
    fleet: Fleet
    settings: ServerSettings
    metrics: Metrics

    @property
    def room(self) -> int:
        """Tokens of an answer for which the client names no number: what is left of the context."""
        return self.settings.new_tokens or ENDLESS

    def models(self) -> dict[str, Choice | None]:
        """The models that can be asked, by their names: the current one, and those that are converted."""
        choices = {choice.name: choice for choice in self.fleet.choices()}
        names = [self.fleet.current.name, *(name for name, choice in choices.items() if choice.converted)]
        return {name: choices.get(name) for name in names}

    def find(self, model: str | None) -> str | None:
        """The name to lease `model` by; None for the current one. Errors: UnknownModel: nobody should make the server
        download gigabytes by asking."""
        if not model or model == self.fleet.current.name:
            return None
        names = self.models()
        if model in names:
            return model
        raise UnknownModel(
            f"There is no model {model!r:.200} here; there are {', '.join(names)}. Other models of the "
            "catalogue can be asked once the server's owner has converted them: falcon convert NAME."
        )

    def check_room(self, count: int) -> None:
        """Whether so many answers more can be asked for. Errors: InvalidRequest for more than could ever wait; Failure
        where too many requests wait already."""
        fleet, most = self.fleet, self.settings.queue_length + (self.fleet.current.slots or 1)
        if count > most:
            raise InvalidRequest(f"A request may ask for {most} answers here, not for {count:,}. Send several.")
        if fleet.answering + count > most:
            raise Failure(
                503,
                f"{fleet.answering} requests are running or waiting, and {most} is the limit. Try again in a few "
                "seconds.",
                "server_error",
                "overloaded",
                retry_s=RETRY_S,
            )

    def answers(self, stack: ExitStack, model: str | None, asks: Sequence[Ask]) -> list[Answer]:
        """One answer for each of `asks`, which end with `stack`. Errors: UnknownModel, and those of `check_room`."""
        name, fleet = self.find(model), self.fleet
        self.check_room(len(asks))
        return [stack.enter_context(Answer(fleet, name, ask, self.settings.wait_for_model)) for ask in asks]
