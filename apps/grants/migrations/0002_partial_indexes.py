from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("grants", "0001_initial")]

    operations = [
        migrations.RemoveIndex(model_name="grant", name="grant_shared"),
        migrations.AddIndex(
            model_name="grant",
            index=models.Index(
                condition=models.Q(("cleared_at", None)), fields=["shared_key"], name="grant_in_shared"
            ),
        ),
        migrations.AddIndex(
            model_name="grant",
            index=models.Index(
                condition=models.Q(("state__in", ["pending", "provisioning", "active"])),
                fields=["identity"],
                name="grant_live",
            ),
        ),
        migrations.AlterField(
            model_name="grant",
            name="ticket",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="What AWS was asked last: {verb: open or close, state, reference, reason}.",
            ),
        ),
    ]
