"""How static files are collected and named for production."""

from django.contrib.staticfiles.apps import StaticFilesConfig
from whitenoise.storage import CompressedManifestStaticFilesStorage


class CollectedFiles(StaticFilesConfig):
    """Leaves out what npm packages bring and no page uses: source maps, right-to-left and unminified builds."""

    ignore_patterns = [
        *StaticFilesConfig.ignore_patterns,
        *("*.map", "*.rtl.*", "*.esm.*", "*.ts", "*.md", "*.json", "scss", "LICENSE"),
        *("tabler-*", "tabler.css", "tabler.js"),
    ]


class HashedFiles(CompressedManifestStaticFilesStorage):
    """Names files by their content, so that browsers keep them for ever, and compresses them once.

    Comments that point to a source map are left alone: the maps are not collected.
    """

    patterns = tuple(
        (extension, tuple(rule for rule in rules if "sourceMappingURL" not in str(rule)))
        for extension, rules in CompressedManifestStaticFilesStorage.patterns
    )
