"""What is looked for, as SQL over the inventory: each statement gives the findings of one connection.

A statement's columns are those of `COLUMNS`, and its parameters `connection`, `now`, `key_age` and `unused` (intervals),
and `concerns` (what `CONCERNS` says, as JSON).
What people wrote or AWS shows is data in these statements, never part of them. Unknown is not unused: a missing last use
is evidence only of a role or user that is older than `unused` and whose account was just read whole, since AWS then says
that there was none (IAM user guide, "Refine permissions using last accessed information": it looks back 400 days). The
table `insights_latest` says of each account whether its latest reading was complete.
"""

from __future__ import annotations

from apps.insights.models import Finding, Severity

COLUMNS = (
    *("kind", "key", "severity", "resource_id", "identity_id", "entitlement_id", "credential_id", "assignment_id"),
    *("owner_id", "name", "what", "evidence"),
)

CRITICAL, HIGH, MEDIUM, LOW = Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM, Severity.LOW

# A concern of `inventory.Concern` → what kind of finding, and how bad. NO_MFA and PASSWORD_AND_KEY have statements of
# their own, since they are also wrong with the login of a person.
CONCERNS = {
    "anybody": (Finding.Kind.OPEN_TRUST, CRITICAL),
    "no_external_id": (Finding.Kind.OPEN_TRUST, HIGH),
    "open_subject": (Finding.Kind.OPEN_TRUST, HIGH),
    "app_users": (Finding.Kind.OPEN_TRUST, MEDIUM),
    "guests": (Finding.Kind.OPEN_TRUST, MEDIUM),
    "wide_subject": (Finding.Kind.OPEN_TRUST, HIGH),
    "no_anchor": (Finding.Kind.OPEN_TRUST, HIGH),
    "no_certificate": (Finding.Kind.OPEN_TRUST, HIGH),
    "no_audience": (Finding.Kind.OPEN_TRUST, MEDIUM),
    "other_audience": (Finding.Kind.OPEN_TRUST, MEDIUM),
    "no_pod": (Finding.Kind.OPEN_TRUST, MEDIUM),
    "no_source": (Finding.Kind.OPEN_TRUST, LOW),
    "deleted": (Finding.Kind.ORPHAN, LOW),
}


def _here(column: str) -> str:
    """The person in this column, unless they left."""
    return f"(SELECT o.id FROM inventory_identity o WHERE o.id = {column} AND o.ended_at IS NULL)"


# Who answers for a machine `i`, as `IdentityQuerySet.unowned` has it; and who is asked about what is in an account `r`.
_OWNER = f"COALESCE({_here('i.owner_id')}, {_here('i.successor_id')})"
_ANSWERS = f"COALESCE({_OWNER}, {_here('r.owner_id')})"

# Which principal it is: whoever carries its name later is somebody else.
_WHOSE = "'unique id', p.attributes ->> 'unique_id'"

# Many inline policies have the same name: then it is also whose. Not in the sentence, which is what was accepted.
_POLICY = "e.name || COALESCE(' of ' || substring(e.attributes ->> 'holder_arn' FROM '[^/]+$'), '')"

_HOLDS_PRIVILEGED = """EXISTS (
    SELECT FROM inventory_assignment a JOIN inventory_entitlement e ON e.id = a.entitlement_id
    WHERE a.principal_id = p.id AND upper_inf(a.period) AND e.privilege IN ('admin', 'privileged', 'unknown'))"""


# What a role or user `t` can do with all of its policies, where that was weighed; of groups and people it is not.
_LEFT = """LEFT JOIN inventory_trust t ON t.principal_id = p.id AND t.holds <> '' AND t.holds = t.weighed
            AND t.privilege NOT IN ('admin', 'unknown')"""


def _is_unused(name: str) -> str:
    """Condition: this role or user was not used for so long, or never while AWS could have seen it."""
    return f"""({name}.last_used_at < %(now)s - %(unused)s OR (
        {name}.last_used_at IS NULL AND {name}.created_at < %(now)s - %(unused)s
        AND NOT {name}.attributes @> '{{"is_portal": true}}'::jsonb
        AND EXISTS (SELECT FROM insights_latest l WHERE l.resource_id = {name}.resource_id AND l.is_complete)
        AND NOT EXISTS (
            SELECT FROM inventory_actor s WHERE s.principal_id = {name}.id AND s.last_at > %(now)s - %(unused)s)))"""


