"""Who can become whom in the company of `rows`, written set-based: whom its roles let in, and which policies let their
holders try. `tracing` reads both, as in a company that was read from AWS."""

# of a machine `i` in the account `r`
ARN = (
    """format('arn:aws:iam::%%s:%%s/%%s', r.external_id, CASE WHEN i.id %% 6 = 0 THEN 'user' ELSE 'role' END, i.name)"""
)

# One role in ten lets in its whole account; one the role before it, in chains of ten that begin at some account; one a
# stranger; and one in fifty the administrators of the first account. The others let in a service.
TRUSTS = """
    UPDATE inventory_principal p
    SET attributes = jsonb_build_object('trust', jsonb_build_object('Statement', jsonb_build_array(jsonb_build_object(
        'Effect', 'Allow', 'Action', 'sts:AssumeRole', 'Principal', CASE
            WHEN n %% 50 = 19 THEN jsonb_build_object('AWS', 'arn:aws:iam::100000000001:role/aws-reserved/'
                'sso.amazonaws.com/AWSReservedSSO_AdministratorAccess_0123456789abcdef')
            WHEN n %% 10 = 9 THEN jsonb_build_object('AWS', format('arn:aws:iam::%%s:root', r.external_id))
            WHEN n %% 10 = 8 THEN jsonb_build_object('AWS', 'arn:aws:iam::999999999999:root')
            WHEN n %% 100 = 7 THEN
                jsonb_build_object('AWS', format('arn:aws:iam::%%s:root', 100000000001 + n %% %(accounts)s))
            WHEN n %% 10 = 7 THEN jsonb_build_object('AWS', before.external_id)
            ELSE jsonb_build_object('Service', 'lambda.amazonaws.com') END))))
    FROM (SELECT id, split_part(external_id, '/', 2)::int AS n FROM inventory_identity WHERE kind = 'machine') i
    JOIN inventory_identity earlier ON earlier.external_id = format('arn:role/%%s', greatest(1, n - 10))
    JOIN inventory_principal before ON before.identity_id = earlier.id
    CROSS JOIN inventory_resource r
    WHERE p.identity_id = i.id AND p.kind = 'iam_role' AND r.id = p.resource_id
"""


def document(everything: str, roles: str) -> str:
    """SQL for the documents of a policy: everything or assuming roles, where these conditions hold; else S3."""
    action = f"CASE WHEN {everything} THEN '*' WHEN {roles} THEN 'sts:AssumeRole' ELSE 's3:*' END"
    on = f"CASE WHEN NOT ({everything}) AND {roles} THEN 'arn:aws:iam::*:role/*' ELSE '*' END"
    return f"""jsonb_build_array(jsonb_build_object('name', 'inline', 'document', jsonb_build_object('Statement',
        jsonb_build_array(jsonb_build_object('Effect', 'Allow', 'Action', {action}, 'Resource', {on})))))"""
