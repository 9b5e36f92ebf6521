"""What of a Dockerfile can be done without Docker: reading it, and what a container would get of it."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from string import Template


@dataclass(frozen=True)
class Instruction:
    name: str
    """In capitals: RUN, COPY, …"""
    arguments: str


@dataclass
class Image:
    """What the instructions so far have set."""

    user: str = "root"
    folder: str = "/"
    variables: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)

    def apply(self, instruction: Instruction) -> None:
        """Does what sets something. FROM, RUN, COPY and ARG are for whoever builds, EXPOSE for whoever reads."""
        words = instruction.arguments
        match instruction.name:
            case "USER":
                self.user = words
            case "WORKDIR":
                self.folder = str(PurePosixPath(self.folder, words))
            case "ENV":
                self.variables |= pairs(words, self.variables)
            case "VOLUME":
                self.volumes += command(words)
            case "CMD":
                self.command = command(words)
            case "HEALTHCHECK":
                self.health = command(words.partition("CMD ")[2])
            case "FROM" | "RUN" | "COPY" | "ARG" | "EXPOSE":
                pass
            case name:
                raise ValueError(f"The rehearsal does not know {name} of Dockerfiles.")


def parse(text: str) -> list[Instruction]:
    """The instructions, each on one line and without comments."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = [" ".join(line.split()) for line in lines.replace("\\\n", " ").splitlines() if line.strip()]
    return [Instruction(name.upper(), arguments) for name, _, arguments in (line.partition(" ") for line in joined)]


def command(words: str) -> list[str]:
    """A command in either of its forms: a list, or words of a shell."""
    return json.loads(words) if words.startswith("[") else shlex.split(words)


def pairs(words: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The NAME=VALUE of an ENV, with what earlier ones have set in place of $NAME; others stay."""
    named = (word.partition("=") for word in shlex.split(words))
    return {name: Template(value).safe_substitute(variables) for name, _, value in named}


def copies(words: str) -> tuple[list[str], str]:
    """What a COPY copies, and where to."""
    *sources, target = [word for word in shlex.split(words) if not word.startswith("--")]
    return sources, target


def patterns(dockerignore: str) -> list[str]:
    return [line.strip() for line in dockerignore.splitlines() if line.strip() and not line.startswith("#")]


def ignored(path: str, patterns: Sequence[str]) -> bool:
    """Whether a .dockerignore with these patterns leaves a file out: the last pattern that it, or a folder that it is
    in, matches says so."""
    out = False
    for pattern in patterns:
        if any(_matches(part, pattern.removeprefix("!")) for part in _with_folders(path)):
            out = not pattern.startswith("!")
    return out


def _matches(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path, pattern.removeprefix("**/"))


def _with_folders(path: str) -> Iterator[str]:
    yield path
    yield from (str(folder) for folder in PurePosixPath(path).parents if str(folder) != ".")