def _credential(kind: Finding.Kind, severity: str, what: str, where: str) -> str:
    """A statement about credentials `c` of principals `p`."""
    return f"""
        SELECT '{kind}', 'credential:' || c.id, {severity}, p.resource_id, p.identity_id, NULL::bigint, c.id,
            NULL::bigint, {_ANSWERS}, p.name, {what},
            jsonb_build_object('created', c.created_at, 'last used', c.last_used_at, 'id', c.external_id, {_WHOSE})
        FROM inventory_credential c
        JOIN inventory_principal p ON p.id = c.principal_id AND p.ended_at IS NULL
        LEFT JOIN inventory_identity i ON i.id = p.identity_id
        LEFT JOIN inventory_resource r ON r.id = p.resource_id
        WHERE p.connection_id = %(connection)s AND c.ended_at IS NULL AND c.is_active AND {where}"""


DETECTORS = (
    _credential(
        Finding.Kind.ROOT_KEY,
        str(CRITICAL.value),
        "'The root user of this account has an active access key. It can do everything, and no policy limits it.'",
        "c.kind = 'root_key'",
    ),
    _credential(
        Finding.Kind.NO_MFA,
        f"CASE WHEN p.kind = 'iam_root' THEN {CRITICAL} ELSE {HIGH} END",
        "format('%%s can sign in to the console with a password alone.', p.name)",
        # AWS does not say whether a root user has a password: only one that was used is known to have one.
        """c.kind = 'password' AND (p.kind <> 'iam_root' OR c.last_used_at IS NOT NULL) AND NOT EXISTS (
            SELECT FROM inventory_credential m
            WHERE m.principal_id = p.id AND m.kind = 'mfa' AND m.is_active AND m.ended_at IS NULL)""",
    ),
    _credential(
        Finding.Kind.STALE_KEY,
        f"CASE WHEN c.created_at < %(now)s - 4 * %(key_age)s THEN {HIGH} ELSE {MEDIUM} END",
        """CASE WHEN c.last_used_at < %(now)s - %(unused)s
            THEN format('An access key of %%s was last used on %%s, and still works.', p.name, c.last_used_at::date)
            ELSE format('An access key of %%s has not been changed since %%s.', p.name, c.created_at::date) END""",
        "c.kind = 'access_key' AND (c.created_at < %(now)s - %(key_age)s OR c.last_used_at < %(now)s - %(unused)s)",
    ),
    f"""
        SELECT '{Finding.Kind.MIXED_USE}', 'principal:' || p.id, {MEDIUM}, p.resource_id, p.identity_id, NULL::bigint,
            NULL::bigint, NULL::bigint, {_ANSWERS}, p.name,
            'One login for a person and a program: nobody can tell who acted.',
            jsonb_build_object('password last used', password.last_used_at, 'active access keys', keys.number,
                'key last used', keys.last_used_at, {_WHOSE})
        FROM inventory_credential password
        JOIN inventory_principal p ON p.id = password.principal_id AND p.kind = 'iam_user' AND p.ended_at IS NULL
        CROSS JOIN LATERAL (
            SELECT count(*) AS number, max(k.last_used_at) AS last_used_at FROM inventory_credential k
            WHERE k.principal_id = p.id AND k.kind = 'access_key' AND k.is_active AND k.ended_at IS NULL) keys
        LEFT JOIN inventory_identity i ON i.id = p.identity_id
        LEFT JOIN inventory_resource r ON r.id = p.resource_id
        WHERE p.connection_id = %(connection)s AND NOT p.is_reserved AND password.kind = 'password'
            AND password.is_active AND password.ended_at IS NULL AND keys.number > 0""",
    f"""
        SELECT '{Finding.Kind.STANDING_ADMIN}', 'assignment:' || a.id,
            CASE WHEN t.privilege IS NULL THEN {HIGH} WHEN t.privilege = 'privileged' THEN {MEDIUM} ELSE {LOW} END,
            COALESCE(e.resource_id, p.resource_id), p.identity_id, e.id, NULL::bigint, a.id,
            COALESCE({_here("e.owner_id")}, {_ANSWERS}), p.name,
            format('%%s holds %%s%%s all the time.%%s', p.name, e.name, ' in ' || r.name,
                CASE WHEN t.privilege IS NOT NULL THEN ' Its boundary or another policy takes most of that away.' END),
            jsonb_strip_nulls(jsonb_build_object('why it is admin', e.privilege_reason, 'since', lower(a.period),
                'what is left of it', t.privilege_reason, 'policy of what is left', t.privilege_statement ->> 'policy',
                'statement of what is left', t.privilege_statement ->> 'statement'))
        FROM inventory_assignment a
        JOIN inventory_entitlement e ON e.id = a.entitlement_id
        JOIN inventory_principal p ON p.id = a.principal_id
        {_LEFT}
        LEFT JOIN inventory_identity i ON i.id = p.identity_id
        LEFT JOIN inventory_resource r ON r.id = COALESCE(e.resource_id, p.resource_id)
        WHERE e.connection_id = %(connection)s AND e.privilege = 'admin' AND e.group_id IS NULL AND NOT e.is_ours
            AND upper_inf(a.period) AND a.is_standing AND NOT p.is_reserved
            AND NOT p.attributes @> '{{"is_portal": true}}'::jsonb""",
    f"""
        SELECT '{Finding.Kind.ESCALATION}', 'entitlement:' || e.id, {HIGH}, e.resource_id, NULL::bigint, e.id,
            NULL::bigint, NULL::bigint, COALESCE({_here("e.owner_id")}, {_here("r.owner_id")}), {_POLICY},
            format('%%s is not an administrator''s, but lets its holders become one.', e.name),
            jsonb_strip_nulls(jsonb_build_object('how', e.privilege_reason, 'statement', e.privilege_statement::text))
        FROM inventory_entitlement e
        LEFT JOIN inventory_resource r ON r.id = e.resource_id
        WHERE e.connection_id = %(connection)s AND e.ended_at IS NULL AND e.can_escalate AND e.privilege <> 'admin'
            AND e.group_id IS NULL AND NOT e.is_ours AND EXISTS (
                SELECT FROM inventory_assignment a JOIN inventory_principal p ON p.id = a.principal_id
                {_LEFT}
                WHERE a.entitlement_id = e.id AND upper_inf(a.period) AND NOT p.is_reserved
                    AND (t.principal_id IS NULL OR t.can_escalate))""",
    f"""
        SELECT '{Finding.Kind.ESCALATION}', 'together:' || p.id, {HIGH}, p.resource_id, p.identity_id, NULL::bigint,
            NULL::bigint, NULL::bigint, {_ANSWERS}, p.name,
            format('No single policy of %%s does, but together they let it become an administrator.', p.name),
            jsonb_strip_nulls(jsonb_build_object('how', t.privilege_reason, 'policy', t.privilege_statement ->> 'policy',
                'statement', t.privilege_statement ->> 'statement', {_WHOSE}))
        FROM inventory_trust t
        JOIN inventory_principal p ON p.id = t.principal_id AND p.ended_at IS NULL
        LEFT JOIN inventory_identity i ON i.id = p.identity_id
        LEFT JOIN inventory_resource r ON r.id = p.resource_id
        WHERE p.connection_id = %(connection)s AND NOT p.is_reserved AND t.holds <> '' AND t.holds = t.weighed
            AND t.can_escalate
            AND NOT EXISTS (
                SELECT FROM inventory_assignment a JOIN inventory_entitlement e ON e.id = a.entitlement_id
                WHERE a.principal_id = p.id AND upper_inf(a.period)
                    AND (e.privilege = 'admin' OR (e.can_escalate AND e.group_id IS NULL)))
            AND NOT EXISTS (
                SELECT FROM inventory_assignment m JOIN inventory_entitlement g ON g.id = m.entitlement_id
                JOIN inventory_assignment a ON a.principal_id = g.group_id AND upper_inf(a.period)
                JOIN inventory_entitlement e ON e.id = a.entitlement_id
                WHERE m.principal_id = p.id AND upper_inf(m.period) AND (e.privilege = 'admin' OR e.can_escalate))""",
    f"""
        SELECT '{Finding.Kind.ESCALATION}',
            'way:' || COALESCE('principal:' || w.principal_id, 'entitlement:' || w.entitlement_id),
            CASE WHEN w.is_conditional THEN {MEDIUM} ELSE {HIGH} END, w.resource_id, p.identity_id, w.entitlement_id,
            NULL::bigint, NULL::bigint, COALESCE({_here("e.owner_id")}, {_ANSWERS}), COALESCE(p.name, e.name), w.reason,
            jsonb_build_object('steps', w.steps, 'becomes first', t.name, 'statement', w.statement::text, {_WHOSE})
        FROM inventory_escalation w
        JOIN inventory_principal t ON t.id = w.target_id
        LEFT JOIN inventory_principal p ON p.id = w.principal_id
        LEFT JOIN inventory_identity i ON i.id = p.identity_id
        LEFT JOIN inventory_entitlement e ON e.id = w.entitlement_id
        LEFT JOIN inventory_resource r ON r.id = w.resource_id
        WHERE w.connection_id = %(connection)s""",
    # One finding for all that is wrong in the same way, and it names each: what was accepted is none but these.
    f"""
        SELECT c.kind, 'identity:' || i.id || ':' || c.word, c.severity, p.resource_id, i.id, NULL::bigint, NULL::bigint,
            NULL::bigint, {_ANSWERS}, i.name,
            door.sentences[1] || CASE WHEN cardinality(door.sentences) > 1
                THEN format(' And %%s more like it.', cardinality(door.sentences) - 1) ELSE '' END,
            jsonb_build_object('what is wrong', c.label, 'seen in', COALESCE(door.statements, ''))
                || CASE WHEN cardinality(door.sentences) > 1
                    THEN jsonb_build_object('and also', array_to_string(door.sentences[2:], ' ')) ELSE '{{}}' END
        FROM inventory_identity i
        CROSS JOIN LATERAL (
            SELECT concern.word, array_agg(DISTINCT sign->>'evidence') AS sentences,
                string_agg(DISTINCT NULLIF(sign->>'statement', ''), ', ') AS statements
            FROM jsonb_array_elements(i.signs) sign
            CROSS JOIN LATERAL jsonb_array_elements_text(sign->'concerns') concern(word)
            GROUP BY concern.word) door
        JOIN jsonb_to_recordset(%(concerns)s) c(word text, kind text, severity int, label text) ON c.word = door.word
        CROSS JOIN LATERAL (
            SELECT o.resource_id FROM inventory_principal o
            WHERE o.identity_id = i.id AND o.ended_at IS NULL AND NOT o.is_reserved ORDER BY o.id LIMIT 1) p
        LEFT JOIN inventory_resource r ON r.id = p.resource_id
        WHERE i.connection_id = %(connection)s AND i.ended_at IS NULL AND i.signs @? '$[*].concerns[*]'""",
    f"""
        SELECT DISTINCT ON (i.id) '{Finding.Kind.UNOWNED}', 'identity:' || i.id,
            CASE WHEN {_HOLDS_PRIVILEGED} THEN {HIGH} ELSE {MEDIUM} END, p.resource_id, i.id, NULL::bigint,
            NULL::bigint, NULL::bigint, {_here("r.owner_id")}, i.name, format('Nobody answers for %%s.', i.name),
            jsonb_build_object('what it is', i.evidence)
        FROM inventory_identity i
        JOIN inventory_principal p ON p.identity_id = i.id AND p.ended_at IS NULL
        LEFT JOIN inventory_resource r ON r.id = p.resource_id
        WHERE i.connection_id = %(connection)s AND i.kind = 'machine' AND i.ended_at IS NULL AND NOT p.is_reserved
            AND {_OWNER} IS NULL
        ORDER BY i.id, p.id""",
    f"""
        SELECT '{Finding.Kind.UNUSED}', 'principal:' || p.id,
            CASE WHEN {_HOLDS_PRIVILEGED} THEN {HIGH} ELSE {MEDIUM} END, p.resource_id, i.id, NULL::bigint, NULL::bigint,
            NULL::bigint, {_ANSWERS}, p.name,
            CASE WHEN p.last_used_at IS NULL
                THEN format('%%s was never used, as far as AWS keeps track, and keeps its access.', p.name)
                ELSE format('%%s was last used on %%s, and keeps its access.', p.name, p.last_used_at::date) END,
            jsonb_build_object('last used', p.last_used_at, 'made', p.created_at)
        FROM inventory_principal p
        LEFT JOIN inventory_identity i ON i.id = p.identity_id
        LEFT JOIN inventory_resource r ON r.id = p.resource_id
        WHERE p.connection_id = %(connection)s AND p.kind IN ('iam_role', 'iam_user') AND p.ended_at IS NULL
            AND NOT p.is_reserved AND {_is_unused("p")} AND EXISTS (
                SELECT FROM inventory_assignment a WHERE a.principal_id = p.id AND upper_inf(a.period))""",
    # Whoever holds a permission set acts as one role in its account: AWS says when any of them last did, not which.
    f"""
        SELECT '{Finding.Kind.UNUSED}', 'entitlement:' || e.id,
            CASE WHEN e.privilege IN ('admin', 'privileged', 'unknown') THEN {HIGH} ELSE {MEDIUM} END, e.resource_id,
            NULL::bigint, e.id, NULL::bigint, NULL::bigint, COALESCE({_here("e.owner_id")}, {_here("r.owner_id")}), e.name,
            format('%%s in %%s is held, and nobody %%s.', e.name, r.name, CASE WHEN p.last_used_at IS NULL
                THEN 'has used it, as far as AWS keeps track' ELSE 'has used it since ' || p.last_used_at::date END),
            jsonb_build_object('last used', p.last_used_at, 'role', p.name, 'made', p.created_at)
        FROM inventory_entitlement e
        JOIN inventory_resource r ON r.id = e.resource_id
        JOIN inventory_principal p ON p.resource_id = e.resource_id AND p.is_reserved AND p.ended_at IS NULL
            AND left(p.name, -17) = 'AWSReservedSSO_' || e.name AND p.name ~ '_[0-9a-f]{{16}}$'
        WHERE e.connection_id = %(connection)s AND e.kind = 'permission_set' AND e.ended_at IS NULL AND NOT e.is_ours
            AND {_is_unused("p")} AND EXISTS (
                SELECT FROM inventory_assignment a
                WHERE a.entitlement_id = e.id AND upper_inf(a.period) AND a.is_standing)""",
    f"""
        SELECT '{Finding.Kind.OUTSIDE}', 'drift:' || d.id, CASE WHEN d.is_critical THEN {CRITICAL} ELSE {HIGH} END,
            COALESCE(e.resource_id, p.resource_id), p.identity_id, e.id, NULL::bigint, NULL::bigint,
            COALESCE({_here("e.owner_id")}, {_ANSWERS}), COALESCE(p.name, e.name, 'AWS'), d.what,
            jsonb_build_object('difference', d.id, 'kind', d.kind)
        FROM grants_drift d
        LEFT JOIN inventory_principal p ON p.id = d.principal_id
        LEFT JOIN inventory_entitlement e ON e.id = d.entitlement_id
        LEFT JOIN inventory_identity i ON i.id = p.identity_id
        LEFT JOIN inventory_resource r ON r.id = COALESCE(e.resource_id, p.resource_id)
        WHERE d.connection_id = %(connection)s AND d.closed_at IS NULL
            AND d.kind IN ('rogue', 'resurrected', 'unintended')""",
)

