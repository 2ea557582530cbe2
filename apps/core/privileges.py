"""What each process may do in the database: one row for each table, one column for each process. What is not written here
is not allowed, and a test fails for a table that is missing. `manage.py database_roles` makes the database say the same.

The rules in force are files that are shipped with the code, so no role can change them at all.
"""

from __future__ import annotations

from collections.abc import Mapping

ROLES = {
    "web": "gatehouse_web",
    "worker": "gatehouse_worker",  # the sync worker too
    "clock": "gatehouse_clock",  # sends wake-up calls, and has no business in the database
    "broker": "gatehouse_broker",
    "ender": "gatehouse_ender",
}

READ = "SELECT"
ADD = "SELECT, INSERT"
ALL = "SELECT, INSERT, UPDATE, DELETE"


def _may_set(*columns: str) -> str:
    """Read everything, write these columns of rows that are there."""
    return f"SELECT, UPDATE ({', '.join(columns)})"


# How a grant is narrowed; a trigger on the table allows the web process and the ender nothing else with them.
NARROW = _may_set(
    *("state", "end_reason", "end_note", "ended_by_id", "revoking_at", "next_try_at", "problem", "problem_count")
)
# How an administrator says whose login an IAM user is.
ANSWER = _may_set(
    *("decision", "person_id", "decided_by_id", "decided_at", "until", "reason", "unique_id"),
    *("asked_by_id", "asked_at", "note"),
)
# How two administrators say that a stop may go: a worker asks what they signed, and takes back what does not hold.
SAY_IT_MAY_GO = (
    *("lift_proposed_at", "lift_proposed_by_id", "lift_reason", "lift_proposal"),
    *("lift_asked_at", "lift_asked_by_id", "lift_consent"),
)
_FACT = {"web": READ, "worker": ALL, "broker": READ, "ender": READ}
_SIGN_IN = {"web": ALL}

Table = Mapping[str, str]

