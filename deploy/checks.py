"""The checker of deploy/checks: Compose's own loader and BuildKit's own parser, built from their Go modules."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from deploy.servers.cache import cached
from deploy.servers.install import needed, run
from shared.errors import Unavailable

SOURCES: Final = Path(__file__).parent / "checks"
_FILES: Final = ("go.mod", "go.sum", "main.go")


def read_compose(file: Path, env: Path) -> Mapping[str, Any]:
    """The project as Docker Compose understands it, with every profile. Raises Unavailable with what it complains of."""
    return _told("compose", str(file.resolve()), str(env.resolve()))  # type: ignore[no-any-return]


def read_dockerfile(file: Path) -> Sequence[Mapping[str, Any]]:
    """A Dockerfile's stages: `name`, `base`, `commands`. Raises Unavailable with what BuildKit complains of."""
    return _told("dockerfile", str(file.resolve()))  # type: ignore[no-any-return]


def _told(*words: str) -> Any:  # noqa: ANN401 - JSON
    """What it prints, on one line; a warning beside it counts as an error."""
    *warnings, line = run([str(_binary()), *words]).splitlines()
    if warnings:
        raise Unavailable("\n".join(warnings))
    return json.loads(line)


def _binary() -> Path:
    digest = hashlib.sha256(b"".join((SOURCES / name).read_bytes() for name in _FILES)).hexdigest()[:12]
    return cached(f"checks-{digest}", _build) / "checks"


def _build(folder: Path) -> None:
    go = needed("go", server="the checker of compose files", hint="install Go 1.26 or later")
    source = folder / "source"
    source.mkdir()
    for name in _FILES:
        shutil.copy(SOURCES / name, source)
    run([go, "build", "-mod=readonly", "-ldflags", "-s -w", "-o", str(folder / "checks"), "."], cwd=source)
    shutil.rmtree(source)
