from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("inventory", "0019_trail_options")]

    operations = [
        migrations.AddField(
            model_name="trust",
            name="arn",
            field=models.CharField(
                default="", help_text="Beside the keys, so that both narrow one scan.", max_length=700
            ),
        ),
        migrations.AlterField(
            model_name="trust",
            name="keys",
            field=ArrayField(
                base_field=models.TextField(), default=list, help_text="ARNs and accounts; * is anybody.", size=None
            ),
        ),
        # Rows without it are derived again.
        migrations.RunSQL("UPDATE inventory_trust SET digest = ''", migrations.RunSQL.noop),
    ]