# Model → process → privileges.
TABLES: Mapping[str, Table] = {
    "audit.AuditEvent": {"web": ADD, "worker": ADD, "broker": ADD, "ender": ADD},
    # Who signs in. Nobody but the web process knows sessions and passwords.
    "sessions.Session": _SIGN_IN,
    "account.EmailAddress": {**_SIGN_IN, "worker": ADD},  # allauth notes an address when an invitation's link is made
    "account.EmailConfirmation": _SIGN_IN,
    "socialaccount.SocialApp": {"web": READ},  # empty: providers come from the environment
    "socialaccount.SocialToken": {},
    "socialaccount.SocialAccount": _SIGN_IN,
    "usersessions.UserSession": _SIGN_IN,
    "mfa.Authenticator": {"web": ALL, "worker": READ},
    "auth.Permission": {},
    "auth.Group": {},
    "auth.Group_permissions": {},
    "contenttypes.ContentType": {"web": READ, "worker": READ},
    "users.User": {
        "web": "SELECT, INSERT, UPDATE",
        "worker": _may_set("is_active"),  # shuts leavers out; a trigger keeps it from letting anybody in
        "broker": READ,
        "ender": READ,
    },
    "users.PortalRole": {"web": ALL, "worker": READ, "broker": READ, "ender": READ},
    "users.Passkey": {"web": READ, "worker": "SELECT, INSERT, UPDATE (ended_at)", "broker": READ, "ender": READ},
    # What AWS shows, which workers read; and beside it what people say about it.
    "inventory.Connection": {
        **_FACT,
        # Triggers say how one begins, and that what was baselined stays where it is.
        "web": _may_set(
            *("paused_at", "baselined_at", "baselined_by_id", "region", "options", "drop_percent"),
            *("write_proposed_at", "write_proposed_by_id", "write_approved_at", "write_approved_by_id"),
        )
        + ", INSERT",
    },
    "inventory.ConnectionTest": {"web": ADD, "worker": ALL},
    "inventory.ChangeFeed": {"web": READ, "worker": ALL},
    "inventory.ChangeMark": {"web": READ, "worker": ALL},
    "inventory.SyncRun": {**_FACT, "web": _may_set("confirmed_drops")},
    "inventory.ScopeScan": _FACT,
    "inventory.Resource": {
        **_FACT,
        "web": _may_set("owner_id", "owner_source", "environment", "environment_source"),
    },
    "inventory.Identity": {
        **_FACT,
        "web": _may_set(
            *("owner_id", "owner_source", "manager_id", "manager_source", "user_id", "user_source"),
            *("title", "department", "ended_at"),  # what people systems say
            *("successor_id", "successor_source", "purpose", "consumers"),
        ),
    },
    # What people say about machines and logins. Workers ask whose a login is, and carry the answer out.
    "inventory.Correction": {"web": ALL, "worker": f"{_may_set('identity_id')}, INSERT, DELETE"},  # it follows renames
    "inventory.Correlation": {
        "web": f"{ANSWER}, INSERT",
        "worker": ALL,
        "broker": READ,  # whether an administrator confirmed whose login it is
    },
    "inventory.Principal": {**_FACT, "web": _may_set("owner_id")},
    "inventory.Entitlement": {**_FACT, "web": "SELECT, INSERT, UPDATE (owner_id)"},  # a trigger says which may be added
    "inventory.Assignment": {**_FACT, "web": _may_set("is_standing")},
    "inventory.Credential": _FACT,
    # What people systems say about people: it holds against what AWS shows.
    "inventory.Departure": {"web": ALL, "worker": ALL},
    "inventory.Employment": {"web": ALL, "worker": ALL},
    "inventory.HrFile": {"web": "SELECT, INSERT, UPDATE (applied_at, applied_by_id, discarded_at)"},
    "scim.Source": {"web": ADD, "worker": READ},
    "scim.Token": {"web": "SELECT, INSERT, UPDATE (last_used_at, revoked_at, revoked_by_id)"},
    "scim.ScimUser": {"web": ALL, "worker": _may_set("identity_id", "identity_source", "kept_out_id")},
    "scim.ScimGroup": {"web": ALL},
    "scim.ScimMember": {"web": ALL},
    "inventory.Responsibility": _FACT,
    # Who can become whom, derived from trusts and policies.
    "inventory.Trust": _FACT,
    "inventory.Knock": _FACT,
    "inventory.Escalation": _FACT,
    "inventory.Tracing": _FACT,
    # What the audit trail says, which the sync worker reads.
    "inventory.TrailRun": {"web": READ, "worker": ALL},
    "inventory.TrailDay": {"web": READ, "worker": ALL},
    "inventory.TrailHour": {"worker": ALL},
    "inventory.Actor": {"web": READ, "worker": ALL},
    "inventory.Usage": {"web": READ, "worker": ALL},
    "inventory.Creation": {"web": READ, "worker": ALL},
    "inventory.AccessReport": {"web": READ, "worker": ALL},
    "inventory.LastAccess": {"web": READ, "worker": ALL},
    # What people ask and answer.
    "access.Offer": {"web": "SELECT, INSERT, UPDATE", "worker": READ},
    "access.AccessRequest": {"web": "SELECT, INSERT, UPDATE", "worker": "SELECT, UPDATE (state, decided_at)"},
    "access.Approver": {"web": ADD, "worker": ADD},  # whoever stands in for an approver who left
    "access.Approval": {"web": ADD, "worker": READ},
    # Workers ask new managers about movers, and pass on what waited for somebody who left. A trigger keeps them from
    # deciding anything, and sign-offs are not theirs to write.
    "reviews.Campaign": {"web": ALL, "worker": "SELECT, INSERT, UPDATE"},
    "reviews.ReviewItem": {
        "web": "SELECT, INSERT, UPDATE",
        "worker": _may_set(
            *("grant_id", "problem", "reviewer_id", "rule", "reviewer_rule"),
            *("choice", "reason", "decided_by_id", "decided_at", "is_bulk", "batch"),
        )
        + ", INSERT",
    },
    "reviews.Decision": {"web": ADD, "worker": ADD},
    "reviews.Placement": {"web": READ, "worker": ALL},
    "reviews.Move": {"web": READ, "worker": ALL},
    "reviews.SignOff": {"web": ADD, "worker": READ},
    "evidence.Export": {"web": ADD},
    "evidence.EvidencePack": {"web": ADD},
    # What does not look right: workers look, people say what may stay and what is done.
    "insights.Inspection": {"web": READ, "worker": ADD},
    "insights.Finding": {
        "web": _may_set(
            *("accepted_until", "accepted_by_id", "accepted_reason"),
            *("resolved_at", "resolved_by_id", "resolved_reason"),
        ),
        "worker": "SELECT, INSERT, UPDATE",
    },
    # What is opened, on what authority. Workers make no authority: there is no INSERT for them on warrants.
    "grants.Grant": {
        "web": f"{NARROW}, INSERT",
        "worker": "SELECT, INSERT, UPDATE",
        "broker": READ,
        "ender": NARROW,
    },
    "grants.Warrant": {"web": ADD, "worker": READ, "broker": READ, "ender": READ},
    "grants.Extension": {
        "web": ADD,
        "worker": _may_set("applied_at", "refused_at", "problem"),
        "broker": READ,
        "ender": READ,
    },
    "grants.Minting": {"web": READ, "worker": READ, "broker": ADD, "ender": READ},
    "grants.TracedSession": {"web": READ, "worker": ADD},
    "grants.OutsideChange": {"web": READ, "worker": "SELECT, INSERT, DELETE"},
    "grants.Activity": {"web": READ, "worker": "SELECT, INSERT, UPDATE"},
    # Stops narrow. Differences are what comparisons found; people say what of it may stay for a time.
    "grants.Stop": {
        "web": f"{_may_set(*SAY_IT_MAY_GO)}, INSERT",
        # On two signatures. The shell in a worker's environment orders one while the web is down.
        "worker": f"{_may_set(*SAY_IT_MAY_GO, 'lift_problem', 'lifted_at', 'lifted_by_id')}, INSERT",
        "broker": READ,
        "ender": READ,
    },
    "grants.StopWrite": {
        "web": f"{_may_set('next_try_at', 'problem', 'problem_count')}, INSERT",
        "worker": "SELECT, INSERT, UPDATE",
        "broker": READ,
        "ender": READ,
    },
    "grants.Reconciliation": {
        **_FACT,
        "web": _may_set("state", "proposed_at", "proposed_by_id", "released_at", "released_by_id"),
    },
    "grants.Drift": {
        **_FACT,
        "web": _may_set(
            *("decided_at", "removal_id", "repaired_at", "problem", "next_try_at", "held_in_id"),
            *("accepted_until", "accepted_by_id", "accepted_reason"),
        ),
    },
    # Who left. Whoever learns of it says so; that so many really did, two people say on a page.
    "grants.Leaving": {"web": ADD, "worker": ALL, "broker": READ, "ender": READ},
    "grants.Exodus": {
        **_FACT,
        "web": _may_set("state", "proposed_at", "proposed_by_id", "released_at", "released_by_id"),
    },
    "grants.Home": {"web": READ, "worker": "SELECT, INSERT, UPDATE", "broker": READ, "ender": READ},
    # What people are told: the worker tells, they say what they have read.
    "notifications.Notification": {"web": _may_set("read_at"), "worker": ALL},
    "notifications.Delivery": {"web": READ, "worker": ALL},
    "notifications.Cursor": {"worker": "SELECT, INSERT, UPDATE"},
}
