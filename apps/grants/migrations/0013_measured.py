from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("grants", "0012_signed_sessions")]

    operations = [
        migrations.AddIndex(
            model_name="grant",
            index=models.Index(
                condition=models.Q(("active_at__isnull", False)), fields=["active_at"], name="grant_opened"
            ),
        ),
        migrations.AddIndex(
            model_name="grant",
            index=models.Index(
                condition=models.Q(("denied_at__isnull", False)), fields=["denied_at"], name="grant_denied"
            ),
        ),
        migrations.AddIndex(
            model_name="grant",
            index=models.Index(
                condition=models.Q(("revoked_at__isnull", False)), fields=["revoked_at"], name="grant_gone"
            ),
        ),
    ]
