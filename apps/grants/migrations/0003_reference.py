from django.db import migrations, models

from apps.grants.models import new_reference


def name_each(apps, _):
    grants = apps.get_model("grants", "Grant").objects
    for pk in grants.values_list("pk", flat=True).iterator():
        grants.filter(pk=pk).update(reference=new_reference())


class Migration(migrations.Migration):
    atomic = False  # rows get their names one by one, and the table cannot be altered in the transaction that did it

    dependencies = [
        ("grants", "0002_partial_indexes"),
    ]

    operations = [
        migrations.AddField(
            model_name="grant",
            name="accepted_at",
            field=models.DateTimeField(blank=True, help_text="When AWS accepted the opening.", null=True),
        ),
        migrations.AddField(
            model_name="grant",
            name="removal_accepted_at",
            field=models.DateTimeField(blank=True, help_text="When AWS accepted the removal.", null=True),
        ),
        migrations.AddField(
            model_name="grant",
            name="reference",
            field=models.CharField(editable=False, max_length=16, null=True),
        ),
        migrations.RunPython(name_each, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="grant",
            name="reference",
            field=models.CharField(
                default=new_reference, editable=False, help_text="What it is called in AWS.", max_length=16, unique=True
            ),
        ),
    ]
