"""As much of the AWS CLI as configs/deploy uses, over the same service models.

It stands for the real one, whose own botocore does not go together with aiobotocore's. Operations and options that do
not exist are errors here as they are there. What was asked is noted in the file that `CALLS` names. Run as a script,
this is a process that has imported boto3 and forks for each call.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import jmespath
from boto3.session import Session
from botocore import xform_name

_CALL = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()], [0, 1, 2])
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.recv(8) or 1))
"""


@contextmanager
def aws_cli(folder: Path) -> Iterator[None]:
    """Put an `aws` into the folder."""
    program, address = folder / "aws", str(folder / "aws.socket")
    program.write_text(_CALL.format(python=sys.executable, address=address))
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        number = listening.fileno()
        with subprocess.Popen([sys.executable, __file__, str(number)], pass_fds=[number]) as server:
            try:
                yield
            finally:
                server.terminate()


def _serve(listening: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    botocore.session.create_loader = cache(botocore.session.create_loader)
    while True:
        caller, _ = listening.accept()
        with caller:
            if not os.fork():
                _answer(caller)


def _answer(caller: socket.socket) -> None:
    """Make a caller's call, with its streams, its folder and its variables. Never returns."""
    status = 1
    try:
        order, streams, *_ = socket.recv_fds(caller, 1 << 18, 3)
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        words, folder, environment = json.loads(order)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        main(words)
        status = 0
    except BaseException:  # noqa: BLE001 (a process ends here, with what went wrong)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        caller.send(str(status).encode())
        os._exit(status)


def main(words: list[str]) -> None:
    """Make one call and print what `--query` selects, as text."""
    service, operation, *rest = words
    client = Session().client("s3" if service == "s3api" else service)
    if operation == "wait":
        waiter, *rest = rest
        client.get_waiter(waiter.replace("-", "_")).wait(
            **dict(_members(_request_shape(client, "DescribeTable"), rest))
        )
        return
    names = {xform_name(name, "-"): name for name in client.meta.service_model.operation_names}
    given = [*rest]
    query = _take(given, "--query")
    assert (_take(given, "--output") == "text") == (query is not None)
    if (service, operation) == ("ecr", "get-login-password"):  # the CLI's own word for it
        operation, query = "get-authorization-token", "authorizationData[0].authorizationToken"
    document = _take(given, "--cli-input-json")
    request = json.loads(_text(document)) if document else {}
    request |= dict(_members(_request_shape(client, names[operation]), given))
    answer = getattr(client, xform_name(names[operation]))(**request)
    with Path(os.environ["CALLS"]).open("a") as calls:
        calls.write(json.dumps([names[operation], request]) + "\n")
    if query is not None:
        print(jmespath.search(query, answer))  # noqa: T201 (what the CLI does)


def _request_shape(client: Any, operation: str) -> Any:  # noqa: ANN401 (botocore's)
    return client.meta.service_model.operation_model(operation).input_shape


def _take(words: list[str], option: str) -> str | None:
    if option not in words:
        return None
    place = words.index(option)
    _, value = words[place : place + 2]
    del words[place : place + 2]
    return value


def _members(shape: Any, words: list[str]) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 (botocore's)
    """Turn options and their values into members of a request."""
    members = {f"--{xform_name(name, '-')}": name for name in shape.members}
    while words:
        name = members[words.pop(0)]
        values = []
        while words and not words[0].startswith("--"):
            values.append(words.pop(0))
        yield name, _value(shape.members[name], values)


def _value(shape: Any, values: list[str]) -> Any:  # noqa: ANN401 (botocore's)
    match shape.type_name:
        case "boolean":
            assert not values
            return True
        case "list" if shape.member.type_name == "structure":
            return [_pairs(value) for value in values]
        case "list":
            return values
        case "map" | "structure":
            (value,) = values
            return json.loads(value) if value.startswith("{") else _pairs(value)
        case "blob":
            (value,) = values
            return Path(value).read_text()
        case "integer":
            (value,) = values
            return int(value)
        case _:
            (value,) = values
            return _text(value)


def _text(value: str) -> str:
    return Path(value.removeprefix("file://")).read_text() if value.startswith("file://") else value


def _pairs(text: str) -> dict[str, Any]:
    pairs = (pair.split("=", 1) for pair in text.split(","))
    return {name: {"true": True, "false": False}.get(value, value) for name, value in pairs}


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
