"""A place like a container: a user of its own, two CPUs and 16 GB, and nothing to write to but a home folder.

As root, it is made of a new user, a control group and a mount namespace, in which everything else is read-only.
Otherwise it is as much of that as there can be; `Sandbox.shortcomings` says what is missing.
"""

import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

NAME = "falcon-rehearsal"
UID = 1000
CPUS, MEMORY = 2, 16 << 30
CGROUPS = Path("/sys/fs/cgroup")
HOME, DATA = Path("/home/user"), Path("/data")
PERIOD_US = 100_000
STOPS_WITHIN_S = 15


@dataclass
class Sandbox:
    base: Path
    """A folder of this machine for what belongs to it."""
    ids: tuple[int, int]
    """User and group."""
    groups: list[Path] = field(default_factory=list)
    """Its control groups."""
    isolated: bool = False
    """Whether it has a mount namespace."""
    shortcomings: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """The home folder as it is called inside; outside it is `base / "home"`."""
        return HOME if self.isolated else self.base / "home"

    @property
    def data(self) -> Path:
        """The same of the persistent folder."""
        return DATA if self.isolated else self.base / "data"

    @property
    def python(self) -> Path:
        """The interpreter inside, without any packages."""
        return Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")

    def make(self, name: str) -> Path:
        """An empty folder of the user, as it is called outside."""
        folder = self.base / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        os.chown(folder, *self.ids)
        return folder

    def own(self, folder: Path) -> None:
        """Gives the user everything in a folder."""
        for path in (folder, *folder.rglob("*")):
            os.chown(path, *self.ids, follow_symlinks=False)

    def start(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        folder: Path,
        output: IO[str] | int | None = None,
        persistent: bool = False,
    ) -> psutil.Popen:
        """Starts a command as the user, in `folder` (as it is called inside)."""
        before = [*self._limits(), *(self._mounts(persistent) if self.isolated else [])]
        inside = f"cd {shlex.quote(str(folder))} && exec {self._as_user()} {shlex.join(command)}"
        script = "\n".join(["set -e", *before, inside])
        shell = ["sh", "-c", script]
        namespace = ["unshare", "--mount", "--propagation", "private"] if self.isolated else []
        return psutil.Popen(
            [*namespace, *shell],
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            start_new_session=True,
        )

    def run(self, command: Sequence[str], variables: Mapping[str, str], folder: Path, persistent: bool = False) -> int:
        """Runs a command to its end; its exit code. What it prints goes to the file `output` of `base`."""
        with (self.base / "output").open("w") as output:
            process = self.start(command, variables, folder, output, persistent)
            try:
                return int(process.wait())
            finally:
                end(process)

    def _limits(self) -> list[str]:
        if self.groups:
            return [f"echo $$ > {group / 'cgroup.procs'}" for group in self.groups]
        return [f"ulimit -v {MEMORY // 1024}"]

    def _mounts(self, persistent: bool) -> list[str]:
        """Shell commands that show, in a mount namespace, what a container would."""
        binds = {self.base / "home": HOME} | ({self.base / "data": DATA} if persistent else {})
        for group in self.groups:  # A container sees its own group in place of all.
            binds[group] = group.parent
        hidden = [folder for folder in ("/tmp", "/var/tmp", "/dev/shm") if Path(folder).is_dir()]
        return [
            f"mount -t tmpfs -o mode=755 tmpfs {HOME.parent}",
            f"mkdir {HOME}",
            *(f"mount --bind {shlex.quote(str(source))} {target}" for source, target in binds.items()),
            *_show(Path(sys.base_prefix)),
            *(f"mount -t tmpfs -o ro,mode=755 tmpfs {folder}" for folder in hidden),
            f"mount -o remount,ro {HOME.parent}",
            "mount -o remount,bind,ro /",
        ]

    def _as_user(self) -> str:
        words = [] if self.groups else ["taskset", "--cpu-list", f"0-{min(CPUS, os.cpu_count() or 1) - 1}"]
        if os.getuid() == 0:
            user, group = self.ids
            words += ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs", "--"]
        return shlex.join(words)


