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
                condition=apps.inventory.models.connections.IsFlat("options"), name="connection_options_are_flat"
            ),
        ),
    ]
