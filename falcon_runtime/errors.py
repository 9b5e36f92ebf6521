"""What can go wrong, one class a kind. Every message says what is wrong and what to do about it; the page, the HTTP API
and the command line show the same words."""


class FalconError(Exception):
    """Base of all errors that this library raises on purpose."""


class UsageError(FalconError):
    """The command line, or a variable, asks for what cannot be."""


class UnknownModel(FalconError):
    """Neither a catalogue name nor the folder of a converted model."""


class ModelDamaged(FalconError):
    """A file of a converted model is missing, truncated, or not the one that its manifest describes."""


class UnsupportedProgram(FalconError):
    """A program that others have exported is none that can run here; the message says what it is, or what it lacks."""


class TokenizerError(FalconError):
    """The tokenizer is missing, unreadable, or does not belong to the model."""


class BackendUnavailable(FalconError):
    """The backend's libraries are not on this machine, or the model was not lowered for it."""


class UnsupportedExecuTorch(FalconError):
    """The ExecuTorch that is installed is not the one that the kernels were made for."""


class UnsupportedProcessor(FalconError):
    """The processor lacks the instructions that were asked for."""


class DownloadFailed(FalconError):
    """A download did not arrive, or is not what the catalogue says."""


class ConversionFailed(FalconError):
    """A checkpoint could not be read or converted."""


class DraftUnusable(FalconError):
    """The draft model that was asked for cannot draft for the model: it is not converted, or has other tokens."""


class InvalidRequest(FalconError):
    """What was asked cannot be done: an empty prompt, a parameter out of range, messages of no known form."""


class NothingAllowed(FalconError):
    """None of the tokens that a mask allows is one that the model can give."""


class PromptTooLong(InvalidRequest):
    """The prompt leaves no room for a single new token in the model's context."""


class NotEnoughMemory(FalconError):
    """This machine lacks the memory that a model needs beside what runs."""


class CannotListen(FalconError):
    """The server cannot have the address that it should: mostly because the port is in use."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Cannot listen on {host}, port {port}: the port is in use, or the address is not this machine's. "
            "Choose others with --port and --host."
        )


class EngineDied(FalconError):
    """The engine's process ended while it was working. The next request starts a new one."""


class RuntimeClosed(FalconError):
    """The runtime was closed."""
