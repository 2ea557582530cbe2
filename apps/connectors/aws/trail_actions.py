"""Which permission a call in an audit trail needed: `eventName` is not always the name of an action.

Sources: AWS's service authorization reference (the catalogue) for the actions, and "Actions, resources, and condition keys
for Amazon S3" for the operations whose permission has another name. What fits nothing has no action, and is shown as such.
"""

from __future__ import annotations

import re
from functools import lru_cache

from apps.connectors.aws.catalogue import catalogue

# eventSource, without ".amazonaws.com", where policies call the service differently.
SERVICES = {
    "monitoring": "cloudwatch",
    "email": "ses",
    "tagging": "tag",
    "resource-groups-tagging": "tag",
    "cloudcontrolapi": "cloudformation",
    "entitlement-marketplace": "aws-marketplace",
    "metering-marketplace": "aws-marketplace",
    "transcribestreaming": "transcribe",
    "models.lex": "lex",
    "runtime.lex": "lex",
    "data.iot": "iot",
    "streams.dynamodb": "dynamodb",
    "api.ecr-public": "ecr-public",
}

# Operations whose permission has another name.
RENAMED = {
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjects": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3:ListParts": "s3:ListMultipartUploadParts",
    "s3:HeadObject": "s3:GetObject",
    "s3:SelectObjectContent": "s3:GetObject",
    "s3:CopyObject": "s3:PutObject",
    "s3:PostObject": "s3:PutObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:UploadPartCopy": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:GetBucketLifecycle": "s3:GetLifecycleConfiguration",
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:PutBucketLifecycle": "s3:PutLifecycleConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:DeleteBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:GetBucketReplication": "s3:GetReplicationConfiguration",
    "s3:PutBucketReplication": "s3:PutReplicationConfiguration",
    "s3:DeleteBucketReplication": "s3:PutReplicationConfiguration",
    "s3:DeleteBucketCors": "s3:PutBucketCORS",
    "s3:DeleteBucketTagging": "s3:PutBucketTagging",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:DeletePublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "s3:PutObjectLockConfiguration": "s3:PutBucketObjectLockConfiguration",
    "s3:GetBucketAccelerateConfiguration": "s3:GetAccelerateConfiguration",
    "s3:PutBucketAccelerateConfiguration": "s3:PutAccelerateConfiguration",
    "s3:GetBucketInventoryConfiguration": "s3:GetInventoryConfiguration",
    "s3:PutBucketInventoryConfiguration": "s3:PutInventoryConfiguration",
    "s3:GetBucketMetricsConfiguration": "s3:GetMetricsConfiguration",
    "s3:PutBucketMetricsConfiguration": "s3:PutMetricsConfiguration",
    "s3:GetBucketAnalyticsConfiguration": "s3:GetAnalyticsConfiguration",
    "s3:PutBucketAnalyticsConfiguration": "s3:PutAnalyticsConfiguration",
    "lambda:Invoke": "lambda:InvokeFunction",
}

# API Gateway's permissions are HTTP methods on paths.
METHODS = {
    "Get": "GET",
    "Create": "POST",
    "Import": "POST",
    "Update": "PATCH",
    "Put": "PUT",
    "Delete": "DELETE",
    "Tag": "PUT",
    "Untag": "DELETE",
}

_VERSION = re.compile(r"(?:20\d{2}_?\d{2}_?\d{2})(?:v\d+)?$")  # CreateFunction20150331, GetDistribution2020_05_31


def service_of(source: str) -> str:
    """The prefix in policies of the service behind an eventSource: "cloudwatch" for "monitoring.amazonaws.com"."""
    name = source.lower()
    for ending in (".amazonaws.com", ".amazonaws.com.cn", ".aws"):
        name = name.removesuffix(ending)
    return SERVICES.get(name, name)


@lru_cache(maxsize=16_384)
def action_of(service: str, name: str) -> str:
    """The action that a call of this service needed, in AWS's spelling; empty where none is known."""
    plain = _VERSION.sub("", name)
    if service == "apigateway":
        verb = next((verb for verb in METHODS if plain.startswith(verb)), "")
        return f"apigateway:{METHODS[verb]}" if verb else ""
    asked = RENAMED.get(f"{service}:{plain}", f"{service}:{plain}")
    if any(letter in asked for letter in "*?"):
        return ""
    known = catalogue()
    return next(known.actions(known.expand(asked)), "")
