"""The models of a server, as its settings have them."""

from ..fleet import Fleet
from ..limits import RequestLimits
from .settings import ModelSettings


def fleet_of(settings: ModelSettings, model: str | None = None) -> Fleet:
    """With `model` in place of the one that the settings name, and with the limits of those that have some. Errors:
    UnknownModel."""
    return Fleet(
        model or settings.model,
        backend=settings.backend,
        threads=settings.threads,
        limits=settings if isinstance(settings, RequestLimits) else None,
        draft=settings.draft,
        chat_template=settings.chat_template,
    )