def _show(folder: Path) -> list[str]:
    """Shell commands that show a folder to everyone, with nothing beside it, where it is in a private one."""
    private = [parent for parent in folder.parents if not parent.stat().st_mode & stat.S_IXOTH]
    if not private:
        return []
    shown, passage = shlex.quote(str(folder)), f"{HOME.parent}/passage"
    return [
        f"mkdir {passage}",
        f"mount --bind {shown} {passage}",
        f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(private[-1]))}",
        f"mkdir -p {shown}",
        f"mount --bind {passage} {shown}",
        f"umount {passage}",
        f"mount -o remount,ro {shlex.quote(str(private[-1]))}",
    ]


def end(process: psutil.Popen) -> None:
    """Ends a process the way `docker stop` does: asks, waits, and then ends it with all that it has started."""
    with suppress(psutil.NoSuchProcess):
        started = process.children(recursive=True)
        process.terminate()
        try:
            process.wait(STOPS_WITHIN_S)
        except psutil.TimeoutExpired:
            process.kill()
        for child in started:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()


@contextmanager
def sandbox(base: Path) -> Iterator[Sandbox]:
    """A sandbox whose files are in `base`. Nothing of it is left afterwards but that folder."""
    base.chmod(0o755)
    if os.getuid() != 0:
        yield Sandbox(
            base,
            (os.getuid(), os.getgid()),
            shortcomings=[
                "It is not run by root: the user is yours, other folders can be written, and limits are those "
                "of `ulimit -v` and `taskset`."
            ],
        )
        return
    with _user() as ids, _groups() as groups, _mount_point(DATA):
        made = Sandbox(base, ids, groups, isolated=_namespaces())
        if ids[0] != UID:
            made.shortcomings.append(f"User {UID} is someone else's here; it is {ids[0]}.")
        if not groups:
            made.shortcomings.append("No control group can be made: limits are those of `ulimit -v` and `taskset`.")
        if not made.isolated:
            made.shortcomings.append("There are no mount namespaces: other folders can be written where anyone may.")
        yield made


@contextmanager
def _user() -> Iterator[tuple[int, int]]:
    taken = subprocess.run(["getent", "passwd", str(UID)], capture_output=True).returncode == 0
    number = ["--system"] if taken else ["--uid", str(UID)]
    subprocess.run(["useradd", "--no-create-home", "--home-dir", HOME, "--user-group", *number, NAME], check=True)
    try:
        identity = subprocess.run(["getent", "passwd", NAME], capture_output=True, text=True, check=True).stdout.split(
            ":"
        )
        yield int(identity[2]), int(identity[3])
    finally:
        subprocess.run(["userdel", NAME], check=True)


@contextmanager
def _groups() -> Iterator[list[Path]]:
    """Control groups that limit CPUs and memory, of version 2 or 1; none where they cannot be made."""
    made: list[Path] = []
    try:
        with suppress(OSError):
            (CGROUPS / "cgroup.subtree_control").write_text("+cpu +memory")
        try:
            for group, values in limits(CGROUPS).items():
                group.mkdir()
                made.append(group)
                for name, value in values.items():
                    (group / name).write_text(str(value))
        except OSError:
            yield []
        else:
            yield made
    finally:
        for group in made:
            _remove_group(group)


def limits(root: Path) -> dict[Path, dict[str, int | str]]:
    """What to write into which control group below `root`, for `CPUS` and `MEMORY`."""
    if (root / "cgroup.controllers").exists():
        return {root / NAME: {"memory.max": MEMORY, "cpu.max": f"{CPUS * PERIOD_US} {PERIOD_US}"}}
    cpu = {"cpu.cfs_period_us": PERIOD_US, "cpu.cfs_quota_us": CPUS * PERIOD_US}
    return {root / "memory" / NAME: {"memory.limit_in_bytes": MEMORY}, root / "cpu" / NAME: {**cpu}}


def _remove_group(group: Path) -> None:
    """Ends what is still in a control group, and removes it."""
    for _ in range(50):
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)
    print(f"{group} could not be removed.", file=sys.stderr)


@contextmanager
def _mount_point(folder: Path) -> Iterator[None]:
    """Makes an empty folder where there is none, for mount namespaces to mount something there."""
    made = not folder.exists()
    if made:
        folder.mkdir()
    try:
        yield
    finally:
        if made:
            folder.rmdir()


def _namespaces() -> bool:
    tried = ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", str(HOME.parent)]
    return subprocess.run(tried, capture_output=True).returncode == 0
