"""onnxruntime-web, the runtime of exported pages: fetched once from npm, checked, kept in the cache."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

from vitsmith.errors import DownloadError, InputError
from vitsmith.files.atomic import replacing, scratch
from vitsmith.files.cache import cache_folder
from vitsmith.process.child import run_child

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""As npm gives it (`npm view onnxruntime-web@1.30.0 dist.integrity`)."""
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""The files of `dist/` that a page needs to compute in WebAssembly."""

NPM_SECONDS = 600


def web_runtime(archive: Path | None = None) -> dict[str, bytes]:
    """The contents of FILES: from `archive` (what `npm pack` writes), else from the cache, else from npm.

    Raises InputError for another archive, DownloadError if it cannot be fetched.
    """
    if archive is not None:
        return _unpacked(archive, f"give the file that  npm pack {PACKAGE}  writes")
    kept = cache_folder() / "npm" / ARCHIVE
    if not kept.is_file():
        _fetch(kept)
    return _unpacked(kept, "delete it and export again")


def _fetch(kept: Path) -> None:
    """Puts npm's archive into the cache."""
    npm = shutil.which("npm")
    way = f"run  npm pack {PACKAGE}  on a machine with npm, and put the file at {kept}"
    if npm is None:
        raise DownloadError(f"a page needs {PACKAGE}, and npm is not installed here: {way}")
    with scratch("npm") as place:
        command = [npm, "pack", PACKAGE, "--pack-destination", str(place), "--ignore-scripts", "--loglevel=error"]
        try:
            done = run_child(command, seconds=NPM_SECONDS, cwd=Path(place))
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DownloadError(f"npm could not fetch {PACKAGE} ({error}); {way}") from None
        found = place / ARCHIVE
        if done.returncode or not found.is_file():
            reason = next((line for line in done.stderr.splitlines() if line.strip()), f"exit {done.returncode}")
            raise DownloadError(f"npm could not fetch {PACKAGE} ({reason.strip()}); {way}")
        _unpacked(found, "npm gave other bytes than the published ones; try again")
        with replacing(kept) as partial:
            shutil.copyfile(found, partial)


def _unpacked(archive: Path, advice: str) -> dict[str, bytes]:
    """FILES of a checked archive. Nothing is extracted to disk, so that no path in it can matter."""
    try:
        with archive.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha512").digest()
    except OSError as error:
        raise InputError(f"cannot read {archive} ({error.strerror}); {advice}") from None
    if f"sha512-{base64.b64encode(digest).decode()}" != INTEGRITY:
        raise InputError(f"{archive} is not the published {PACKAGE} (its SHA-512 differs); {advice}")
    wanted = {f"package/dist/{name}": name for name in FILES}
    found: dict[str, bytes] = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if name := wanted.get(member.name):
                content = tar.extractfile(member)
                assert content is not None
                found[name] = content.read()
    return found
