from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('inventory', '0015_membership_ids'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='credential',
            index=models.Index(condition=models.Q(('ended_at', None), ('is_active', True)), fields=['created_at', 'id'], name='credential_list'),
        ),
    ]
