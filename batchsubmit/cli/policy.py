"""`batchsubmit policy`: the least IAM policy of each command, which `configs/deploy/iam-*.json` are compared with."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from batchsubmit.cli.help import EXITS
from batchsubmit.cli.options import command, together
from batchsubmit.cli.output import say
from batchsubmit.schema.arns import partition_of

NAMES = {
    "account": ("--account", "123456789012", "The account's number."),
    "region": ("--region", "us-east-1", "The region.  [default: AWS_REGION]"),
    "table": ("--ledger-table", "batchsubmit", "The DynamoDB table of a shared ledger."),
    "queue": ("--queue", "batchsubmit", "The SQS queue; its dead-letter queue is QUEUE-dead."),
    "bucket": ("--bucket", "example-batches", "The bucket of manifests/ and results/."),
    "topic": ("--topic", "batchsubmit-nightly", "The SNS topic of notices."),
}
"""What the resources are called: option, example as in `configs/deploy/`, help."""

_Statement = tuple[str, str, str]
"""Its Sid, its actions, and its resources, each apart by white space; without resources it is bound to the region."""

_MEMBERSHIP, _TABLE, _QUEUE = "{cleanrooms}:membership/{membership}", "{dynamodb}:table/{table}", "{sqs}:{queue}"
_MANIFESTS = "{s3}:{bucket}/manifests/*"
_LOG_GROUP = "{logs}:log-group:/aws/cleanroomsml/TrainedModelInferenceJobs:*"

_PASS = ("ActInMemberships", "cleanrooms:PassMembership", _MEMBERSHIP)
_START = ("StartJobs", "cleanrooms-ml:StartTrainedModelInferenceJob cleanrooms-ml:TagResource", "")
_JOBS = "cleanrooms-ml:GetTrainedModelInferenceJob cleanrooms-ml:ListTrainedModelInferenceJobs"
_LOOK = ("LookJobsUp", f"cleanrooms-ml:GetMLInputChannel cleanrooms-ml:GetTrainedModel {_JOBS}", "")
_CANCEL = ("CancelJobs", f"cleanrooms-ml:CancelTrainedModelInferenceJob {_JOBS}", "")
_QUOTAS = ("LearnQuotas", "servicequotas:ListServiceQuotas", "")
_LIST = (
    "ListInputs",
    (
        "cleanrooms:ListMemberships cleanrooms-ml:ListConfiguredModelAlgorithmAssociations "
        "cleanrooms-ml:ListMLInputChannels cleanrooms-ml:ListTrainedModels"
    ),
    "",
)
_KEEP = ("KeepLedger", "dynamodb:BatchGetItem dynamodb:UpdateItem", _TABLE)
_READ = ("ReadLedger", "dynamodb:BatchGetItem dynamodb:Scan", _TABLE)
_READ_AND_KEEP = ("KeepLedger", f"{_READ[1]} dynamodb:UpdateItem", _TABLE)
_TAKE = ("ReadManifests", "s3:GetObject", _MANIFESTS)
_VERSIONS = ("ReadManifests", "s3:GetObject s3:GetObjectVersion", _MANIFESTS)
_RESULTS = ("LeaveResults", "s3:GetObject s3:PutObject", "{s3}:{bucket}/results/*")
_NOTIFY = ("Notify", "sns:Publish", "{sns}:{topic}")
_LOGS = ("ReadLogs", "logs:FilterLogEvents", _LOG_GROUP)
_SERVE = (
    "ServeQueue",
    "sqs:ChangeMessageVisibility sqs:DeleteMessage sqs:GetQueueAttributes sqs:ReceiveMessage sqs:SendMessage",
    _QUEUE,
)
_DEAD = ("SetPoisonAside", "sqs:GetQueueAttributes sqs:GetQueueUrl sqs:SendMessage", "{sqs}:{dead}")
_FILL = ("FillQueue", "sqs:GetQueueAttributes sqs:SendMessage", _QUEUE)
_QUEUES = ("MakeQueues", "sqs:CreateQueue sqs:GetQueueAttributes sqs:SetQueueAttributes", f"{_QUEUE} {{sqs}}:{{dead}}")
_MAKE = ("MakeTable", "dynamodb:CreateTable dynamodb:DescribeTable dynamodb:UpdateContinuousBackups", _TABLE)
_BUCKET = ("LookAtBucket", "s3:ListBucket", "{s3}:{bucket}")
_TOPIC = ("LookAtTopic", "sns:GetTopicAttributes", "{sns}:{topic}")

POLICIES: Mapping[str, tuple[_Statement, ...]] = {
    "submit": (_PASS, _START, _LOOK, _QUOTAS, _TAKE),
    "worker": (_PASS, _START, _LOOK, _QUOTAS, _SERVE, _DEAD, _KEEP, _VERSIONS),
    "nightly": (_PASS, _START, _LOOK, _QUOTAS, _KEEP, _TAKE, _RESULTS, _NOTIFY),
    "enqueue": (_FILL, _TAKE),
    "cancel": (_PASS, _CANCEL, _READ_AND_KEEP),
    "read": (_PASS, _LOOK, _READ, _TAKE, _LOGS),
    "init": (_PASS, _LIST),
    "doctor": (_PASS, _LOOK, _QUOTAS, _BUCKET, _TOPIC),
    "setup": (_QUEUES, _MAKE),
}
"""By command; `read` is for all that only look, `nightly` for a submit with a table, copies and notices."""

ALSO = {"retry": "submit"} | dict.fromkeys(("plan", "status", "report", "ui", "export", "verify", "logs"), "read")
"""Commands that need no more than another policy has."""


def _make_policy(
    statements: Sequence[_Statement], names: Mapping[str, str], memberships: Sequence[str]
) -> dict[str, Any]:
    """Fill in the names. Resources begin with the service's name, which stands for what its ARNs begin with."""
    partition, (stem, dot, fifo) = partition_of(names["region"]) or "aws", names["queue"].partition(".")
    services = ("cleanrooms", "dynamodb", "logs", "sns", "sqs")
    places = {each: f"arn:{partition}:{each}:{names['region']}:{names['account']}" for each in services}
    places |= {**names, "s3": f"arn:{partition}:s3::", "dead": f"{stem}-dead{dot}{fifo}"}
    made = []
    for sid, actions, resources in statements:
        shown: dict[str, Any] = {"Sid": sid, "Effect": "Allow", "Action": actions.split()}
        each_of = memberships if resources == _MEMBERSHIP else ("",)
        arns = [each.format(membership=name, **places) for each in resources.split() for name in each_of]
        if arns:
            shown["Resource"] = arns[0] if len(arns) == 1 else arns
        else:
            shown |= {"Resource": "*", "Condition": {"StringEquals": {"aws:RequestedRegion": names["region"]}}}
        made.append(shown)
    return {"Version": "2012-10-17", "Statement": made}


