"""The two ways to lay the app out for its user: as a Space does it, and as the Dockerfile says."""

import os
import re
import shlex
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from . import dockerfile
from .checkpoint import ROOT, SHAPE
from .sandbox import CPUS, DATA, HOME, MEMORY, Sandbox
from .starts import say

PIP = ["pip", "install", "--no-cache-dir"]
BASE_PACKAGES = ["datasets", "huggingface-hub>=0.30", "hf-transfer>=0.1.4", "protobuf<4", "click<8.1"]
"""What is there before the requirements, as the logs of builds of Gradio Spaces say."""
SPACE_PACKAGES = ["gradio[oauth,mcp]=={}", "uvicorn>=0.14.0", "websockets>=10.4", "spaces"]
"""What comes with them, in one command; Gradio in the version of the README's `sdk_version`."""
SPACE_VARIABLES = {
    "SPACE_ID": "falcon/rehearsal",
    "SPACE_HOST": "falcon-rehearsal.hf.space",
    "SPACE_AUTHOR_NAME": "falcon",
    "SPACE_REPO_NAME": "rehearsal",
    "SPACE_TITLE": "Falcon on ExecuTorch",
    "CPU_CORES": str(CPUS),
    "MEMORY": f"{MEMORY >> 30}Gi",
    "ACCELERATOR": "none",
    "SYSTEM": "spaces",
    "PYTHONUNBUFFERED": "1",
    "GRADIO_ALLOW_FLAGGING": "never",
    "GRADIO_NUM_PORTS": "1",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "GRADIO_THEME": "huggingface",
}
NETWORK = re.compile(r"PIP_.*|.*_CA_BUNDLE|SSL_CERT_.*|(?i:.*_proxy)")
"""Variables that belong to the machine: where packages come from, and how the network is reached."""


class Build(ABC):
    """What both have in common."""

    STARTS: Sequence[tuple[str, bool]]
    """The starts of the app: what is said of them, and whether with the persistent folder."""
    health: Sequence[str] = ()

    def __init__(self, place: Sandbox) -> None:
        self.place = place
        place.make("data")
        self.variables = machine_variables() | {
            "HOME": str(place.home),
            "LANG": "C.UTF-8",
            "PATH": f"{place.home}/.venv/bin:/usr/local/bin:/usr/bin:/bin",
        }
        self.folder = place.home / "app"
        """The app's, as it is called inside."""
        self.command = ["python", "app.py"]

    @abstractmethod
    def build(self) -> float:
        """Lays everything out for the first time; the seconds that the requirements took."""

    def renew(self) -> None:
        """What a restart does: the home folder is as it was after the build."""
        home = self.place.base / "home"
        for path in home.iterdir():
            if path.name != ".venv":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.lay()

    @abstractmethod
    def lay(self) -> None:
        """Copies the app into the home folder."""

    @abstractmethod
    def persistent_variables(self, persistent: bool) -> dict[str, str]:
        """Those with which models are kept in the persistent folder, or not."""

    def run(self, command: Sequence[str]) -> float:
        """Runs a command in the app's folder as the user; the seconds that it took."""
        say(shlex.join(command))
        began = time.monotonic()
        if self.place.run(command, self.variables, self.folder):
            raise RuntimeError((self.place.base / "output").read_text())
        say(f"  {time.monotonic() - began:.0f} s")
        return time.monotonic() - began

    def make_environment(self) -> None:
        (self.place.make("home") / "app").mkdir()
        self.place.own(self.place.base / "home")
        self.run([str(self.place.python), "-m", "venv", f"{self.place.home}/.venv"])

    def copy(self, files: Sequence[str], target: Path) -> None:
        """Copies files of the repository into a folder of the user's, as it is called inside."""
        outside = self.place.base / "home" / target.relative_to(self.place.home)
        for name in files:
            (outside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, outside / name)
        self.place.own(outside)


