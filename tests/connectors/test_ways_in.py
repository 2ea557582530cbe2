"""What people copy and follow: it leads to the right place, holds no secret, and nothing hostile gets into it."""

from __future__ import annotations

from configparser import ConfigParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from apps.connectors.aws import ways_in
from apps.connectors.base import WayIn
from tests.connectors.conftest import CONFIG

ACCOUNT = "111122223333"
WITH_PORTAL = {**CONFIG, "start_url": "https://example.awsapps.com/start/"}


def profiles(way: WayIn) -> ConfigParser:
    parser = ConfigParser()
    parser.read_string(way.url_or_text)
    return parser


def test_a_role_is_reached_by_a_switch_and_by_a_profile_over_the_entry_set() -> None:
    console, cli = ways_in.to_role(CONFIG, ACCOUNT, "jit/jit-abc", "jit-abc")
    asked = urlsplit(console.url_or_text)
    assert (console.kind, asked.scheme, asked.netloc) == ("console", "https", "signin.aws.amazon.com")
    assert asked.path == "/switchrole"
    assert parse_qs(asked.query) == {"account": [ACCOUNT], "roleName": ["jit/jit-abc"], "displayName": ["jit-abc"]}
    read = profiles(cli)
    assert read["profile jit-abc"]["role_arn"] == f"arn:aws:iam::{ACCOUNT}:role/jit/jit-abc"
    source = read["profile jit-abc"]["source_profile"]
    assert read[f"profile {source}"]["sso_role_name"] == "JitBase"
    assert read[f"profile {source}"]["sso_account_id"] == ACCOUNT


def test_a_permission_set_is_reached_through_the_access_portal_where_we_know_its_address() -> None:
    console, cli = ways_in.to_permission_set(WITH_PORTAL, ACCOUNT, "Deployer")
    assert console.url_or_text == (
        f"https://example.awsapps.com/start/#/console?account_id={ACCOUNT}&role_name=Deployer"
    )
    assert profiles(cli)[f"profile Deployer-{ACCOUNT}"]["sso_start_url"] == "https://example.awsapps.com/start"
    (alone,) = ways_in.to_permission_set(CONFIG, ACCOUNT, "Deployer")
    assert alone.kind == "cli"
    assert "sso_start_url" not in profiles(alone)[f"profile Deployer-{ACCOUNT}"]


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "http://example.com/start", "https://a b/start", "https://x/\nk=v"]
)
def test_an_address_that_is_no_access_portal_is_not_shown(url: str) -> None:
    ways = ways_in.to_permission_set({**CONFIG, "start_url": url}, ACCOUNT, "Deployer")
    assert [way.kind for way in ways] == ["cli"]
    assert url not in ways[0].url_or_text


@pytest.mark.parametrize("hostile", ["", "a\ncredential_process = evil", "a]", "a b", "$(evil)", "é", "x" * 129])
def test_nothing_hostile_is_ever_copied_into_a_terminal(hostile: str) -> None:
    assert ways_in.to_permission_set(CONFIG, ACCOUNT, hostile) == ()
    assert ways_in.to_permission_set(CONFIG, hostile, "Deployer") == ()
    assert ways_in.to_role(CONFIG, ACCOUNT, hostile, "jit-abc") == ()
    assert ways_in.to_role({**CONFIG, "entry_permission_set": hostile}, ACCOUNT, "jit/jit-abc", "jit-abc") == ()


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_other_partitions_have_other_arns_and_other_doors(region: str, partition: str) -> None:
    config: dict[str, Any] = {**CONFIG, "region": region}
    console, cli = ways_in.to_role(config, ACCOUNT, "jit/jit-abc", "jit-abc")
    assert f"arn:{partition}:iam" in cli.url_or_text
    assert console.url_or_text.startswith(ways_in.SIGN_IN[partition])
