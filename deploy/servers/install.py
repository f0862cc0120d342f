"""Ways to put software on this machine: Debian packages, and jars through Maven."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.servers.cache import cached, locked
from shared.errors import Misconfigured, Unavailable
from shared.settings import child_environment

_SYSTEM_FOLDERS: Final = "/usr/sbin:/usr/local/sbin:/sbin"  # not on the path of every user
_TAIL: Final = 4000


def find(program: str) -> str | None:
    """The program's path."""
    return shutil.which(program) or shutil.which(program, path=_SYSTEM_FOLDERS)


def needed(program: str, *, server: str, hint: str) -> str:
    """The path of a program that the server needs. Raises Misconfigured."""
    found = find(program)
    if found is None:
        raise Misconfigured(f"{server} needs {program}, which is not installed", hint=hint)
    return found


def run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
) -> str:
    """Run a step of an installation and return what it printed. Raises Unavailable with the end of that."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=child_environment(**(environment or {})),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        raise Unavailable(
            f"{' '.join(command[:4])} … ended with code {done.returncode}:\n{done.stdout[-_TAIL:]}"
        )
    return done.stdout


def debian(package: str, *, program: str) -> str:
    """The path of a Debian package's program, installed first if it is missing (as root, or by sudo).

    Debian starts a server's service with its package; that one is stopped and disabled again, for ours have ports
    and data of their own. Raises Misconfigured (nothing to install with), Unavailable.
    """
    found = find(program)
    if found is not None:
        return found
    with locked("debian"):
        if find(program) is None:
            _install_package(package, program)
    return needed(program, server=package, hint=f"the package {package} did not bring it")


def _install_package(package: str, program: str) -> None:
    hint = f"install {package} by hand, so that {program} is on the path"
    apt = needed("apt-get", server=package, hint=hint)
    root: tuple[str, ...] = ()
    if os.geteuid() != 0:
        root = (needed("sudo", server=package, hint=hint), "-n")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run([*root, apt, "update", "-qq"], environment=quiet)
    run([*root, apt, "install", "-y", "-qq", "--no-install-recommends", package], environment=quiet)
    if Path("/run/systemd/system").is_dir() and Path(f"/lib/systemd/system/{package}.service").is_file():
        run([*root, "systemctl", "disable", "--now", package])


def maven_jars(name: str, coordinates: Sequence[str]) -> Path:
    """A cached folder `name` with the jars of `group:artifact:version` and of all they need at run time.

    Raises Misconfigured (no Maven), Unavailable.
    """

    def fetch(folder: Path) -> None:
        maven = needed("mvn", server=name, hint="install Maven and a JDK of version 17 or later")
        (folder / "pom.xml").write_text(_pom(name, coordinates))
        copy = [f"-DoutputDirectory={folder / 'libs'}", "-DincludeScope=runtime"]
        run([maven, "-q", "-B", "dependency:copy-dependencies", *copy], cwd=folder)

    return cached(name, fetch) / "libs"


def java(server: str) -> str:
    """The path of java. Raises Misconfigured."""
    return needed("java", server=server, hint="install a JDK of version 17 or later")


def _pom(name: str, coordinates: Sequence[str]) -> str:
    dependencies = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>\n".format(
            *coordinate.split(":")
        )
        for coordinate in coordinates
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>\n'
        f"<groupId>industrialmind.servers</groupId><artifactId>{name}</artifactId><version>1</version>\n"
        f"<dependencies>\n{dependencies}</dependencies></project>\n"
    )
