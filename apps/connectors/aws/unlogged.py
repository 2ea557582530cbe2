"""Which actions a trail of management events cannot show, so that silence about them says nothing.

Data events are recorded only where somebody chose so ("Logging data events" in CloudTrail's user guide, and the exclusion
of KMS and RDS Data API events); permissions without a call of their own (iam:PassRole) are never recorded by name. Tagging
what is being created needs the permission to tag, and only the creating call is recorded ("Grant permission to tag
resources during creation" in EC2's user guide; other services check theirs in the same way).
"""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from pathlib import Path

import botocore

from apps.connectors.aws.catalogue import catalogue
from apps.connectors.aws.trail_actions import METHODS, RENAMED

# By service, its actions that are data events or may be left out of a trail; more than that is harmless, less is not.
DATA = {
    "s3": (
        "*Object*",
        "ListBucket",
        "ListBucketVersions",
        "ListBucketMultipartUploads",
        "*MultipartUpload*",
        "Replicate*",
    ),
    "dynamodb": ("*Item*", "Query", "Scan", "PartiQL*", "GetRecords", "GetShardIterator", "DescribeStream"),
    "lambda": ("Invoke*",),
    "sns": ("Publish*",),
    "sqs": ("*Message*", "GetQueueAttributes", "GetQueueUrl"),
    "kinesis": ("PutRecord*", "Get*", "SubscribeToShard", "List*", "DescribeStream*"),
    "kinesisvideo": ("Get*", "PutMedia", "*Channel*"),
    "firehose": ("PutRecord*",),
    "kms": (
        "*crypt*",
        "GenerateDataKey*",
        "GenerateRandom",
        "GenerateMac",
        "VerifyMac",
        "Sign",
        "Verify",
        "DeriveSharedSecret",
    ),
    "logs": ("PutLogEvents", "GetLogEvents", "FilterLogEvents", "*Query*", "StartLiveTail", "Unmask"),
    "cloudwatch": ("PutMetricData", "GetMetric*", "ListMetrics"),
    "events": ("PutEvents", "InvokeApiDestination"),
    "states": ("InvokeHTTPEndpoint", "RevealSecrets", "SendTask*", "GetActivityTask"),
    "xray": ("Put*", "Get*"),
    "appconfig": ("GetLatestConfiguration", "StartConfigurationSession", "GetConfiguration"),
    "bedrock": ("*Invoke*", "Retrieve*", "Render*", "ApplyGuardrail", "*Session*"),
    "sagemaker": ("Invoke*", "PutRecord", "GetRecord", "DeleteRecord", "BatchGetRecord", "BatchPutMetrics"),
    "cognito-identity": ("GetId", "GetCredentialsForIdentity", "GetOpenIdToken*", "UnlinkIdentity"),
    "codebuild": ("BatchPut*", "CreateReport", "UpdateReport"),
    "ssm": ("PutInventory", "*InstanceInformation", "*Association*", "GetDeployablePatchSnapshotForInstance"),
    "sts": ("TagSession", "SetSourceIdentity", "SetContext"),
    "swf": ("*",),
    "timestream": ("*",),
    "cassandra": ("*",),
    "ebs": ("*",),
    "glacier": ("*",),
    "verifiedpermissions": ("IsAuthorized*", "Get*", "List*"),
    "geo": ("*",),
    "iot": ("*",),
    "translate": ("*",),
    "transcribe": ("*",),
    "comprehend": ("*",),
    "rekognition": ("*",),
    "textract": ("*",),
    "polly": ("*",),
    "execute-api": ("*",),
    "redshift-data": ("*",),
    "rds-data": ("*",),
    "sdb": ("*",),
    "mobiletargeting": ("*",),
    "elasticfilesystem": ("Client*",),
}

WHEN_CREATING = ("Tag*", "CreateTags", "AddTags*")


@lru_cache(maxsize=1024)
def unlogged(service: str) -> int:
    """The actions of a service, as a set of the catalogue, whose use a trail may not show. All of a service of which we
    do not know the calls."""
    known = catalogue()
    all_of_it = known.expand(f"{service}:*")
    calls = _calls(service)
    if not calls:
        return all_of_it
    logged = known.select(f"{service}:{name}" for name in calls)
    silent = (*DATA.get(service, ()), *WHEN_CREATING)
    return (all_of_it & ~logged) | known.select(f"{service}:{pattern}" for pattern in silent)


def _calls(service: str) -> set[str]:
    """The permissions that a service's calls need, by the SDK's own description of them."""
    found = set().union(*(_operations(name) for name in _models().get(service, ())))
    if service == "apigateway" and found:
        return set(METHODS.values())
    return found | {needed.partition(":")[2] for needed in RENAMED.values() if needed.startswith(f"{service}:")}


@lru_cache(maxsize=1)
def _models() -> dict[str, tuple[str, ...]]:
    """Service prefix → the SDK's models of it. From the names of the SDK's folders and the table of exceptions."""
    found: dict[str, list[str]] = {}
    for folder in sorted((Path(botocore.__file__).parent / "data").iterdir()):
        if folder.is_dir():
            found.setdefault(FOLDERS.get(folder.name, folder.name), []).append(folder.name)
    return {service: tuple(folders) for service, folders in found.items()}


# Folders of the SDK whose name is not the prefix in policies.
FOLDERS = {
    "sso-admin": "sso",
    "elb": "elasticloadbalancing",
    "elbv2": "elasticloadbalancing",
    "efs": "elasticfilesystem",
    "emr": "elasticmapreduce",
    "stepfunctions": "states",
    "sesv2": "ses",
    "apigatewayv2": "apigateway",
    "opensearch": "es",
    "lexv2-models": "lex",
    "lex-models": "lex",
    "resourcegroupstaggingapi": "tag",
    "s3control": "s3",
    "cloudhsmv2": "cloudhsm",
    "dynamodbstreams": "dynamodb",
    "keyspaces": "cassandra",
    "amp": "aps",
    "docdb": "rds",
    "neptune": "rds",
}


def _operations(model: str) -> set[str]:
    folder = Path(botocore.__file__).parent / "data" / model
    newest = max(one for one in folder.iterdir() if one.is_dir())
    path = newest / "service-2.json.gz"
    raw = gzip.decompress(path.read_bytes()) if path.exists() else (newest / "service-2.json").read_bytes()
    return set(json.loads(raw)["operations"])
