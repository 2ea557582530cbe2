"""How long it takes to find the privilege of 10,000 different policies: `python -m benchmarks.privilege`.

A sync of a large organization meets that many. Times are processor time, so that neighbours on the machine matter little;
the limit is for one core of a small server, and the ratio says how much of it is used.
"""

import json
import random
import sys
import time
from collections import Counter

from apps.connectors.aws.catalogue import catalogue
from apps.connectors.aws.privilege import NamedDocument, privilege_of

POLICIES = 10_000
LIMIT_SECONDS = 2.5
LOADING_LIMIT_SECONDS = 1.0

SERVICES = (
    "s3",
    "ec2",
    "sqs",
    "sns",
    "dynamodb",
    "lambda",
    "logs",
    "kms",
    "rds",
    "ecr",
    "ecs",
    "iam",
    "sts",
    "glue",
    "ssm",
)
VERBS = ("Get*", "List*", "Describe*", "Put*", "Create*", "Delete*", "Update*", "Tag*", "*")


def documents() -> list[str]:
    """Believable policies, no two alike: wildcards and single actions on named resources, some conditions and Denies."""
    seeded = random.Random(1)  # noqa: S311  the same policies every time, no secret
    names = [name for name in catalogue().names if name.partition(":")[0] in SERVICES]
    return [json.dumps({"Version": "2012-10-17", "Statement": _statements(seeded, names, n)}) for n in range(POLICIES)]


def _statements(seeded: random.Random, names: list[str], n: int) -> list[dict[str, object]]:
    statements: list[dict[str, object]] = []
    for _ in range(seeded.randint(1, 4)):
        service = seeded.choice(SERVICES)
        actions = [f"{service}:{verb}" for verb in seeded.sample(VERBS, 2)] + seeded.sample(names, 4)
        resource = f"arn:aws:{service}:eu-west-1:{n:012}:thing/team-{seeded.randint(1, 9999)}/*"
        statements.append(
            {"Effect": "Allow", "Action": actions, "Resource": seeded.choice(["*", resource, [resource]])}
        )
    if seeded.random() < 0.2:
        statements.append({"Effect": "Deny", "Action": f"{seeded.choice(SERVICES)}:*", "Resource": "*"})
    if seeded.random() < 0.3:
        statements[0]["Condition"] = {"StringEquals": {"aws:ResourceTag/team": f"team-{n}"}}
    return statements


def main() -> int:
    started = time.process_time()
    catalogue()
    loading = time.process_time() - started
    policies = documents()
    started = time.process_time()
    levels = Counter(privilege_of([NamedDocument(f"policy-{n}", policy)]).level for n, policy in enumerate(policies))
    took = time.process_time() - started
    started = time.process_time()
    for n, policy in enumerate(policies[-4000:]):
        privilege_of([NamedDocument(f"again-{n}", policy)])
    again = (time.process_time() - started) / 4000
    ratio = max(took / LIMIT_SECONDS, loading / LOADING_LIMIT_SECONDS)
    sys.stdout.write(
        f"catalogue: {len(catalogue().names):,} actions in {loading:.2f} s (limit {LOADING_LIMIT_SECONDS:.1f} s)\n"
        f"policies: {POLICIES:,} in {took:.2f} s (limit {LIMIT_SECONDS:.1f} s), {dict(levels)}\n"
        f"seen before: {again * 1e6:.0f} µs each\n"
        f"ratio {ratio:.2f}\n"
    )
    return 0 if ratio <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
