"""Who can become an administrator in one step or two, worked out from trusts and policies of whole accounts."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.inventory import escalations, periodic, tasks, tracing
from apps.inventory.models import Entitlement, Escalation, Knock, Principal, Tracing, Trust
from tests.factories import inventory as make
from tests.inventory.company import EVERYTHING, Company, allow, policy, trust

pytestmark = pytest.mark.django_db


@pytest.fixture
def company() -> Company:
    return Company()


def reasons(company: Company) -> dict[str, str]:
    tracing.trace(company.connection)
    rows = Escalation.objects.select_related("principal", "entitlement")
    return {(row.principal or row.entitlement).name: row.reason for row in rows}


def test_whoever_can_assume_an_administrator_can_become_one(company):
    company.role("admin", trust(company.root()), may=[EVERYTHING])
    knocking = allow("sts:AssumeRole", company.arn("admin"))
    company.role("deploy", may=[knocking])
    company.role("idle", may=[allow("s3:GetObject")])
    assert reasons(company) == {"deploy": "Can assume the role admin, an administrator."}
    row = Escalation.objects.get()
    assert (row.steps, row.statement, row.target.name, row.is_conditional) == (1, knocking, "admin", False)


def test_two_steps_are_followed_and_three_are_not(company):
    company.role("admin", trust({"AWS": company.arn("second")}), may=[EVERYTHING])
    company.role("second", trust({"AWS": company.arn("first")}))
    company.role("first", trust({"AWS": company.arn("none")}))
    company.role("none")
    assert reasons(company) == {
        "second": "Can assume the role admin, an administrator.",
        "first": "Can assume the role second, which can assume the role admin.",
    }
    assert Escalation.objects.get(principal__name="first").statement["Principal"] == {"AWS": company.arn("first")}


def test_a_permission_set_escalates_through_another_account(company):
    alice = company.person("alice")
    company.role("admin", trust(company.root(company.tools)), may=[EVERYTHING])
    held = company.permission_set("Deploy", allow("sts:AssumeRole", company.arn("admin")), account=company.tools)
    company.permission_set("Nobodys", allow("sts:AssumeRole", company.arn("admin")), account=company.tools)
    company.holds(alice, held)
    assert reasons(company) == {"Deploy": "Can assume the role admin, an administrator."}


def test_users_get_it_from_their_groups_and_roles_do_not_have_any(company):
    company.role("admin", trust(company.root()), may=[EVERYTHING])
    user = company.user("ci")
    group = make.PrincipalFactory(connection=company.connection, iam_group=True, resource=company.prod, name="ops")
    membership = make.EntitlementFactory(
        connection=company.connection, resource=company.prod, kind="iam_group", group=group, privilege="write"
    )
    company.holds(user, membership)
    company.holds(group, company.policy("knocks", allow("sts:AssumeRole", company.arn("admin"))))
    assert reasons(company) == {"ci": "Can assume the role admin, an administrator."}


def test_a_policy_that_nobody_has_gives_nothing(company):
    company.role("admin", trust(company.root()), may=[EVERYTHING])
    company.role("deploy")
    company.policy("unattached", allow("sts:AssumeRole"))
    assert reasons(company) == {}


@pytest.mark.parametrize(
    ("may", "says"),
    [
        (
            [allow("iam:UpdateAssumeRolePolicy", "arn:aws:iam::*:role/admin")],
            "Can change whom the role admin lets in, an administrator.",
        ),
        ([allow("iam:CreateAccessKey", "*")], "Can make an access key for the user root2, an administrator."),
        (
            [allow("iam:PassRole"), allow("ec2:RunInstances")],
            "Can hand the role admin to ec2.amazonaws.com and run something as it, an administrator.",
        ),
    ],
)
def test_administrators_are_taken_over_without_being_let_in(company, may, says):
    company.role("admin", may=[EVERYTHING])
    company.user("root2", EVERYTHING)
    company.role("deploy", may=may)
    assert reasons(company)["deploy"] == says


def test_what_two_policies_of_one_holder_allow_adds_up(company):
    company.role("admin", may=[EVERYTHING])
    deploy = company.role("deploy", may=[allow("iam:PassRole")])
    assert reasons(company) == {}
    company.holds(deploy, company.policy("runs", allow("ec2:RunInstances")))
    assert "deploy" in reasons(company)


RUNS = allow(["iam:PassRole", "lambda:CreateFunction", "lambda:InvokeFunction"])
RUN_AS_ADMIN = "Can hand the role admin to lambda.amazonaws.com and run something as it, an administrator."


@pytest.fixture
def run_as_admin(company) -> Company:
    company.role("admin", trust({"Service": "lambda.amazonaws.com"}), may=[EVERYTHING])
    return company


def test_what_another_policy_denies_cannot_be_made_to_run(run_as_admin):
    company = run_as_admin
    deny = {"Effect": "Deny", "Action": "lambda:*", "Resource": "*"}
    deploy, may_be = company.role("deploy", may=[RUNS]), company.role("may_be", may=[RUNS])
    conditional = deny | {"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "false"}}}
    company.holds(deploy, company.policy("deny", deny))
    company.holds(may_be, company.policy("without MFA", conditional))
    engineers = company.group("Engineers", company.user("kept", RUNS))
    company.user("free", RUNS)
    company.holds(engineers.group, company.policy("for engineers", deny))
    assert reasons(company) == {"may_be": RUN_AS_ADMIN, "free": RUN_AS_ADMIN}


def test_what_a_boundary_leaves_out_cannot_be_made_to_run(run_as_admin):
    company = run_as_admin
    company.policy("pass", allow(["iam:PassRole", "s3:*"]))
    company.policy("but", allow("*"), {"Effect": "Deny", "Action": "lambda:*", "Resource": "*"})
    company.policy("wide", allow(["iam:*", "lambda:*"]))
    for bound in ("pass", "but", "wide"):
        company.role(f"within {bound}", may=[RUNS], boundary=company.arn(bound, kind="policy"))
    assert reasons(company) == {"within wide": RUN_AS_ADMIN}


def test_a_boundary_that_cannot_be_read_is_a_condition(run_as_admin):
    company = run_as_admin
    odd = company.policy("odd", allow("s3:*"))
    company.role("deploy", may=[RUNS], boundary=company.arn("odd", kind="policy"))
    Entitlement.objects.filter(pk=odd.pk).update(documents=[{"name": "odd", "document": "{"}], privilege="unknown")
    assert reasons(company) == {"deploy": f"{RUN_AS_ADMIN} Only within a boundary that was not read."}


def test_a_permission_sets_own_boundary_leaves_out_what_can_be_made_to_run(run_as_admin):
    company = run_as_admin
    for name, bounds in [("Kept", ["iam:PassRole", "s3:*"]), ("Free", ["iam:*", "lambda:*"])]:
        deploy = company.permission_set(name, RUNS)
        deploy.attributes = {"boundary": {"name": "bound", "document": policy(allow(bounds))}}
        deploy.save()
        company.holds(company.person(f"holder of {name}"), deploy)
    assert reasons(company) == {"Free": RUN_AS_ADMIN}


def test_a_boundary_keeps_an_administrator_from_being_one(company):
    company.role("admin", trust(company.root()), may=[EVERYTHING], boundary=company.arn("bound", kind="policy"))
    company.role("deploy", may=[allow("sts:AssumeRole")])
    company.policy("bound", allow("s3:Get*"))
    assert reasons(company) == {}
    weighed = Trust.objects.get(principal__name="admin")
    assert (weighed.privilege, weighed.privilege_reason) == ("read", "Within its boundary: Can read in s3.")


def test_a_boundary_that_was_not_read_bounds_nothing(company):
    company.role("admin", trust(company.root()), may=[EVERYTHING], boundary=company.arn("gone", kind="policy"))
    company.role("deploy", may=[allow("sts:AssumeRole")])
    assert set(reasons(company)) == {"deploy"}
    assert Trust.objects.get(principal__name="admin").privilege_reason.startswith("Its boundary was not read: ")


def weighed(company: Company) -> dict[str, tuple[str, str]]:
    tracing.trace(company.connection)
    rows = Trust.objects.select_related("principal")
    return {row.principal.name: (row.privilege, row.privilege_reason) for row in rows}


def test_policies_of_one_holder_are_weighed_together(company):
    split = company.role("split", may=[allow("iam:PassRole")])
    company.holds(split, company.policy("run", allow(["lambda:CreateFunction", "lambda:InvokeFunction"])))
    denied = company.role("denied", may=[EVERYTHING])
    company.holds(denied, company.policy("nothing", {"Effect": "Deny", "Action": "*", "Resource": "*"}))
    company.role("alone", may=[allow("s3:GetObject")])
    company.role("empty")
    found = weighed(company)
    assert found["split"][0] == "privileged"
    assert found["denied"] == ("none", "No policy allows anything.")
    assert found["alone"][0] == "read"
    assert found["empty"] == ("none", "No policy allows anything.")
    assert {*Trust.objects.filter(can_escalate=True).values_list("principal__name", flat=True)} == {"split"}


def test_policies_of_a_users_groups_are_weighed_with_its_own(company):
    user = company.user("ci", allow("iam:PassRole"))
    membership = company.group("ops", user)
    company.holds(membership.group, company.policy("run", allow(["lambda:CreateFunction", "lambda:InvokeFunction"])))
    assert weighed(company)["ci"][0] == "privileged"


def test_what_was_weighed_together_says_which_statement_of_which_policy_causes_it(company):
    passing = allow("iam:PassRole", Sid="Hands")
    split = company.role("split")
    company.holds(split, company.policy("runs", allow(["lambda:CreateFunction", "lambda:InvokeFunction"])))
    company.holds(split, company.policy("hands", passing))
    bound = company.policy("bound", allow("s3:Get*")).attributes["policy_arn"]
    company.role("bounded", may=[EVERYTHING], boundary=bound)
    company.role("nothing", boundary=bound)
    company.role("alone", may=[EVERYTHING])
    tracing.trace(company.connection)
    found = dict(Trust.objects.values_list("principal__name", "privilege_statement"))
    assert found == {
        "split": {"policy": "hands", "statement": passing},
        "bounded": {"policy": "bounded-policy", "statement": EVERYTHING},
        "nothing": None,
        "alone": None,  # its one policy says it
    }
    assert Trust.objects.filter(privilege_statement__isnull=True).count() == 2  # NULL, and not JSON's null
    split.assignments.filter(entitlement__name="hands").delete()
    tracing.trace(company.connection)
    assert Trust.objects.get(principal=split).privilege_statement is None


def test_what_was_weighed_before_statements_were_kept_gets_its_own(company):
    split = company.role("split", may=[allow("iam:PassRole")])
    company.holds(split, company.policy("runs", allow("lambda:*")))
    tracing.trace(company.connection)
    before = hashlib.md5(b"runs as made split-policy as made within f", usedforsecurity=False).hexdigest()
    Trust.objects.filter(principal=split).update(holds=before, weighed=before, privilege_statement=None)
    tracing.trace(company.connection)
    assert Trust.objects.get(principal=split).privilege_statement["policy"] == "split-policy"


def test_only_who_holds_something_else_is_weighed_again(company, monkeypatch):
    asked = []
    real = tracing.privilege_of
    monkeypatch.setattr(tracing, "privilege_of", lambda *args, **more: asked.append(1) or real(*args, **more))
    run = company.policy("run", allow("lambda:*"))
    bound = company.policy("bound", EVERYTHING)
    for n in range(3):
        company.holds(company.role(f"r{n}", may=[allow("iam:PassRole")]), run)
    company.role("bounded", may=[EVERYTHING], boundary=bound.attributes["policy_arn"])
    assert weighed(company)["r1"][0] == weighed(company)["r2"][0] == "privileged"
    assert len(asked) == 4
    Entitlement.objects.filter(pk=bound.pk).update(
        documents=[{"name": "bound", "document": policy(allow("s3:Get*"))}], digest="other"
    )
    assert weighed(company)["bounded"] == ("read", "Within its boundary: Can read in s3.")
    assert len(asked) == 5
    held = Principal.objects.get(name="r1").assignments.get(entitlement=run)
    held.period = type(held.period)(held.period.lower, timezone.now())
    held.save()
    assert weighed(company)["r1"][0] == "write"  # one policy is left, which was assessed by itself
    assert len(asked) == 5
    assert not Trust.objects.get(principal__name="r1").can_escalate


def test_a_circle_of_roles_ends(company):
    company.role("a", trust({"AWS": company.arn("b")}))
    company.role("b", trust({"AWS": company.arn("a")}))
    assert reasons(company) == {}
    company.role("admin", trust({"AWS": company.arn("a")}), may=[EVERYTHING])
    assert set(reasons(company)) == {"a", "b"}


def test_a_way_under_conditions_says_so(company):
    mfa = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    company.role("admin", trust({"AWS": company.arn("deploy")}, Condition=mfa), may=[EVERYTHING])
    company.role("deploy", trust({"AWS": company.arn("first")}))
    company.role("first")
    assert reasons(company) == {
        "deploy": "Can assume the role admin, an administrator. Only with MFA.",
        "first": "Can assume the role deploy, which can assume the role admin. Only with MFA.",
    }
    assert Escalation.objects.filter(is_conditional=True).count() == 2


def test_the_surest_way_to_take_somebody_over_is_told(company):
    company.user("root2", EVERYTHING)
    root2, mfa = company.arn("root2", kind="user"), {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    company.role(
        "deploy", may=[allow("iam:CreateAccessKey", root2, Condition=mfa), allow("iam:CreateLoginProfile", root2)]
    )
    assert reasons(company) == {"deploy": "Can make a password for the user root2, an administrator."}
    assert not Escalation.objects.get().is_conditional


def test_what_is_closed_goes_and_what_stays_keeps_its_date(company):
    admin = company.role("admin", trust(company.root()), may=[EVERYTHING])
    company.role("one", may=[allow("sts:AssumeRole")])
    other = company.role("other", may=[allow("sts:AssumeRole")])
    assert set(reasons(company)) == {"one", "other"}
    seen = Escalation.objects.get(principal__name="one").first_seen_at
    now = timezone.now()
    row = other.assignments.get()
    row.period = type(row.period)(row.period.lower, now)
    row.save()
    assert set(reasons(company)) == {"one"}
    assert Escalation.objects.get().first_seen_at == seen
    admin.attributes["trust"]["Statement"][0]["Principal"] = {"Service": "ec2.amazonaws.com"}
    admin.digest = "changed"
    admin.save()
    assert reasons(company) == {}


def test_an_expired_policy_leads_nowhere(company):
    company.role("admin", trust(company.root()), may=[EVERYTHING])
    past = {"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}
    company.role("deploy", may=[allow("sts:AssumeRole", Condition=past)])
    assert reasons(company) == {}


def test_only_what_changed_is_derived_again(company):
    company.role("admin", trust(company.root()), may=[EVERYTHING])
    company.role("deploy", may=[allow("sts:AssumeRole")])
    tracing.trace(company.connection)
    with CaptureQueriesContext(database) as captured:
        tracing.trace(company.connection)
    written = [one["sql"] for one in captured if one["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    written = [sql for sql in written if "inventory_tracing" not in sql and "inventory_knock k" not in sql]
    assert not [sql for sql in written if not sql.lstrip().startswith("WITH")]
    assert Knock.objects.count() == 2


def test_tracing_costs_the_same_queries_for_one_role_as_for_twenty(company):
    def queries() -> int:
        with CaptureQueriesContext(database) as captured:
            tracing.trace(company.connection)
        return len(captured)

    company.role("admin", trust(company.root()), may=[EVERYTHING])
    company.role("r0", may=[allow("sts:AssumeRole")])
    tracing.trace(company.connection)
    few = queries()
    for n in range(1, 20):
        company.role(f"r{n}", may=[allow("sts:AssumeRole")])
    tracing.trace(company.connection)
    assert queries() == few
    assert Escalation.objects.count() == 20


def test_a_bound_that_is_reached_is_noted(company, monkeypatch):
    monkeypatch.setattr(escalations, "MOST_COMPARED", 3)
    company.role("admin", trust(company.root(), Condition={"Bool": {"aws:x": "1"}}), may=[EVERYTHING])
    for n in range(6):
        company.role(f"r{n}", may=[allow("sts:AssumeRole")])
    notes = tracing.trace(company.connection).notes
    assert notes[0] == "prod has too many holders and roles to compare all; about the rest nothing new is known."


def test_what_cannot_be_read_is_counted_and_stops_nothing(company):
    company.role("admin", trust(company.root()), may=[EVERYTHING])
    company.role("deploy", may=[allow("sts:AssumeRole")])
    broken = company.role("broken")
    Principal.objects.filter(pk=broken.pk).update(attributes={"trust": "no JSON"}, digest="other")
    policy = company.policy("odd", allow("s3:*"))
    Entitlement.objects.filter(pk=policy.pk).update(documents=[{"name": "odd", "document": "{"}], digest="other")
    assert set(reasons(company)) == {"deploy"}
    assert Tracing.objects.get().notes == [
        "1 policies cannot be read, so what they allow is unknown.",
        "1 trust policies cannot be read, so whom they let in is unknown.",
    ]


def test_a_reading_that_ended_makes_it_due_and_an_hour_too(company):
    now = timezone.now()
    assert not tracing.is_due(company.connection, now)  # nothing was read yet
    run = make.SyncRunFactory(connection=company.connection)
    assert tracing.is_due(company.connection, now)
    assert tracing.trace(company.connection).run == run
    assert not tracing.is_due(company.connection, timezone.now())
    assert tracing.is_due(company.connection, timezone.now() + timedelta(hours=2))
    make.SyncRunFactory(connection=company.connection, state="running", finished_at=None)
    assert not tracing.is_due(company.connection, timezone.now())
    make.SyncRunFactory(connection=company.connection, state="incomplete")
    assert tracing.is_due(company.connection, timezone.now())


def test_the_clock_has_it_done_once_for_each_reading(company, monkeypatch):
    asked = []
    monkeypatch.setattr(tasks.sync_ways, "apply_async", lambda args, expires: asked.append(args))
    make.SyncRunFactory(connection=company.connection)
    periodic.trace_due()
    assert asked == [(company.connection.pk,)]
    tasks.sync_ways(*asked[0])
    assert Tracing.objects.get().connection == company.connection
    periodic.trace_due()
    assert len(asked) == 1
