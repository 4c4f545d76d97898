"""The samples in configs/deploy: they parse, and the commands, options, settings, actions and metrics in them exist."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from book import COMMANDS
from boto3.session import Session
from botocore import xform_name
from botocore.validate import ParamValidator
from deploy_samples import (
    DEPLOY,
    DOCKERFILE,
    README,
    ROOT,
    actions,
    command_lines,
    containers,
    manifests,
    pod_specs,
    policies,
    read_json,
    trusts,
)

from batchsubmit import __version__
from batchsubmit.app.grace import LAST_SECONDS
from batchsubmit.config import Settings, load_settings
from batchsubmit.observers.base import Readings
from batchsubmit.observers.metrics import Metrics

TO_CUT_OFF_SECONDS = 5
"""From the moment at which nothing more is waited for to the end of the process."""

PROMISED = {
    "worker": {"--queue-url", "--ledger", "--config", "--check"},
    "submit": {"--report", "--upload", "--notify"},
}
"""Options of commands that are being built beside these samples; to be emptied as they arrive."""

SERVICES = {"cleanrooms-ml": "cleanroomsml", "servicequotas": "service-quotas"}
"""IAM's prefixes, where botocore names the service otherwise."""

WITHOUT_A_CALL = {"cleanrooms:PassMembership", "iam:PassRole", "s3:GetObjectVersion", "s3:ListBucket"}
"""Permissions that a call of another action needs: there is no operation of that name."""

CONDITION_OPERATORS = {"ArnEquals", "BoolIfExists", "ForAllValues:StringEquals", "StringEquals"}

GRANTED_BY = {
    "BatchWriteItem": "PutItem",
    "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
    "CompleteMultipartUpload": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "DeleteMessageBatch": "DeleteMessage",
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "SendMessageBatch": "SendMessage",
    "UploadPart": "PutObject",
}
"""Operations that IAM knows under another operation's name."""


def operations(service: str) -> set[str]:
    """The operations in botocore's model of a service."""
    model = Session().client(SERVICES.get(service, service), region_name="us-east-1").meta.service_model
    return set(model.operation_names)


def options_of(command: str) -> set[str]:
    """The options that a command has, or will have."""
    promised = PROMISED.get(command, set())
    if command not in COMMANDS:
        return promised
    return promised | {option for parameter in COMMANDS[command].params for option in parameter.opts}


@pytest.mark.parametrize(("where", "arguments"), list(command_lines()))
def test_every_command_line_in_a_sample_is_one_of_ours(where: str, arguments: list[str]) -> None:
    """The command and each of its options exist."""
    command, *rest = arguments
    assert command in {*COMMANDS, *PROMISED}, where
    assert {word for word in rest if word.startswith("--")} <= options_of(command), where


def test_every_container_runs_the_image_that_the_dockerfile_builds_at_this_version() -> None:
    """A sample never lags behind the program."""
    assert {container.image.rpartition("/")[2] for container in containers()} == {f"batchsubmit:{__version__}"}


def test_every_variable_in_a_sample_is_a_setting_or_aws_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the settings take its value (load_settings refuses names that it does not know)."""
    for container in containers():
        with monkeypatch.context() as environment:
            for name, value in container.variables.items():
                assert name.startswith("BATCHSUBMIT_") or name in {"AWS_REGION", "TMPDIR"}
                environment.setenv(name, value)
            load_settings()


def test_the_worker_s_settings_load_and_are_those_of_its_config_map(tmp_path: Path) -> None:
    """But for the address, which a kubelet must reach from outside."""
    inside = tmp_path / "worker.toml"
    inside.write_text(manifests("kubernetes-worker.yaml")["ConfigMap"]["data"]["worker.toml"])
    alone = load_settings(ROOT / "configs" / "worker.toml").model_dump()
    in_cluster = load_settings(inside).model_dump()
    assert in_cluster["worker"].pop("metrics_host") == "0.0.0.0"  # noqa: S104 (in a pod)
    assert alone["worker"].pop("metrics_host") == "127.0.0.1"
    assert in_cluster == alone


def test_the_workers_of_a_sample_share_the_account_s_limit_of_calls() -> None:
    """One a second for all of them, which is the default for one."""
    limit = Settings().rate.max_per_second
    assert limit == 1
    variables = [each.variables for each in containers() if "BATCHSUBMIT_RATE__MAX_PER_SECOND" in each.variables]
    [on_fargate] = [float(each["BATCHSUBMIT_RATE__MAX_PER_SECOND"]) for each in variables]
    assert read_json("ecs-service-worker.json")["desiredCount"] * on_fargate == limit
    in_cluster = load_settings(ROOT / "configs" / "worker.toml").rate.max_per_second
    assert manifests("kubernetes-worker.yaml")["Deployment"]["spec"]["replicas"] * in_cluster == limit


def test_a_container_s_grace_is_longer_than_the_worker_s() -> None:
    """Which is longer than a long poll and than a call, in Fargate's bound of 120 s too."""
    settings = load_settings(ROOT / "configs" / "worker.toml")
    grace = settings.worker.grace_seconds
    assert grace == Settings().worker.grace_seconds
    assert grace > settings.worker.wait_seconds
    assert grace > settings.aws.connect_timeout_seconds + settings.aws.read_timeout_seconds
    for pod in pod_specs().values():
        assert pod["terminationGracePeriodSeconds"] >= grace + LAST_SECONDS + TO_CUT_OFF_SECONDS
    for container in containers():
        assert grace + LAST_SECONDS + TO_CUT_OFF_SECONDS <= container.raw.get("stopTimeout", 120) <= 120


