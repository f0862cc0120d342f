"""Which code and which lock file a model was made by, for its manifest."""

import hashlib
import json
import shutil
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_DISTRIBUTION = "industrialmind"
_GIT_SECONDS = 5


@cache
def code_sha() -> str | None:
    """The commit that runs, with `-dirty` where the working tree differs from it; None where nothing tells it.

    A checkout tells by git; an installation from a repository by what pip wrote down of it (PEP 610).
    """
    if (_ROOT / ".git").exists() and (git := shutil.which("git")):
        return _described(git, _ROOT)
    try:
        told = distribution(_DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    commit = json.loads(told).get("vcs_info", {}).get("commit_id") if told else None
    return str(commit) if commit else None


@cache
def lock_sha256() -> str | None:
    """SHA-256 of the lock file beside the code; None in an installation, which has none."""
    lock = _ROOT / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None


def _described(git: str, root: Path) -> str | None:
    asked = [git, "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):  # no repository of this user's, or none that git can read
        return None
    return done.stdout.strip() or None
