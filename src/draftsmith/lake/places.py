"""An address as a file system. S3 is spoken by pyarrow itself: no second client library, and no keys but the environment's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from draftsmith.contract.errors import BackendError, ConfigError, InputError, PrerequisiteError

FORM = "write file:///data/lake or s3://bucket/prefix"
BUCKET = re.compile(r"[A-Za-z0-9._-]{3,255}")
INSTALL = "install the extra: pip install 'draftsmith[lake]'"
CONNECT_S, REQUEST_S, ATTEMPTS = 5.0, 30.0, 3


@dataclass(frozen=True)
class Place:
    """A lake: its address as it was given, a pyarrow file system, and the path of the lake in it."""

    url: str
    files: Any
    root: str
    local: bool


def open_place(url: str) -> Place:
    """`file:///path`, a plain path, or `s3://bucket/prefix`. Opens nothing yet.

    S3 takes keys, region and endpoint from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
    AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL). Raises ConfigError for another address, PrerequisiteError without pyarrow.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError(f"{url!r} is no address of a lake", FORM) from None
    if parts.username or parts.password or parts.query or parts.fragment or "\x00" in unquote(url):
        raise ConfigError(
            "a lake's address holds nothing but the bucket and a path",
            "keys belong in the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    try:
        from pyarrow import fs
    except ImportError:
        raise PrerequisiteError("pyarrow is not installed, and the lake is Parquet", INSTALL) from None
    if parts.scheme in ("", "file"):
        if parts.scheme and parts.netloc not in ("", "localhost"):
            raise ConfigError(f"{url} names a host", "write three slashes: file:///data/lake")
        path = unquote(parts.path) if parts.scheme else url
        if not path.strip():
            raise ConfigError("the address of the lake is empty", FORM)
        try:
            return Place(url, fs.LocalFileSystem(), str(Path(path).expanduser().resolve()), True)
        except RuntimeError:
            raise ConfigError(f"{url}: there is no such user", FORM) from None
    if parts.scheme != "s3" or not BUCKET.fullmatch(parts.netloc) or {".", ".."} & set(unquote(parts.path).split("/")):
        raise ConfigError(f"{url} is no address of a lake", FORM)
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    options: dict[str, Any] = (
        {"scheme": endpoint.scheme, "endpoint_override": endpoint.netloc} if endpoint.netloc else {}
    )
    with plainly(url):
        files = fs.S3FileSystem(
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
            connect_timeout=CONNECT_S,
            request_timeout=REQUEST_S,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
            allow_bucket_creation=False,
            allow_delayed_open=True,  # an object of one part is one request, where it would be three
            **options,
        )
    return Place(url, files, f"{parts.netloc}{unquote(parts.path)}".rstrip("/"), False)


@contextmanager
def plainly(url: str) -> Iterator[None]:
    """What a bucket or a disk refused, as an error that names cause and next step. Writing again continues from there."""
    try:
        yield
    except OSError as problem:
        text = str(problem)
        lowered = text.lower()
        again = "run the same command again: what was put stays, the rest follows"
        if any(
            word in lowered for word in ("access_denied", "access denied", "forbidden", "http status 403", "errno 13")
        ):
            raise PrerequisiteError(
                f"{url}: access is denied", "give the key s3:GetObject, PutObject, ListBucket"
            ) from problem
        if any(word in lowered for word in ("no_such_bucket", "nosuchbucket", "bucket does not exist")):
            raise InputError(f"{url}: there is no such bucket", "make it, or correct the address") from problem
        if any(word in lowered for word in ("no space", "quota", "insufficient", "entitytoolarge", "http status 507")):
            raise PrerequisiteError(f"{url}: it is full", f"free space there and {again}") from problem
        raise BackendError(
            f"{url} cannot be reached or broke off: {text.splitlines()[0][:200] if text else 'no reason'}", again
        ) from problem