# What these rest on is no scan's fact (a person's word, a comparison of its own that was complete): not shown means over.
CLOSE_AT_ONCE = (Finding.Kind.UNOWNED, Finding.Kind.OUTSIDE)

# Of these the sentence and the evidence are what was accepted; of the others they move on by themselves (a last use).
OF_ONE_FACT = (Finding.Kind.OPEN_TRUST, Finding.Kind.ORPHAN, Finding.Kind.ESCALATION)

# What a person does about it.
ADVICE = {
    Finding.Kind.ROOT_KEY: "Delete the key as the root user. Nothing that runs should need it.",
    Finding.Kind.NO_MFA: "Take the password away, or have the user enrol an MFA device.",
    Finding.Kind.STALE_KEY: "Give the program a role in place of the key, or change the key and delete this one.",
    Finding.Kind.STANDING_ADMIN: "Offer it for a time instead, and remove what stands in the next review.",
    Finding.Kind.ESCALATION: "Take the permission out of the policy, limit its resources, or treat it as admin.",
    Finding.Kind.OPEN_TRUST: "Narrow the role's trust policy to who really uses it.",
    Finding.Kind.ORPHAN: "Delete the principal from the trust policy, or the role if nobody else uses it.",
    Finding.Kind.UNOWNED: "Name an owner on its page, or tag it in AWS.",
    Finding.Kind.UNUSED: "Ask its owner whether it can go; if nobody knows, take its access away first.",
    Finding.Kind.MIXED_USE: "Make a role for the program, and let the person sign in through Identity Center.",
    Finding.Kind.OUTSIDE: "Look at the difference: remove it, adopt it in a review, or offer it for a time.",
}
