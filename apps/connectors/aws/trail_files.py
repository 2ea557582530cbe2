"""Where a trail's files are: a bucket of S3, by account, Region and day.

The layout is AWS's ("Finding your CloudTrail log files"), with or without the organization's id:
`prefix/AWSLogs/o-…/111122223333/CloudTrail/eu-west-1/2031/01/31/`. Digest and Insight files lie beside it and are not read.
A connection's config names `trail_bucket`, `trail_prefix` (what stands before AWSLogs, empty for most) and `trail_account`
(whose reader role may read the bucket; the hub where it is not said).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from apps.connectors.aws import trails
from apps.connectors.aws.errors import code_of, translated
from apps.connectors.aws.session import Api, session
from apps.connectors.errors import ConnectorError, Refused, Unproven
from apps.connectors.trail import Shelf, TrailEvent, Unreadable

_ACCOUNT = re.compile(r"\d{12}")
_ORGANIZATION = re.compile(r"o-[a-z0-9]{10,32}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_FILE = re.compile(r"(?P<day>\d{4}/\d{2}/\d{2})/[^/]*_CloudTrail_[^/]*\.json(\.gz)?$")


def root(config: Mapping[str, Any]) -> str:
    """What the key of every file of the trail begins with."""
    prefix = str(config.get("trail_prefix") or "").strip("/")
    return f"{prefix}/AWSLogs/" if prefix else "AWSLogs/"


class TrailFiles:
    """The files of one configured connection, read as the reader role."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._api = Api(session(config), "reader_role")
        self._bucket = str(config.get("trail_bucket") or "")
        self._root = root(config)
        self._account_id = str(config.get("trail_account") or "")
        if not self._bucket:
            raise Refused("This connection names no bucket of an audit trail (trail_bucket). Set it first.")

    @property
    def calls(self) -> int:
        """How many calls were made."""
        return self._api.calls

    def shelves(self) -> list[Shelf]:
        """Every account and Region that the bucket has files of."""
        roots = [self._root]
        names = self._folders(self._root)
        roots += [f"{self._root}{name}/" for name in names if _ORGANIZATION.fullmatch(name)]
        found = []
        for root in roots:
            for account_id in names if root == self._root else self._folders(root):
                if _ACCOUNT.fullmatch(account_id):
                    here = f"{root}{account_id}/CloudTrail/"
                    found += [
                        Shelf(account_id, region, f"{here}{region}/")
                        for region in self._folders(here)
                        if _REGION.fullmatch(region)
                    ]
        return found

    def keys(self, shelf: Shelf, since: date) -> Iterator[str]:
        """The keys of one shelf from a day on, in order of their days."""
        yield from (one["Key"] for one in self._list(shelf.prefix, f"{shelf.prefix}{since:%Y/%m/%d}/"))

    def day_of(self, key: str) -> date | None:
        """The day that a file was delivered for; None for what is no file of the trail."""
        found = _FILE.search(key)
        try:
            return date(*map(int, found["day"].split("/"))) if found else None
        except ValueError:
            return None

    def read(self, key: str, skipped: Counter[str]) -> Iterator[TrailEvent]:
        """The events of one file. Raises `Unreadable` where the file itself is bad or was archived, and a
        `ConnectorError` where S3 does not hand it out: then nothing is known about it, and it is read another time."""
        try:
            body = self._api.call(self._account, "s3", "get_object", Bucket=self._bucket, Key=key)["Body"]
        except ConnectorError as error:
            if code_of(error) == "InvalidObjectState":  # refused for ever, unless somebody restores it
                raise Unreadable("It was moved to an archive.") from error
            raise
        try:
            with translated(f"s3:GetObject of {key[-200:]}"):
                yield from trails.read(body, skipped)
        finally:
            body.close()

    @property
    def _account(self) -> str:
        return self._account_id or self._api.hub_id

    def _folders(self, prefix: str) -> list[str]:
        listed = self._list(prefix, "", delimiter="/")
        return [one["Prefix"].removeprefix(prefix).strip("/") for one in listed if "Prefix" in one]

    def _list(self, prefix: str, after: str, delimiter: str = "") -> Iterator[dict[str, Any]]:
        """Objects (and folders, with a delimiter), page after page; a page that comes again would list for ever."""
        asked = {"Bucket": self._bucket, "Prefix": prefix, "StartAfter": after, "Delimiter": delimiter}
        seen = set()
        while True:
            page = self._api.call(self._account, "s3", "list_objects_v2", **asked)
            yield from page.get("Contents", ())
            yield from page.get("CommonPrefixes", ())
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]
            if asked["ContinuationToken"] in seen:
                raise Unproven("s3:ListObjectsV2 repeats its pages. Read the trail again.")
            seen.add(asked["ContinuationToken"])
