"""What the database lets processes that may only narrow do with grants, whatever their code says."""

from __future__ import annotations

import pgtrigger

from apps.connectors import registry
from apps.core.privileges import ROLES

# What a new row may say. Everything else must be empty, columns that are yet to come included.
_SAID = (
    *("id", "connection_id", "identity_id", "principal_id", "entitlement_id", "assignment_id", "origin", "provisioner"),
    *("remover", "reference", "state", "reason", "ticket_ref", "duration", "requested_by_id", "created_at"),
    *("next_try_at", "task_owner_id", "due_at", "active_at"),
)
_REMOVED_BY_US = ", ".join(f"('{connection}', '{kind}')" for connection, kind in sorted(registry.REMOVERS))
_NARROWING = "'pending>cancelled', 'provisioning>revoking', 'active>revoking'"

only_narrows = pgtrigger.Trigger(
    name="only_narrows",
    when=pgtrigger.Before,
    operation=pgtrigger.Insert | pgtrigger.Update,
    declare=[("said", "text")],
    func=f"""
    IF current_user NOT IN ('{ROLES["web"]}', '{ROLES["ender"]}') THEN
        RETURN NEW;
    END IF;
    -- A time to come would keep workers from it, or tell AWS that it ends then.
    NEW.next_try_at = LEAST(NEW.next_try_at, now());
    IF TG_OP = 'INSERT' THEN
        SELECT string_agg(key, ', ') INTO said
        FROM jsonb_each(to_jsonb(NEW) - ARRAY[{", ".join(f"'{name}'" for name in _SAID)}])
        WHERE value NOT IN ('null', '""', '0', 'false', '[]', '{{}}');
        IF said IS NOT NULL THEN
            RAISE EXCEPTION 'A new grant does not say %.', said USING ERRCODE = 'insufficient_privilege';
        END IF;
        NEW.created_at = LEAST(NEW.created_at, now());
        IF NEW.due_at > now() + interval '90 days' THEN  -- until then nobody is told that it is still there
            NEW.due_at = now() + interval '90 days';
        END IF;
        IF NEW.origin = 'request' AND NEW.state = 'pending' AND NEW.active_at IS NULL THEN
            RETURN NEW;
        END IF;
        -- Who removes it is no free word either (`can_remove`): an owner's task may stay open for weeks.
        IF NEW.origin = 'found' AND NEW.state = 'active' AND NEW.provisioner = '' AND EXISTS (
            SELECT FROM inventory_assignment a
            JOIN inventory_connection c ON c.id = a.connection_id
            JOIN inventory_principal p ON p.id = a.principal_id
            JOIN inventory_entitlement e ON e.id = a.entitlement_id
            LEFT JOIN inventory_principal g ON g.id = e.group_id
            WHERE a.id = NEW.assignment_id AND a.connection_id = NEW.connection_id
                AND a.principal_id = NEW.principal_id AND a.entitlement_id = NEW.entitlement_id
                AND p.identity_id IS NOT DISTINCT FROM NEW.identity_id
                AND NEW.remover = CASE
                    WHEN p.is_reserved OR g.is_externally_owned OR (c.kind, e.kind) NOT IN ({_REMOVED_BY_US})
                    THEN 'owner' ELSE e.kind END
        ) THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'A grant begins as a request, or is found.' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF OLD.state || '>' || NEW.state NOT IN ({_NARROWING}) THEN
        RAISE EXCEPTION 'From % to % narrows nothing.', OLD.state, NEW.state USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NEW.state = 'revoking' THEN
        NEW.revoking_at = LEAST(NEW.revoking_at, now());
    END IF;
    NEW.problem_count = LEAST(NEW.problem_count, OLD.problem_count);
    RETURN NEW;
    """,  # noqa: S608  nothing of it comes from outside
)

# What was found is ended in the same transaction. One that stayed would explain for ever what it was made for: no
# comparison would call that strange, and nobody could take it away.
found_to_end = pgtrigger.Trigger(
    name="found_to_end",
    when=pgtrigger.After,
    operation=pgtrigger.Insert,
    timing=pgtrigger.Deferred,
    condition=pgtrigger.Q(new__origin="found"),
    func=f"""
    IF current_user = '{ROLES["web"]}' AND EXISTS (
        SELECT FROM grants_grant g WHERE g.id = NEW.id AND g.state = 'active'
    ) THEN
        RAISE EXCEPTION 'What is found ends.' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
    """,
)

# What a stop still has to be written into may be hurried. That it was written is a worker's word.
only_hurries = pgtrigger.Trigger(
    name="only_hurries",
    when=pgtrigger.Before,
    operation=pgtrigger.Insert | pgtrigger.Update,
    func=f"""
    IF current_user <> '{ROLES["web"]}' THEN
        RETURN NEW;
    END IF;
    NEW.next_try_at = LEAST(NEW.next_try_at, now());
    NEW.problem_count = 0;
    IF TG_OP = 'INSERT' AND COALESCE(NEW.read_at, NEW.cleared_at, NEW.written_at) IS NOT NULL THEN
        RAISE EXCEPTION 'A new write was not written yet.' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
    """,
)

