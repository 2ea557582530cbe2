from django.db import migrations

# The same findings under the name they have now, so that what people decided about them stays.
RENAME = """
    UPDATE insights_finding f SET key = 'principal:' || p.id
    FROM inventory_principal p
    WHERE f.kind = 'mixed_use' AND f.closed_at IS NULL AND p.kind = 'iam_user' AND p.ended_at IS NULL
      AND f.key = 'identity:' || p.identity_id || ':password_and_key'
"""


class Migration(migrations.Migration):
    dependencies = [("insights", "0002_counting")]
    operations = [migrations.RunSQL(RENAME, migrations.RunSQL.noop)]
