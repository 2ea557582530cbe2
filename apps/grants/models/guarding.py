"""What the database lets processes that may only narrow do with grants, whatever their code says."""

from __future__ import annotations

import pgtrigger

from apps.core.privileges import ROLES

# What a new row may say. Everything else must be empty, columns that are yet to come included.
_SAID = (
    *("id", "connection_id", "identity_id", "principal_id", "entitlement_id", "assignment_id", "origin", "provisioner"),
    *("remover", "reference", "state", "reason", "ticket_ref", "duration", "requested_by_id", "created_at"),
    *("next_try_at", "task_owner_id", "due_at", "active_at"),
)
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
        IF NEW.origin = 'request' AND NEW.state = 'pending' AND NEW.active_at IS NULL THEN
            RETURN NEW;
        END IF;
        IF NEW.origin = 'found' AND NEW.state = 'active' AND NEW.provisioner = '' THEN
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
    RETURN NEW;
    """,  # noqa: S608  nothing of it comes from outside
)