# A difference may stay for 90 days; nothing that people say of it keeps it from being repaired longer than that. That it is
# repaired is decided by the clock, or when two people let go what the brake holds; whose ending repairs it is no free word.
only_puts_off = pgtrigger.Trigger(
    name="only_puts_off",
    when=pgtrigger.Before,
    operation=pgtrigger.Update,
    func=f"""
    IF current_user <> '{ROLES["web"]}' THEN
        RETURN NEW;
    END IF;
    NEW.next_try_at = LEAST(NEW.next_try_at, now());
    IF NEW.accepted_until IS NOT NULL THEN  -- LEAST leaves NULL out
        NEW.accepted_until = LEAST(NEW.accepted_until, now() + interval '91 days');
    END IF;
    IF NEW.held_in_id IS NOT NULL AND NEW.held_in_id IS DISTINCT FROM OLD.held_in_id THEN
        RAISE EXCEPTION 'Workers put the brake on.' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NEW.repaired_at IS NOT NULL AND NEW.repaired_at IS DISTINCT FROM OLD.repaired_at THEN
        RAISE EXCEPTION 'That it is repaired is read in AWS.' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF (NEW.decided_at, NEW.removal_id) IS NOT DISTINCT FROM (OLD.decided_at, OLD.removal_id) THEN
        RETURN NEW;
    END IF;
    IF NEW.held_in_id IS NOT NULL OR NOT EXISTS (
        SELECT FROM grants_reconciliation r
        WHERE r.id = OLD.held_in_id AND r.state = 'settled' AND r.released_by_id IS NOT NULL
    ) THEN
        RAISE EXCEPTION 'Two people let go what the brake holds.' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NEW.removal_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM grants_grant g WHERE g.id = NEW.removal_id
        AND (g.id = NEW.grant_id OR (g.principal_id = NEW.principal_id AND g.entitlement_id = NEW.entitlement_id))
    ) THEN
        RAISE EXCEPTION 'The ending of something else repairs nothing.' USING ERRCODE = 'insufficient_privilege';
    END IF;
    NEW.decided_at = now();
    RETURN NEW;
    """,  # noqa: S608  nothing of it comes from outside
)


def only_lets_go(to: str) -> pgtrigger.Trigger:
    """The brake bites when a worker says so: whoever could put it on would keep every repair and every leaver waiting. Two
    people let go what it holds; that it is over by itself is a worker's word too, since nobody looks at that again."""
    return pgtrigger.Trigger(
        name="only_lets_go",
        when=pgtrigger.Before,
        operation=pgtrigger.Update,
        func=f"""
        IF current_user <> '{ROLES["web"]}' OR NEW IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
        IF OLD.state <> 'held' THEN
            RAISE EXCEPTION 'Only what is held is let go.' USING ERRCODE = 'insufficient_privilege';
        END IF;
        IF NEW.state <> 'held' AND (NEW.state <> '{to}'
            OR num_nonnulls(NEW.proposed_by_id, NEW.released_by_id, NEW.released_at) < 3) THEN
            RAISE EXCEPTION 'Two people let it go.' USING ERRCODE = 'insufficient_privilege';
        END IF;
        RETURN NEW;
        """,
    )


def _begins(*later: str, now: str, first: str = "") -> pgtrigger.Trigger:
    """A row that the web adds says nothing of what comes `later`, and its time is the database's: what workers do and
    find with it is theirs to say, and a time that somebody chose would hide it from them."""
    check = ""
    if later:
        check = f"""
        IF num_nonnulls({", ".join(f"NEW.{name}" for name in later)}) > 0 THEN
            RAISE EXCEPTION 'It has only begun.' USING ERRCODE = 'insufficient_privilege';
        END IF;"""
    return pgtrigger.Trigger(
        name="only_begins",
        when=pgtrigger.Before,
        operation=pgtrigger.Insert,
        func=f"""
        IF current_user <> '{ROLES["web"]}' THEN
            RETURN NEW;
        END IF;{check}{first}
        {now}
        RETURN NEW;
        """,
    )


warrant_begins = _begins(now="NEW.made_at = clock_timestamp();")
extension_begins = _begins("applied_at", "refused_at", now="NEW.made_at = clock_timestamp();")
# What is signed to lift it names the time as it was ordered.
stop_begins = _begins("lifted_at", "lifted_by_id", now="NEW.ordered_at = LEAST(NEW.ordered_at, clock_timestamp());")
leaving_begins = _begins(
    *("passed_at", "gone_at", "returned_at", "exodus_id"),
    first="""
        IF EXISTS (
            SELECT FROM inventory_identity i JOIN users_user u ON u.id = i.user_id
            WHERE i.id = NEW.identity_id AND u.is_active
        ) THEN
            RAISE EXCEPTION 'Who left is shut out first.' USING ERRCODE = 'insufficient_privilege';
        END IF;""",
    now="NEW.noticed_at = clock_timestamp(); NEW.next_try_at = clock_timestamp();",
)
