"""How are artifacts kept in S3, or in anything that speaks it? The only importer of boto3, which works in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from responder.artifacts import ArtifactsSilent, Stored

T = TypeVar("T")
AT_ONCE = 8
PAGE = 1000


class S3Artifacts:
    """A bucket, below `prefix`. Without keys boto3 looks where it always does: environment, instance role."""

    def __init__(
        self, bucket: str, *, prefix: str = "", endpoint: str | None = None, region: str | None = None,
        access_key: str | None = None, secret_key: str | None = None,
    ) -> None:  # fmt: skip
        self.bucket, self.prefix = bucket, prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._client: Any = boto3.session.Session().client(
            "s3", endpoint_url=endpoint, region_name=region or "us-east-1", aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(
                connect_timeout=3, read_timeout=20, retries={"max_attempts": 3, "mode": "standard"},
                max_pool_connections=AT_ONCE, s3={"addressing_style": "path" if endpoint else "auto"},
            ),
        )  # fmt: skip
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def put(self, name: str, data: bytes) -> None:
        """See Artifacts."""
        await self._ask(lambda: self._client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=data))

    async def get(self, name: str) -> bytes:
        """See Artifacts."""

        def read() -> bytes | None:
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=self.prefix + name)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                    return None
                raise
            with answer["Body"] as body:
                return bytes(body.read())

        found = await self._ask(read)
        if found is None:
            raise KeyError(name)
        return found

    async def names(self, below: str) -> list[str]:
        """See Artifacts."""
        return [item.name for item in await self.stored(below)]

    async def stored(self, below: str) -> list[Stored]:
        """See Artifacts."""
        prefix = self.prefix + below.rstrip("/") + "/"

        def walk() -> list[Stored]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            rows = (row for page in pages for row in page.get("Contents", ()))
            return sorted(
                Stored(row["Key"].removeprefix(self.prefix), row["Size"], row["LastModified"].timestamp())
                for row in rows
            )

        return await self._ask(walk)

    async def drop(self, below: str) -> None:
        """See Artifacts."""
        names = await self.names(below)

        def remove(some: list[str]) -> None:
            objects = [{"Key": self.prefix + name} for name in some]
            self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})

        for at in range(0, len(names), PAGE):
            await self._ask(lambda some=names[at : at + PAGE]: remove(some))  # type: ignore[misc]

    async def _ask(self, work: Callable[[], T]) -> T:
        async with self._slots:
            try:
                return await asyncio.to_thread(work)
            except (BotoCoreError, ClientError, OSError) as error:
                raise ArtifactsSilent(f"bucket {self.bucket}: {type(error).__name__}: {error}"[:300]) from None