@pytest.mark.parametrize("name", ["kubernetes-worker.yaml", "kubernetes-nightly.yaml"])
def test_a_pod_has_no_rights_that_it_does_not_need(name: str) -> None:
    """Not root, nothing writable but its volumes, no capabilities, no token, bounded memory."""
    pod = pod_specs()[name]
    (container,) = pod["containers"]
    uid = int(re.findall(r"^USER (\d+):", DOCKERFILE, re.MULTILINE)[-1])
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == uid
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert "memory" in container["resources"]["limits"]
    assert manifests(name)["ServiceAccount"]["automountServiceAccountToken"] is False
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_probes_ask_what_the_worker_serves_where_it_serves_it() -> None:
    """Paths of the server, at the settings' port."""
    container = pod_specs()["kubernetes-worker.yaml"]["containers"][0]
    probes = {name: container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe", "startupProbe")}
    assert [probe["path"] for probe in probes.values()] == ["/livez", "/readyz", "/livez"]
    assert {probe["port"] for probe in probes.values()} == {"metrics"}
    port = Settings().worker.metrics_port
    assert container["ports"] == [{"name": "metrics", "containerPort": port}]
    assert f"EXPOSE {port}" in DOCKERFILE
    mapping = read_json("ecs-task-worker.json")["containerDefinitions"][0]["portMappings"]
    assert mapping[0]["containerPort"] == port


def test_the_labels_that_select_a_worker_s_pods_are_the_pods_own() -> None:
    """Deployment, disruption budget and network policy all find them."""
    worker = manifests("kubernetes-worker.yaml")
    labels = worker["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        worker["Deployment"]["spec"]["selector"],
        worker["PodDisruptionBudget"]["spec"]["selector"],
        worker["NetworkPolicy"]["spec"]["podSelector"],
    ):
        assert selector["matchLabels"] == labels


def test_a_night_that_ended_by_itself_is_not_begun_again() -> None:
    """After the deadline, the same time means the next day's: only a lost pod is replaced."""
    night = manifests("kubernetes-nightly.yaml")["CronJob"]["spec"]
    disrupted, ended = night["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert (disrupted["action"], disrupted["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget"}])
    assert (ended["action"], ended["onExitCodes"]["values"]) == ("FailJob", [1, 2, 3, 4])
    assert night["concurrencyPolicy"] == "Forbid"


@pytest.mark.parametrize(
    ("name", "service", "operation"),
    [
        ("ecs-task-worker.json", "ecs", "RegisterTaskDefinition"),
        ("ecs-task-nightly.json", "ecs", "RegisterTaskDefinition"),
        ("ecs-service-worker.json", "ecs", "CreateService"),
        ("eventbridge-schedule-nightly.json", "scheduler", "CreateSchedule"),
    ],
)
def test_a_sample_for_an_aws_call_is_a_valid_request(name: str, service: str, operation: str) -> None:
    """Its members, their types and bounds are those of the service's model."""
    model = Session().client(service, region_name="us-east-1").meta.service_model
    report = ParamValidator().validate(read_json(name), model.operation_model(operation).input_shape)
    assert not report.has_errors(), report.generate_report()


def test_the_schedule_and_the_service_start_the_tasks_of_the_samples() -> None:
    """By family, with roles that the scheduler may hand over."""
    nightly, worker = read_json("ecs-task-nightly.json"), read_json("ecs-task-worker.json")
    target = read_json("eventbridge-schedule-nightly.json")["Target"]
    assert target["EcsParameters"]["TaskDefinitionArn"].endswith(f":task-definition/{nightly['family']}")
    assert read_json("ecs-service-worker.json")["taskDefinition"] == worker["family"]
    run, lend = policies()["iam-scheduler.json"]
    assert set(lend["Resource"]) == {nightly["taskRoleArn"], nightly["executionRoleArn"]}
    # IAM compares the ARN as the schedule spells it: without a revision, ":*" alone does not match.
    named = target["EcsParameters"]["TaskDefinitionArn"]
    assert set(run["Resource"]) == {named, f"{named}:*"}
    assert run["Condition"]["ArnEquals"]["ecs:cluster"] == target["Arn"]
    assert read_json("ecs-service-worker.json")["cluster"] == target["Arn"].rpartition("/")[2]


def test_the_state_machine_starts_the_task_that_the_schedule_starts_with_the_same_rights() -> None:
    """And may follow it in its cluster."""
    asked = read_json("step-functions-nightly.json")["States"]["Night"]["Parameters"]
    target = read_json("eventbridge-schedule-nightly.json")["Target"]
    parameters = target["EcsParameters"]
    assert (asked["Cluster"], asked["TaskDefinition"]) == (target["Arn"], parameters["TaskDefinitionArn"])
    network = parameters["NetworkConfiguration"]["awsvpcConfiguration"]
    assert asked["NetworkConfiguration"] == {"AwsvpcConfiguration": network}
    run, follow, _, lend = policies()["iam-step-functions.json"]
    assert [run, lend] == policies()["iam-scheduler.json"]
    assert follow["Resource"] == f"{target['Arn'].replace(':cluster/', ':task/')}/*"


@pytest.mark.parametrize("task", ["ecs-task-worker.json", "ecs-task-nightly.json"])
def test_ecs_may_fetch_the_image_and_write_the_log_of_a_task(task: str) -> None:
    """By the execution role's policy: that repository and that group, in that region, and no more."""
    (container,) = read_json(task)["containerDefinitions"]
    registry, _, image = container["image"].partition("/")
    account, _, _, region, *_ = registry.split(".")
    options = container["logConfiguration"]["options"]
    assert container["logConfiguration"]["logDriver"] == "awslogs"
    sign_in, pull, write = policies()["iam-execution.json"]
    assert sign_in["Resource"] == "*"
    assert pull["Resource"] == f"arn:aws:ecr:{region}:{account}:repository/{image.partition(':')[0]}"
    group = f"{options['awslogs-region']}:{account}:log-group:{options['awslogs-group']}"
    assert write["Resource"] == f"arn:aws:logs:{group}:*"
    assert f"create-log-group --log-group-name {options['awslogs-group']}\n" in README


def test_a_key_for_the_jobs_may_be_used_by_the_roles_through_clean_rooms_ml_and_by_the_service() -> None:
    """As AWS's page on data protection has it for inference jobs; a grant is bound where one is made."""
    statements = {each["Sid"]: each for each in read_json("kms-key-policy.json")["Statement"]}
    admin, *rest = statements.values()
    tasks = [read_json(f"ecs-task-{name}.json") for name in ("worker", "nightly")]
    account = tasks[0]["taskRoleArn"].split(":")[4]
    assert (admin["Principal"], admin["Action"]) == ({"AWS": f"arn:aws:iam::{account}:root"}, ["kms:*"])
    for principal in (
        {"AWS": sorted(task["taskRoleArn"] for task in tasks)},
        {"Service": "cleanrooms-ml.amazonaws.com"},
    ):
        use, grant = (each for each in rest if each["Principal"] == principal)
        assert use["Action"] == ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]
        assert grant["Action"] == ["kms:CreateGrant"]
        assert "kms:GrantOperations" in grant["Condition"]["ForAllValues:StringEquals"]
        if "AWS" in principal:
            through = {"kms:ViaService": "cleanrooms-ml.us-east-1.amazonaws.com"}
            assert use["Condition"]["StringEquals"] == grant["Condition"]["StringEquals"] == through
    assert {each["Resource"] for each in statements.values()} == {"*"}
    assert {action.partition(":")[2] for each in rest for action in each["Action"]} <= operations("kms")


def documents() -> dict[str, list[dict[str, Any]]]:
    """The statements of every policy among the samples, by file."""
    return {**policies(), **trusts(), "kms-key-policy.json": read_json("kms-key-policy.json")["Statement"]}


@pytest.mark.parametrize("name", sorted(documents()))
def test_a_policy_is_one_by_iam_s_grammar_and_within_its_quotas(name: str) -> None:
    """Its members, the principal where one is asked for, ARNs of one account and region, and its size."""
    document, statements = read_json(name), documents()[name]
    is_of_identity = name.startswith("iam-")
    most = {"iam": 10_240, "trust": 2_048, "kms": 32_768}[name.partition("-")[0]]
    assert len("".join(json.dumps(document).split())) <= most
    assert document.keys() == {"Version", "Statement"}
    assert document["Version"] == "2012-10-17"
    sids = [each["Sid"] for each in statements]
    assert len(set(sids)) == len(sids)
    for each in statements:
        assert re.fullmatch("[A-Za-z0-9]+", each["Sid"])
        assert each["Effect"] == "Allow"
        assert ("Principal" in each) != is_of_identity
        assert ("Resource" in each) != name.startswith("trust-")
        assert each.keys() <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
        assert set(each.get("Condition", {})) <= CONDITION_OPERATORS
        for place in re.findall(r"arn:[^\"]*", json.dumps(each)):
            arn, partition, _service, region, account, _ = place.split(":", 5)
            assert (arn, partition, region or "us-east-1") == ("arn", "aws", "us-east-1")
            assert (account or "123456789012") == "123456789012"


@pytest.mark.parametrize("name", sorted(documents()))
def test_a_policy_is_a_valid_argument_of_the_call_that_takes_it(name: str) -> None:
    """PutRolePolicy, CreateRole, and for the key CreateKey and PutKeyPolicy."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    match name.partition("-")[0]:
        case "iam":
            members = {"RoleName": "batchsubmit", "PolicyName": "batchsubmit", "PolicyDocument": text}
            calls = [("iam", "PutRolePolicy", members)]
        case "trust":
            calls = [("iam", "CreateRole", {"RoleName": "batchsubmit", "AssumeRolePolicyDocument": text})]
        case _:
            put = {"KeyId": "alias/batchsubmit", "Policy": text}
            calls = [("kms", "CreateKey", {"Policy": text}), ("kms", "PutKeyPolicy", put)]
    for service, operation, members in calls:
        model = Session().client(service, region_name="us-east-1").meta.service_model
        report = ParamValidator().validate(members, model.operation_model(operation).input_shape)
        assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize(
    ("name", "service"), [("ecs-tasks", "ecs-tasks"), ("scheduler", "scheduler"), ("step-functions", "states")]
)
def test_a_role_is_assumed_by_its_service_for_this_account_only(name: str, service: str) -> None:
    """No other account's task or schedule gets at it."""
    (statement,) = trusts()[f"trust-{name}.json"]
    assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


@pytest.mark.parametrize("task", ["ecs-task-worker.json", "ecs-task-nightly.json"])
def test_a_task_s_root_is_read_only_and_it_is_not_root(task: str) -> None:
    """Only /data is written, scratch files included."""
    (container,) = read_json(task)["containerDefinitions"]
    assert container["readonlyRootFilesystem"]
    assert container["user"] == "10001:10001"
    assert container["linuxParameters"] == {"capabilities": {"drop": ["ALL"]}}
    assert container["mountPoints"] == [{"sourceVolume": "data", "containerPath": "/data"}]
    assert {"name": "TMPDIR", "value": "/data"} in container["environment"]


def test_every_action_in_a_policy_is_an_operation_of_its_service() -> None:
    """As botocore's models have them: a misspelled action would be refused by nobody and grant nothing."""
    granted = set().union(*(actions(name) for name in policies())) - WITHOUT_A_CALL
    for service in {action.split(":")[0] for action in granted}:
        named = {action.split(":")[1] for action in granted if action.startswith(f"{service}:")}
        assert named <= operations(service), service


@pytest.mark.parametrize("name", sorted(policies()))
def test_a_policy_says_why_it_needs_each_action(name: str) -> None:
    """One line each in the README, both ways; nothing by wildcard."""
    section = README.split(f"\n### {name}", 1)[1].split("\n### ", 1)[0]
    rows = re.findall(r"^\| `([\w:-]+)` \| (.+) \|$", section, re.MULTILINE)
    assert sorted(action for action, _ in rows) == sorted(actions(name))
    assert all(why.strip() for _, why in rows)
    assert not [action for action in actions(name) if "*" in action]


def _calls_in(source: str) -> set[str]:
    """Methods of clients, pages of operations, and operations by name where a client is in play."""
    named = set(re.findall(r"client\.([a-z0-9]+(?:_[a-z0-9]+)+)\b", source))
    named |= set(re.findall(r'get_paginator\("(\w+)"\)', source))
    if "open_client" in source:
        named |= {xform_name(name) for name in re.findall(r'"([A-Z]\w+)"', source)}
    return named


def test_every_call_in_the_program_is_allowed_by_a_policy() -> None:
    """What the code asks of AWS, found in the code: a new call needs a line in a policy."""
    allowed = set().union(*(actions(name) for name in policies()))
    sources = [path for path in (ROOT / "batchsubmit").rglob("*.py") if "sandbox" not in path.parts]
    asked = set().union(*(_calls_in(path.read_text(encoding="utf-8")) for path in sources))
    found: dict[str, str] = {}
    for service in ("cleanrooms", "cleanrooms-ml", "dynamodb", "logs", "s3", "servicequotas", "sns", "sqs"):
        calls = {xform_name(each): each for each in operations(service)}
        found |= {call: f"{service}:{GRANTED_BY.get(calls[call], calls[call])}" for call in asked & calls.keys()}
    assert {"cleanrooms-ml:StartTrainedModelInferenceJob", "s3:GetObject"} <= set(found.values())
    assert set(found.values()) <= allowed


@pytest.mark.parametrize("name", ["iam-submit.json", "iam-worker.json", "iam-nightly.json"])
def test_quotas_may_be_read_by_the_one_call_that_reads_them(name: str) -> None:
    """And the page says that it is needed with its setting only."""
    assert {each for each in actions(name) if each.startswith("servicequotas:")} == {"servicequotas:ListServiceQuotas"}
    section = README.split(f"\n### {name}", 1)[1].split("\n### ", 1)[0]
    (why,) = re.findall(r"^\| `servicequotas:ListServiceQuotas` \| (.+) \|$", section, re.MULTILINE)
    assert "optional, only with `slots.service_quotas`" in why
    assert "service_quotas" in type(Settings().slots).model_fields


def test_every_sample_stands_in_the_readme_and_the_other_way_round() -> None:
    """No file is forgotten, none is invented."""
    files = {path.name for path in DEPLOY.iterdir()} - {"README.md"}
    named = {
        name for cell in re.findall(r"^\| (`.*?) \|", README, re.MULTILINE) for name in re.findall(r"`(.*?)`", cell)
    }
    patterns = {name for name in named if "*" in name}
    assert patterns == {"iam-*.json"}
    assert {name for name in files if not name.startswith("iam-")} == {
        name for name in named - patterns if re.fullmatch(r"[\w-]+\.(json|yaml|sh)", name)
    }
    used = set(re.findall(r"configs/deploy/([\w.-]+\w)", README))
    assert used <= files


def metric_names() -> set[str]:
    """Every name under which a series is scraped from a worker with something to tell."""
    lanes = {key: {"m": 1} for key in ("jobs_waiting", "slots_used", "slots_known")}
    return {name for family in Metrics(lambda: Readings(**lanes)).registry.collect() for name in _series(family)}


def _series(family: Any) -> set[str]:  # noqa: ANN401 (a Metric of prometheus_client)
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
    return {family.name + suffix for suffix in suffixes.get(family.type, [""])}


def test_every_metric_on_the_dashboard_is_scraped_and_every_metric_of_ours_is_on_it() -> None:
    """An empty panel is worse than none."""
    dashboard = read_json("grafana-dashboard.json")
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = set().union(*(re.findall(r"\b(?:batchsubmit|process)_\w+", each) for each in expressions))
    assert used <= metric_names()
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in metric_names() if name.startswith("batchsubmit_")}
    assert ours == {re.sub(r"_bucket$", "", name) for name in used if name.startswith("batchsubmit_")}
    assert all(each.count("(") == each.count(")") and each.count("{") == each.count("}") for each in expressions)


def test_a_dashboard_s_panels_have_a_unit_and_a_place_of_their_own() -> None:
    """Nothing overlaps, nothing stands outside of the 24 columns."""
    panels = read_json("grafana-dashboard.json")["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_only_a_worker_s_image_has_a_health_check() -> None:
    """A batch ends by itself; the last stage is what a plain build makes."""
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    names = [stage.split("\n", 1)[0].rsplit(" ", 1)[-1] for stage in stages]
    assert names == ["build", "runtime", "worker", "batch"]
    assert 'CMD ["batchsubmit", "worker", "--check"]' in stages[2]
    assert "HEALTHCHECK NONE" in stages[3]
    assert "'.[metrics]'" in stages[0]
