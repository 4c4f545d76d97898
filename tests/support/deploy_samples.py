"""The samples in configs/deploy as tests see them: parsed, with the command lines and variables that they set."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "configs" / "deploy"
README = (DEPLOY / "README.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def read_json(name: str) -> Any:  # noqa: ANN401 (JSON)
    """Parse one of the samples."""
    return json.loads((DEPLOY / name).read_text(encoding="utf-8"))


def manifests(name: str) -> dict[str, Any]:
    """The Kubernetes objects of a file, by kind."""
    objects = [each for each in yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")) if each]
    by_kind = {each["kind"]: each for each in objects}
    assert len(by_kind) == len(objects)
    return by_kind


@dataclass(frozen=True, slots=True)
class Container:
    """What a sample starts."""

    where: str
    image: str
    arguments: list[str]
    variables: dict[str, str] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)


def pod_specs() -> dict[str, Any]:
    """The pods of the Kubernetes samples, by file."""
    worker = manifests("kubernetes-worker.yaml")["Deployment"]["spec"]
    nightly = manifests("kubernetes-nightly.yaml")["CronJob"]["spec"]["jobTemplate"]["spec"]
    return {
        "kubernetes-worker.yaml": worker["template"]["spec"],
        "kubernetes-nightly.yaml": nightly["template"]["spec"],
    }


def containers() -> Iterator[Container]:
    """Every container that a sample runs."""
    for name in ("ecs-task-worker.json", "ecs-task-nightly.json"):
        for each in read_json(name)["containerDefinitions"]:
            variables = {pair["name"]: pair["value"] for pair in each["environment"]}
            yield Container(name, each["image"], each["command"], variables, each)
    for name, pod in pod_specs().items():
        for each in pod["containers"]:
            variables = {pair["name"]: pair["value"] for pair in each["env"]}
            yield Container(name, each["image"], each["args"], variables, each)


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every batchsubmit command line in the samples, without the program's name, and where it stands."""
    for container in containers():
        yield container.where, container.arguments
        check = container.raw.get("healthCheck")
        if check:
            assert check["command"][:2] == ["CMD", "batchsubmit"]
            yield f"{container.where}, health check", check["command"][2:]
    for words in re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE):
        program, *arguments = json.loads(words)
        assert program == "batchsubmit"
        yield "Dockerfile", arguments
    for comment in re.findall(r"^# (batchsubmit .*)$", (ROOT / "configs/worker.toml").read_text(), re.MULTILINE):
        yield "worker.toml", shlex.split(comment)[1:]


def policies() -> dict[str, list[dict[str, Any]]]:
    """The statements of each IAM policy, by file."""
    return {path.name: read_json(path.name)["Statement"] for path in sorted(DEPLOY.glob("iam-*.json"))}


def trusts() -> dict[str, list[dict[str, Any]]]:
    """The statements of each trust policy, by file."""
    return {path.name: read_json(path.name)["Statement"] for path in sorted(DEPLOY.glob("trust-*.json"))}


def actions(name: str) -> set[str]:
    """What a policy allows."""
    return {action for statement in policies()[name] for action in statement["Action"]}
