"""Who gets in, and what hostile input gets: always an answer in SCIM's own shape, and never more."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.scim.models import ScimGroup, ScimUser, Token
from apps.scim.protocol import MOST_BYTES
from apps.scim.services import sources
from apps.scim.views import door
from tests.factories.inventory import ConnectionFactory
from tests.scim.conftest import CORE, Provider

pytestmark = pytest.mark.django_db
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"


def error(answer: Any, status: int, scim_type: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    said = json.loads(answer.content)
    assert said["schemas"] == [ERROR]
    assert said["status"] == str(status)
    assert said.get("scimType") == scim_type
    assert answer.headers["Content-Type"].startswith("application/scim+json")
    return said


# ---- tokens


@pytest.mark.parametrize(
    "secret", ["", "x", "gatehouse-scim_000000000000_abc", "gatehouse-scim_\0_x", "x" * 10_000, "é"]
)
def test_without_a_token_that_works_there_is_nothing(okta: Provider, secret: str) -> None:
    okta.secret = secret
    for path in ("/Users", "/ServiceProviderConfig", "/Schemas", "/nowhere"):
        answer = okta.get(path)
        error(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_another_scheme_is_refused(okta: Provider) -> None:
    error(okta.call("GET", "/Users", Authorization=f"Basic {okta.secret}"), 401)


def test_a_revoked_and_an_expired_token_open_nothing_and_that_is_noted(okta: Provider, erin: Any) -> None:
    token = Token.objects.get()
    Token.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    error(okta.get("/Users"), 401)
    Token.objects.update(expires_at=None)
    sources.revoke_token(token, by=erin)
    error(okta.get("/Users"), 401)
    refused = AuditEvent.objects.filter(event="scim.token.refused").order_by("pk")
    assert [event.data["why"] for event in refused] == ["expired", "revoked"]


def test_two_tokens_overlap_and_a_third_waits(okta: Provider, erin: Any) -> None:
    _, successor = sources.make_token(okta.source, expires_at=None, by=erin)
    for secret in (okta.secret, successor):
        assert Provider(okta.source, secret).get("/Users").status_code == 200
    with pytest.raises(sources.NotPossible, match="Revoke"):
        sources.make_token(okta.source, expires_at=None, by=erin)


def test_only_the_digest_is_kept_and_nothing_is_logged(okta: Provider, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    okta.get("/Users")
    bad = okta.secret[:-2] + "xx"
    Provider(okta.source, bad).get("/Users")
    kept = str(list(Token.objects.values())) + str(list(AuditEvent.objects.values())) + caplog.text
    for secret in (okta.secret, bad):
        assert secret[-20:] not in kept  # the end, since what is random may hold the separator too
    assert Token.objects.get().last_used_at


def test_guessing_is_slowed_down_and_never_shuts_the_provider_out(okta: Provider) -> None:
    stranger = Provider(okta.source, "nothing")
    for _ in range(door.MOST_REFUSALS):
        error(stranger.get("/Users"), 401)
    answer = stranger.get("/Users")
    error(answer, 429)
    assert answer.headers["Retry-After"]
    assert okta.get("/Users").status_code == 200


def test_a_token_shows_only_its_own_providers_people(okta: Provider, erin: Any) -> None:
    alice = okta.add("alice")
    source = sources.add_source(name="Other", connection=ConnectionFactory(), subject_is_external_id=False, by=erin)
    other = Provider(source, sources.make_token(source, expires_at=None, by=erin)[1])
    assert other.get("/Users").json()["totalResults"] == 0
    for method in ("GET", "DELETE"):
        error(other.call(method, f"/Users/{alice['id']}"), 404)
    error(other.patch(f"/Users/{alice['id']}", {"op": "replace", "path": "active", "value": False}), 404)
    group = {"schemas": [f"{CORE}Group"], "displayName": "g", "members": [{"value": alice["id"]}]}
    error(other.call("POST", "/Groups", group), 400, "invalidValue")
    other.add("alice")


# ---- hostile input


def body(**more: Any) -> dict[str, Any]:
    return {"schemas": [f"{CORE}User"], "userName": "alice", **more}


@pytest.mark.parametrize(
    ("said", "status", "scim_type"),
    [
        (b"x" * (MOST_BYTES + 1), 413, None),
        (b"{" * 1_000, 400, "invalidSyntax"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, 400, "invalidSyntax"),
        (b"\xff\xfe", 400, "invalidSyntax"),
        (b"[]", 400, "invalidSyntax"),
        (body(userName="x" * 10_000), 400, "invalidValue"),
        (body(userName="nul\0"), 400, "invalidValue"),
        (body(userName="\u202egnp.exe"), 400, "invalidValue"),
        (body(userName="   "), 400, "invalidValue"),
        (body(externalId="x" * 300), 400, "invalidValue"),
        (body(displayName="x" * 10_000), 400, "invalidValue"),
        (body(nickName="x" * 100_000), 400, "invalidValue"),
        (body(nickName="nul\0"), 400, "invalidValue"),
        (body(emails=[{"value": f"a{n}@example.com"} for n in range(50)]), 400, "invalidValue"),
        (body(unknown="x"), 400, "invalidSyntax"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_kept(
    okta: Provider, said: Any, status: int, scim_type: str | None
) -> None:
    error(okta.call("POST", "/Users", said), status, scim_type)
    assert not ScimUser.objects.exists()


def test_names_that_are_the_same_for_scim_are_one(okta: Provider) -> None:
    okta.add("Zoë")
    error(okta.call("POST", "/Users", body(userName="ZOE\u0308")), 409, "uniqueness")
    okta.add("other", externalId="1")
    error(okta.call("POST", "/Users", body(userName="third", externalId="1")), 409, "uniqueness")


def test_unknown_paths_and_ids_are_refused(okta: Provider) -> None:
    user = okta.add("alice")
    where = f"/Users/{user['id']}"
    error(okta.patch(where, {"op": "add", "path": "nope", "value": "x"}), 400, "invalidPath")
    error(okta.patch(where, {"op": "replace", "path": "id", "value": "x"}), 400, "mutability")
    assert okta.call("PUT", where, body(id="00000000-0000-0000-0000-000000000000")).json()["id"] == user["id"]
    for key in ("nobody", "%00", "1' OR 1=1", user["id"].upper(), user["id"].replace("-", "")):
        error(okta.get(f"/Users/{key}"), 404)


def test_somebody_elses_change_in_between_is_not_overwritten(okta: Provider) -> None:
    user = okta.add("alice")
    where, old = f"/Users/{user['id']}", user["meta"]["version"]
    lead = {"op": "add", "path": "title", "value": "Lead"}
    assert okta.patch(where, lead, If_Match=old).status_code == 204
    error(okta.patch(where, {**lead, "value": "Head"}, If_Match=old), 412)
    error(okta.call("DELETE", where, If_Match=old), 412)
    answer = okta.get(where)
    assert answer.json()["title"] == "Lead"
    assert okta.call("GET", where, If_None_Match=answer.headers["ETag"]).status_code == 304


def test_microsoft_entra_may_speak_as_it_does(okta: Provider) -> None:
    user = okta.add("alice")
    where = f"/Users/{user['id']}"
    assert okta.patch(where, {"op": "Replace", "path": "active", "value": "False"}).status_code == 204
    mail = {"op": "Add", "path": 'emails[type eq "work"].value', "value": "alice@example.com"}
    assert okta.patch(where, mail).status_code == 204
    now = okta.get(where).json()
    assert (now["active"], now["emails"][0]["value"]) == (False, "alice@example.com")


def test_a_group_is_what_it_says_and_leaving_takes_out_of_it(okta: Provider) -> None:
    alice, bob = okta.add("alice"), okta.add("bob")
    group = okta.call(
        "POST",
        "/Groups",
        {"schemas": [f"{CORE}Group"], "displayName": "Engineers", "members": [{"value": alice["id"]}]},
    ).json()
    where = f"/Groups/{group['id']}"
    okta.patch(where, {"op": "add", "path": "members", "value": [{"value": bob["id"]}]})
    okta.patch(where, {"op": "remove", "path": f'members[value eq "{alice["id"]}"]'})
    assert [member["value"] for member in okta.get(where).json()["members"]] == [bob["id"]]
    assert okta.get(f"/Users/{bob['id']}").json()["groups"][0]["display"] == "Engineers"
    assert "members" not in okta.get(where, excludedAttributes="members").json()
    found = okta.get("/Groups", filter=f'members[value eq "{bob["id"]}"]').json()
    assert found["totalResults"] == 1
    okta.call("DELETE", f"/Users/{bob['id']}")
    assert "members" not in okta.get(where).json()
    error(okta.patch(where, {"op": "add", "path": "members", "value": [{"value": group["id"]}]}), 400, "invalidValue")
    assert ScimGroup.objects.get().version == 3


# ---- at size


@pytest.fixture
def crowd(okta: Provider) -> Provider:
    ScimUser.objects.bulk_create(
        ScimUser(
            source=okta.source,
            user_name=f"User{n:05}",
            user_name_key=f"user{n:05}",
            external_id=f"00u{n:05}",
            email_keys=[f"user{n:05}@example.com"],
            payload={
                "schemas": [f"{CORE}User"],
                "userName": f"User{n:05}",
                "externalId": f"00u{n:05}",
                "emails": [{"value": f"user{n:05}@example.com", "type": "work"}],
            },
        )
        for n in range(1_050)
    )
    return okta


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ('userName eq "uSER00042"', 1),
        ('externalId eq "00u00042"', 1),
        ('externalId eq "00U00042"', 0),
        ('userName sw "user0004"', 10),
        ('userName co "0042"', 11),
        ('emails eq "USER00042@example.com"', 1),
        ('emails[type eq "work" and value eq "user00042@example.com"]', 1),
        ('emails[type eq "home" and value eq "user00042@example.com"]', 0),
        ('userName eq "user00001" or externalId eq "00u00002"', 2),
        ('userName sw "user0004" and not (userName eq "user00042")', 9),
        ('userName sw "user0004" and title pr', 0),
        ("active eq true", 1_050),
        ('externalId ne "00u00042"', 1_049),
        ('meta.lastModified gt "2020-01-01T00:00:00Z"', 1_050),
        ('userName eq "nul\\u0000"', 0),
        ('id eq "x"', 0),
    ],
)
def test_filters_are_asked_in_sql_and_mean_what_the_standard_says(crowd: Provider, query: str, total: int) -> None:
    with CaptureQueriesContext(
        connection,
    ) as asked:
        answer = crowd.get("/Users", filter=query, count=5)
    assert answer.status_code == 200, answer.content
    found = answer.json()
    assert found["totalResults"] == total
    assert len(found.get("Resources", [])) == min(total, 5)
    assert len(asked) <= 12


@pytest.mark.parametrize(
    "query", ['title eq "Lead"', 'name.familyName co "x" or userName eq "user00001"', "not (title pr)"]
)
def test_what_no_column_answers_is_refused_when_it_would_look_at_too_many(crowd: Provider, query: str) -> None:
    error(crowd.get("/Users", filter=query), 400, "tooMany")
    error(crowd.get("/Users", sortBy="title"), 400, "tooMany")


@pytest.mark.parametrize(
    "query", ["userName", "userName eq", "nope eq 1", "(" * 1_000, "userName gt 5 and", "not (" * 400]
)
def test_a_filter_that_is_none_is_refused(crowd: Provider, query: str) -> None:
    error(crowd.get("/Users", filter=query), 400, "invalidFilter")


def test_pages_cover_everybody_once_and_sorting_is_by_index(crowd: Provider) -> None:
    seen = []
    for start in range(1, 1_051, 200):
        page = crowd.get("/Users", startIndex=start, count=1_000, sortBy="userName", sortOrder="descending").json()
        seen += [user["userName"] for user in page["Resources"]]
    assert seen == [f"User{n:05}" for n in reversed(range(1_050))]
    assert crowd.get("/Users", startIndex=99_999).json()["totalResults"] == 1_050
    assert crowd.get("/Users", count=0).json()["itemsPerPage"] == 0


def test_looking_somebody_up_uses_an_index(crowd: Provider) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for column, value in (("user_name_key", "user00042"), ("external_id", "00u00042")):
            rows = ScimUser.objects.filter(source=crowd.source, **{column: value})
            if column == "external_id":
                rows = rows.exclude(external_id="")
            assert "Index" in rows.explain()
            assert column in rows.explain()


@pytest.mark.parametrize(
    "query",
    [
        {"filter": 'userName eq "\\ud800"'},
        {"filter": 'userName ne "\\ud800"'},
        {"startIndex": 10**30},
        {"count": 10**30},
    ],
    ids=str,
)
def test_what_no_database_can_be_asked_finds_nothing_or_is_capped(crowd: Provider, query: dict[str, Any]) -> None:
    assert crowd.get("/Users", **query).status_code == 200
