"""`batchsubmit policy`."""

import json
from typing import Any

import click

from batchsubmit.app.policy import ALSO, POLICIES, Names
from batchsubmit.app.policy import policy as make_policy
from batchsubmit.cli.main import manual
from batchsubmit.cli.output import say

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
