"""Fetching a file over HTTP, with progress, and going on where an interrupted download stopped."""

import contextlib
import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm


CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte


def download(url: str, folder: str | Path, sha256: str | None = None) -> Path:
    """Fetch a file, unless it is there.

    What arrives is collected in a file ending in `.part`, which the next call goes on from; the file itself appears
    only when it is whole.

    Args:
        url: its last part is the name of the file.
        folder: where to; made when it is missing.
        sha256: what the file is to have; another is deleted.

    Returns:
        Path of the file.

    Raises:
        ValueError: the server has no such file, or what arrived is another.
        OSError: the connection failed or broke off, or the file cannot be written; call again to go on.
    """
    target = Path(folder) / url.rpartition("/")[2]
    if target.exists():
        return target
    try:
        return _fetch(url, target, sha256)
    except OSError as error:
        if error.strerror is None:  # a sentence already
            raise
        raise OSError(
            f"{target} cannot be written: {error.strerror}; mend that and run the same command again."
        ) from error


def _fetch(url: str, target: Path, sha256: str | None) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    done = part.stat().st_size if part.exists() else 0

    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is as long as the file or longer: of another file, or all but renamed
            part.unlink()
            return _fetch(url, target, sha256)
        raise ValueError(f"{url} cannot be fetched: {error}.") from error
    except OSError as error:
        raise ConnectionError(f"{url} cannot be reached: {error}.") from error
    with response:
        done = done if response.status == 206 else 0  # a server that knows no ranges starts again
        total = done + int(response.headers["Content-Length"])
        with (
            part.open("ab" if done else "wb") as file,
            tqdm(desc=target.name, total=total, initial=done, unit="B", unit_scale=True) as progress,
            contextlib.suppress(http.client.IncompleteRead, ConnectionError, TimeoutError),  # the length tells, below
        ):
            while chunk := response.read(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
    if part.stat().st_size != total:
        raise ConnectionError(
            f"{url} broke off after {part.stat().st_size} of {total} bytes; run the same command again to go on."
        )
    found = hash_of(part)
    if sha256 not in (None, found):
        part.unlink()
        raise ValueError(f"{url} is not the file that it was: its sha256 is {found}, not {sha256}; it was deleted.")
    return part.rename(target)


def hash_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
