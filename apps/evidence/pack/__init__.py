"""The evidence pack of a campaign: `parts` says which rows are in it, `writing` writes them into one zip file, and
`verify.py` goes along, so that whoever holds the file can check it without Gatehouse and without trusting it."""

from apps.evidence.pack.writing import Written, write

__all__ = ["Written", "write"]