class SpaceBuild(Build):
    STARTS = (
        ("first start", False),
        ("restart", False),
        ("first start with a persistent folder", True),
        ("restart with it", True),
    )

    def build(self) -> float:
        self.make_environment()
        self.variables |= SPACE_VARIABLES | {"PYTHONPATH": str(self.folder)}
        self.lay()
        self._packages()
        self.run([*PIP, *BASE_PACKAGES])
        if (ROOT / "pre-requirements.txt").exists():
            self.run([*PIP, "-r", "pre-requirements.txt"])
        return self.run(install_command((ROOT / "README.md").read_text()))

    def lay(self) -> None:
        self.copy(repository_files(), self.folder)

    def persistent_variables(self, persistent: bool) -> dict[str, str]:
        return {"FALCON_MODELS_DIR": f"{self.place.data}/models"} if persistent else {}

    def _packages(self) -> None:
        """Installs packages.txt, on this machine, as a Space does it before it becomes the user."""
        packages = ROOT / "packages.txt"
        if not packages.exists():
            say("There is no packages.txt")
        elif os.getuid() != 0:
            say("packages.txt is not installed: that takes root")
        else:
            subprocess.run(["apt-get", "update"], check=True)
            subprocess.run(["xargs", "-r", "-a", packages, "apt-get", "install", "-y"], check=True)


class DockerBuild(Build):
    STARTS = (("first start with a volume", True), ("restart with it", True))

    def build(self) -> float:
        self.make_environment()
        self.image = dockerfile.Image(folder=str(self.folder), variables=self.variables)
        installing = 0.0
        for instruction in self._instructions():
            self.image.apply(instruction)
            self.variables = self.image.variables
            if instruction.name == "COPY":
                self._copy(instruction.arguments)
            elif instruction.name == "RUN":
                installing += self._run(instruction.arguments)
            elif instruction.name in ("FROM", "VOLUME"):
                say(f"{instruction.name} {instruction.arguments}: the rehearsal has its own")
        self.command, self.health, self.folder = self.image.command, self.image.health, Path(self.image.folder)
        self.variables["FALCON_MODEL"] = SHAPE.name
        return installing

    def lay(self) -> None:
        (self.place.base / "home" / "app").mkdir()
        for instruction in self._instructions():
            if instruction.name == "COPY":
                self._copy(instruction.arguments)

    def persistent_variables(self, persistent: bool) -> dict[str, str]:
        return {}  # The Dockerfile names the volume.

    def _instructions(self) -> list[dockerfile.Instruction]:
        text = (ROOT / "Dockerfile").read_text()
        inside = text.replace(str(HOME), str(self.place.home)).replace(f"{DATA}/", f"{self.place.data}/")
        return dockerfile.parse(inside)

    def _run(self, words: str) -> float:
        if self.image.user == "root":
            say(f"Not run, for user and folders are the rehearsal's: {words}")
            return 0
        return self.run(["sh", "-c", words])

    def _copy(self, words: str) -> None:
        patterns = dockerfile.patterns((ROOT / ".dockerignore").read_text())
        context = [name for name in repository_files() if not dockerfile.ignored(name, patterns)]
        sources, target = dockerfile.copies(words)
        wanted = [name for name in context if any(source in (".", name) for source in sources)]
        self.copy(wanted, Path(PurePosixPath(self.image.folder, target)))


def install_command(readme: str) -> list[str]:
    """What a Space of Gradio installs with."""
    version = re.search(r"^sdk_version: (\S+)$", readme, re.MULTILINE)
    if not version:
        raise ValueError("The README does not say which version of Gradio a Space should have.")
    return [*PIP, "-r", "requirements.txt", *(package.format(version[1]) for package in SPACE_PACKAGES)]


def repository_files() -> list[str]:
    """What would be pushed: what git knows, and what it would if it were added."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def machine_variables() -> dict[str, str]:
    """The variables `NETWORK`, and pip's settings of this user as variables: the other one has none."""
    settings = subprocess.run(["pip", "config", "list"], capture_output=True, text=True).stdout
    return {
        **pip_variables(settings),
        **{name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)},
    }


def pip_variables(settings: str) -> dict[str, str]:
    """What `pip config list` prints, as variables for pip."""
    found = re.findall(r"^(?:global|user|site|install)\.([\w-]+)='(.*)'$", settings, re.MULTILINE)
    return {f"PIP_{name.replace('-', '_').upper()}": value for name, value in found}