@command(
    ("what submit needs, for a role", "batchsubmit policy submit --account 111122223333 > policy.json"),
    ("with a ledger in a table", "batchsubmit policy submit --ledger-table batchsubmit"),
    exits={0: EXITS[0], 2: "usage wrong"},
)
@click.argument("command", type=click.Choice([*POLICIES, *ALSO]))
@click.option("--membership", "memberships", multiple=True, metavar="ID", help="Only this one; may be repeated.")
@together(*(click.option(option, name, metavar=name.upper(), help=words) for name, (option, _, words) in NAMES.items()))
def policy(command: str, memberships: tuple[str, ...], **given: Any) -> int:  # noqa: ANN401 (click's)
    """Print the least IAM policy that COMMAND needs, as JSON.

    `read` is for all commands that only look, `nightly` for a submit with its ledger in a table, copies in S3 and
    notices, `setup` for who makes queue and table. What you do not name stays an example, and is listed.
    """
    given["region"] = given["region"] or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    names = {name: given[name] or example for name, (_, example, _) in NAMES.items()}
    statements = POLICIES[ALSO.get(command, command)]
    used = " ".join(("{account} {region}", *(resources for _, _, resources in statements)))
    if given["table"] and "{table}" not in used:
        statements = (*statements, _KEEP)
    click.echo(json.dumps(_make_policy(statements, names, memberships or ["*"]), indent=2))
    examples = [
        f"{option} {example}"
        for name, (option, example, _) in NAMES.items()
        if not given[name] and f"{{{name}}}" in used
    ]
    if examples:
        say(f"These are examples, give your own: {', '.join(examples)}")
    return 0
