from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("grants", "0010_fitting"),
    ]

    operations = [
        migrations.AddField(
            model_name="grant",
            name="made_as",
            field=models.CharField(
                blank=True,
                help_text="What AWS calls the object that was made for it alone; one that is made again has another id.",
                max_length=64,
            ),
        ),
    ]
