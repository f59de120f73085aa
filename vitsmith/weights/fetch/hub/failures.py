"""What went wrong at the hub, in one line that says what to type: the errors of `huggingface_hub` in our words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vitsmith.errors import DownloadError, InputError, OutputError
from vitsmith.weights.fetch.hub.address import HubAddress, no_name
from vitsmith.weights.fetch.hub.known_models import close_names

LOG_IN = "log in:  hf auth login"
_STATUS = {
    401: ("the hub refuses your token", f"correct HF_TOKEN, or {LOG_IN}"),
    403: ("the hub refuses access", f"give your token the permission to read it, or {LOG_IN}"),
    404: ("the hub has no such file", "try again later"),
    429: ("the hub has had too many requests from here", f"wait some minutes, or {LOG_IN}"),
}
"""What an answer means, and what to do."""
_DISK = (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.ENOTDIR, errno.ENAMETOOLONG)


def is_unreachable(error: Exception) -> bool:
    """Whether the hub did not answer, or only that it fails: then what the cache has may be used."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500
    return _is_network(error)


@contextmanager
def explained(address: HubAddress) -> Iterator[None]:
    """Raises the errors of the hub, the network and the disk as an InputError about `address`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        told = _told(address, error)
        if told is None:
            raise
        raise told from error


def _told(address: HubAddress, error: Exception) -> InputError | None:
    from huggingface_hub import constants, errors

    cause = error
    while isinstance(cause, errors.LocalEntryNotFoundError) and isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    if isinstance(cause, errors.HFValidationError):
        return no_name(str(address))
    if isinstance(cause, errors.HfHubHTTPError):
        return DownloadError(f"{address}: {_of_answer(address, cause)}")
    if isinstance(cause, errors.OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        return not_cached(address)
    if isinstance(cause, OSError) and cause.errno in _DISK:
        return OutputError(
            f"cannot write {cause.filename or constants.HF_HUB_CACHE}: {cause.strerror}; free some space, or set "
            "HF_HOME to another folder"
        )
    if isinstance(cause, errors.FileMetadataError | errors.LocalEntryNotFoundError | ValueError):
        return DownloadError(
            f"{address}: what answers at {constants.ENDPOINT} is no Hugging Face hub: check HF_ENDPOINT and the proxy"
        )
    if _is_network(cause):
        reason = " ".join(str(cause).split())[:200] or type(cause).__name__
        return DownloadError(
            f"{address}: {constants.ENDPOINT} cannot be reached ({reason}): check the network, or fetch it on another "
            f"machine:  {address.by_hand}"
        )
    return None


def not_cached(address: HubAddress) -> DownloadError:
    """The error for a model that the cache does not have, or not all of it, while the hub may not be asked."""
    from huggingface_hub import constants

    return DownloadError(
        f"{address} is not in the cache {constants.HF_HUB_CACHE}, at least not all of it, and HF_HUB_OFFLINE is set: "
        f"unset it, or fetch it on another machine:  {address.by_hand}"
    )


def _of_answer(address: HubAddress, error: Exception) -> str:
    """Why the hub refused, and what to do."""
    from huggingface_hub import constants, errors, get_token

    assert isinstance(error, errors.HfHubHTTPError)
    code, known = error.response.status_code, get_token() is not None
    if isinstance(error, errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{address.name}"
        if not known:
            return f"its owner gives access on request: ask for it at {page} , then {LOG_IN}"
        return (
            f"your account has no access: ask for it at {page} , and wait for its owner's consent; "
            f"if another account of yours has it, {LOG_IN}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no branch, tag or commit {address.revision!r}: write hf:{address.name} for its main branch"
    if isinstance(error, errors.RepositoryNotFoundError) or (code == 401 and not known):
        close = close_names(address.name)
        return f"the hub has no such model{close and f': {close}'}; if it is a private one, {LOG_IN}"
    if isinstance(error, errors.DisabledRepoError):
        return "the hub has disabled access to it"
    told, advice = _STATUS.get(code, ("the hub fails" if code >= 500 else "the hub refuses", "try again later"))
    return f"{told} (HTTP {code}): {advice}"


def _is_network(error: Exception) -> bool:
    """Whether no answer came; the library's HTTP client has errors of its own, in whichever version."""
    kind = type(error).__module__.partition(".")[0]
    return isinstance(error, ConnectionError | TimeoutError) or kind.startswith(("httpx", "httpcore", "requests"))


def cache_name() -> str:
    """The environment variable to set for another cache, as the user has set it or would."""
    return "HF_HUB_CACHE" if "HF_HUB_CACHE" in os.environ else "HF_HOME"
