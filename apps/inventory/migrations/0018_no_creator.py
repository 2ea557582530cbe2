from django.db import migrations


class Migration(migrations.Migration):
    """The audit trail's own table says who made what."""

    dependencies = [("inventory", "0017_history")]

    operations = [migrations.RemoveField("identity", "creator")]
