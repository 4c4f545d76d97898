"""`batchsubmit policy`: the least IAM policy of each command, which `configs/deploy/iam-*.json` are compared with."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from batchsubmit.cli.main import manual
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

_PASS = ("ActInMemberships", "cleanrooms:PassMembership", "{cleanrooms}:membership/{membership}")
_START = ("StartJobs", "cleanrooms-ml:StartTrainedModelInferenceJob cleanrooms-ml:TagResource", "")
_LOOK = (
    "LookJobsUp",
    (
        "cleanrooms-ml:GetMLInputChannel cleanrooms-ml:GetTrainedModel cleanrooms-ml:GetTrainedModelInferenceJob "
        "cleanrooms-ml:ListTrainedModelInferenceJobs"
    ),
    "",
)
_QUOTAS = ("LearnQuotas", "servicequotas:ListServiceQuotas", "")
_CANCEL = (
    "CancelJobs",
    (
        "cleanrooms-ml:CancelTrainedModelInferenceJob cleanrooms-ml:GetTrainedModelInferenceJob "
        "cleanrooms-ml:ListTrainedModelInferenceJobs"
    ),
    "",
)
_LIST = (
    "ListInputs",
    (
        "cleanrooms:ListMemberships cleanrooms-ml:ListConfiguredModelAlgorithmAssociations "
        "cleanrooms-ml:ListMLInputChannels cleanrooms-ml:ListTrainedModels"
    ),
    "",
)
_KEEP = ("KeepLedger", "dynamodb:BatchGetItem dynamodb:GetItem dynamodb:UpdateItem", "{dynamodb}:table/{table}")
_READ = (
    "ReadLedger",
    "dynamodb:BatchGetItem dynamodb:GetItem dynamodb:Query dynamodb:Scan",
    "{dynamodb}:table/{table}",
)
_READ_AND_KEEP = ("KeepLedger", f"{_READ[1]} dynamodb:UpdateItem", _READ[2])
_MANIFESTS = ("ReadManifests", "s3:GetObject", "{s3}:{bucket}/manifests/*")
_VERSIONS = ("ReadManifests", "s3:GetObject s3:GetObjectVersion", "{s3}:{bucket}/manifests/*")
_RESULTS = ("LeaveResults", "s3:GetObject s3:PutObject", "{s3}:{bucket}/results/*")
_NOTIFY = ("Notify", "sns:Publish", "{sns}:{topic}")
_LOGS = ("ReadLogs", "logs:FilterLogEvents", "{logs}:log-group:/aws/cleanroomsml/TrainedModelInferenceJobs:*")
_SERVE = (
    "ServeQueue",
    "sqs:ChangeMessageVisibility sqs:DeleteMessage sqs:GetQueueAttributes sqs:ReceiveMessage sqs:SendMessage",
    "{sqs}:{queue}",
)
_DEAD = ("SetPoisonAside", "sqs:GetQueueAttributes sqs:GetQueueUrl sqs:SendMessage", "{sqs}:{dead}")
_FILL = ("FillQueue", "sqs:GetQueueAttributes sqs:SendMessage", "{sqs}:{queue}")
_QUEUES = ("MakeQueues", "sqs:CreateQueue sqs:GetQueueAttributes sqs:SetQueueAttributes", "{sqs}:{queue} {sqs}:{dead}")
_TABLE = (
    "MakeTable",
    "dynamodb:CreateTable dynamodb:DescribeTable dynamodb:UpdateContinuousBackups",
    "{dynamodb}:table/{table}",
)
_BUCKET = ("LookAtBucket", "s3:ListBucket", "{s3}:{bucket}")
_TOPIC = ("LookAtTopic", "sns:GetTopicAttributes", "{sns}:{topic}")

POLICIES: Mapping[str, tuple[_Statement, ...]] = {
    "submit": (_PASS, _START, _LOOK, _QUOTAS, _MANIFESTS),
    "worker": (_PASS, _START, _LOOK, _QUOTAS, _SERVE, _DEAD, _KEEP, _VERSIONS),
    "nightly": (_PASS, _START, _LOOK, _QUOTAS, _KEEP, _MANIFESTS, _RESULTS, _NOTIFY),
    "enqueue": (_FILL, _MANIFESTS),
    "cancel": (_PASS, _CANCEL, _READ_AND_KEEP),
    "read": (_PASS, _LOOK, _READ, _MANIFESTS, _LOGS),
    "init": (_PASS, _LIST),
    "doctor": (_PASS, _LOOK, _QUOTAS, _BUCKET, _TOPIC),
    "setup": (_QUEUES, _TABLE),
}
"""By command; `read` is for all that only look, `nightly` for a submit with a table, copies and notices."""

ALSO = {
    "retry": "submit",
    "plan": "read",
    "status": "read",
    "report": "read",
    "ui": "read",
    "export": "read",
    "verify": "read",
    "logs": "read",
}
"""Commands that need no more than another policy has."""


def make_policy(command: str, names: Mapping[str, str], memberships: Sequence[str]) -> dict[str, Any]:
    """Make the policy of a command; what `names` lacks stands as an example, no membership stands for all."""
    statements = POLICIES[ALSO.get(command, command)]
    if "table" in names and not any("{table}" in resources for _, _, resources in statements):
        statements = (*statements, _KEEP)
    values = {**{name: example for name, (_, example, _) in NAMES.items()}, **names}
    places = _places(values)
    made = [_statement(each, values["region"], places, memberships or ["*"]) for each in statements]
    return {"Version": "2012-10-17", "Statement": made}


def _places(names: Mapping[str, str]) -> dict[str, str]:
    """The values of the templates: the beginnings of ARNs by service, and the names."""
    partition, (stem, dot, fifo) = partition_of(names["region"]) or "aws", names["queue"].partition(".")
    services = ("cleanrooms", "dynamodb", "logs", "sns", "sqs")
    begins = {each: f"arn:{partition}:{each}:{names['region']}:{names['account']}" for each in services}
    return {**begins, **names, "s3": f"arn:{partition}:s3::", "dead": f"{stem}-dead{dot}{fifo}"}


def _statement(
    statement: _Statement, region: str, places: Mapping[str, str], memberships: Sequence[str]
) -> dict[str, Any]:
    sid, actions, resources = statement
    shown: dict[str, Any] = {"Sid": sid, "Effect": "Allow", "Action": actions.split()}
    if not resources:
        return shown | {"Resource": "*", "Condition": {"StringEquals": {"aws:RequestedRegion": region}}}
    each_of = memberships if "{membership}" in resources else ("",)
    arns = [each.format(membership=name, **places) for each in resources.split() for name in each_of]
    return shown | {"Resource": arns[0] if len(arns) == 1 else arns}


def _with_names(command: click.Command) -> click.Command:
    """Add an option for each name."""
    for name, (option, _, words) in NAMES.items():
        command.params.append(click.Option([option, name], metavar=name.upper(), help=words))
    return command


@_with_names
@click.command(
    epilog=manual(
        ("what submit needs, for a role", "batchsubmit policy submit --account 111122223333 > policy.json"),
        ("with a ledger in a table", "batchsubmit policy submit --ledger-table batchsubmit"),
        exits={1: "", 2: "usage wrong", 3: "", 4: ""},
    )
)
@click.argument("command", type=click.Choice([*POLICIES, *ALSO]))
@click.option("--membership", "memberships", multiple=True, metavar="ID", help="Only this one; may be repeated.")
def policy(command: str, memberships: tuple[str, ...], **given: Any) -> None:  # noqa: ANN401 (click's)
    """Print the least IAM policy that COMMAND needs, as JSON.

    `read` is for all commands that only look, `nightly` for a submit with its ledger in a table, copies in S3 and
    notices, `setup` for who makes queue and table. What you do not name stays an example, and is listed.
    """
    given["region"] = given["region"] or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    names = {name: value for name, value in given.items() if value}
    made = make_policy(command, names, memberships)
    click.echo(json.dumps(made, indent=2))
    text = " ".join(resources for _, _, resources in POLICIES[ALSO.get(command, command)])
    used = [name for name in NAMES if name in ("account", "region") or f"{{{name}}}" in text]
    examples = [f"{option} {example}" for option, example, _ in (NAMES[name] for name in used if name not in names)]
    if examples:
        say(f"These are examples, give your own: {', '.join(examples)}")
