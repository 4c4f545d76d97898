"""`batchsubmit policy`: the least IAM policy of each command, which `configs/deploy/iam-*.json` are compared with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from batchsubmit.cli.main import manual
from batchsubmit.cli.output import say
from batchsubmit.schema.arns import partition_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the resources are called; the defaults are the examples of `configs/deploy/`."""

    account: str = "123456789012"
    region: str = "us-east-1"
    memberships: tuple[str, ...] = ("*",)
    table: str = "batchsubmit"
    queue: str = "batchsubmit"
    bucket: str = "example-batches"
    topic: str = "batchsubmit-nightly"


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

ALSO = {"plan": "read", "status": "read", "report": "read", "export": "read", "verify": "read", "logs": "read"}
"""Commands that need no more than another policy has."""


def make_policy(command: str, names: Names, *, with_table: bool = False) -> dict[str, Any]:
    """Make the policy of a command; `with_table` where its ledger is a table, which not every policy assumes."""
    statements = POLICIES[ALSO.get(command, command)]
    if with_table and not any("{table}" in resources for _, _, resources in statements):
        statements = (*statements, _KEEP)
    return {"Version": "2012-10-17", "Statement": [_statement(each, names) for each in statements]}


def _statement(statement: _Statement, names: Names) -> dict[str, Any]:
    sid, actions, resources = statement
    shown: dict[str, Any] = {"Sid": sid, "Effect": "Allow", "Action": actions.split()}
    if not resources:
        return shown | {"Resource": "*", "Condition": {"StringEquals": {"aws:RequestedRegion": names.region}}}
    places = [place for each in resources.split() for place in _places(each, names)]
    return shown | {"Resource": places[0] if len(places) == 1 else places}


def _places(template: str, names: Names) -> list[str]:
    """The ARNs that a template stands for: one for each membership where it has one."""
    partition = partition_of(names.region) or "aws"
    services = ("cleanrooms", "dynamodb", "logs", "sns", "sqs")
    values = {each: f"arn:{partition}:{each}:{names.region}:{names.account}" for each in services}
    stem, dot, fifo = names.queue.partition(".")
    values |= {"table": names.table, "queue": names.queue, "dead": f"{stem}-dead{dot}{fifo}"}
    values |= {"bucket": names.bucket, "topic": names.topic, "s3": f"arn:{partition}:s3::"}
    memberships = names.memberships if "{membership}" in template else ("",)
    return [template.format(membership=each, **values) for each in memberships]


_OPTIONS = {
    "account": "--account",
    "region": "--region",
    "table": "--ledger-table",
    "queue": "--queue",
    "bucket": "--bucket",
    "topic": "--topic",
}


@click.command(
    epilog=manual(
        ("what submit needs, for a role", "batchsubmit policy submit --account 111122223333 > policy.json"),
        (
            "only in two memberships, with a ledger in a table",
            (
                "batchsubmit policy submit --membership 11111111-1111-4111-8111-111111111111 "
                "--membership 22222222-2222-4222-8222-222222222222 --ledger-table batchsubmit"
            ),
        ),
        exits={1: "", 2: "usage wrong", 3: "", 4: ""},
    )
)
@click.argument("command", type=click.Choice([*POLICIES, *ALSO]))
@click.option("--account", metavar="ID", help="The account's number.")
@click.option("--region", metavar="REGION", envvar=["AWS_REGION", "AWS_DEFAULT_REGION"], help="The region.")
@click.option("--membership", "memberships", multiple=True, metavar="ID", help="Only this one; may be repeated.")
@click.option("--ledger-table", "table", metavar="TABLE", help="The DynamoDB table of a shared ledger.")
@click.option("--queue", metavar="NAME", help="The SQS queue; its dead-letter queue is NAME-dead.")
@click.option("--bucket", metavar="NAME", help="The bucket of manifests/ and results/.")
@click.option("--topic", metavar="NAME", help="The SNS topic of notices.")
def policy(command: str, **given: Any) -> None:  # noqa: ANN401 (click's)
    """Print the least IAM policy that COMMAND needs, as JSON.

    `read` is for all commands that only look, `nightly` for a submit with its ledger in a table, copies in S3 and
    notices, `setup` for who makes queue and table. What you do not name stays an example, and is listed.
    """
    named = {name: value for name, value in given.items() if value}

    def made(**other: str) -> dict[str, Any]:
        return make_policy(command, Names(**(named | other)), with_table="table" in named)

    click.echo(json.dumps(made(), indent=2))
    unnamed = {name: option for name, option in _OPTIONS.items() if name not in named}
    used = [f"{option} {getattr(Names(), name)}" for name, option in unnamed.items() if made(**{name: "?"}) != made()]
    if used:
        say(f"These are examples, give your own: {', '.join(used)}")
