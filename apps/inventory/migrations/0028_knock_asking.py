from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("inventory", "0027_denied_runs"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="knock",
            index=models.Index(
                condition=models.Q(("lines__contains", [{"e": "Allow", "ways": ["assume"]}])),
                fields=["entitlement"],
                name="knock_asking",
            ),
        ),
    ]
