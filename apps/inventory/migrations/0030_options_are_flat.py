from django.db import migrations, models

import apps.inventory.models.connections


class Migration(migrations.Migration):
    dependencies = [
        ("inventory", "0029_ends_of_periods"),
    ]

    operations = [
        migrations.AddConstraint(
            model_name="connection",
            constraint=models.CheckConstraint(
                condition=apps.inventory.models.connections.IsFlat("options"),
                name="connection_options_are_flat",
                violation_error_message="Options are texts and numbers, 4,000 characters in all.",
            ),
        ),
    ]
