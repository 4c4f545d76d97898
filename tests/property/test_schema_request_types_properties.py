"""What the quick test of a request lets pass, the checks that explain let pass, and the other way round."""

import csv
import io
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from strategies import ACCOUNT, MEMBERSHIP, REGION, any_requests, arn, minimal_request, valid_requests
from test_sandbox_validation_properties import ODD_REQUESTS, WHOLE

from batchsubmit.manifest.check import CheckedManifest, Terms, open_reader, take_inventory
from batchsubmit.manifest.defaults import Defaults, complete
from batchsubmit.manifest.file import ManifestFile
from batchsubmit.schema import Fault, Part, RequestChecker, canonical, without_nulls

OTHER = "fedcba98-7654-3210-fedc-ba9876543210"
COLUMNS = {
    "name": "job-{}",
    "membershipIdentifier": MEMBERSHIP,
    "trainedModelArn": arn("trained-model", "one"),
    "dataSource.mlInputChannelArn": arn("ml-input-channel", "customers-{}"),
    "resourceConfig.instanceType": "ml.m5.xlarge",
    "resourceConfig.instanceCount": "1",
    "outputConfiguration.members.0.accountId": ACCOUNT,
    "environment.PARTITION": "{}",
    "tags.team": "growth",
    "description": "100 % {}",
    "kmsKeyArn": f"arn:aws:kms:{REGION}:123456789012:key/{{}}",
    "containerExecutionParameters": '{"maxPayloadInMB": 5}',
    "var.note": "note {}",
    "var.partition": "p{}",
}
ODD_CELLS = [
    "", " ", "é", "\ue000", "%s", "a\\b", 'say "hello"', "a,b", "a\nb", "a\r\nb", "\0", "x" * 70, "x" * 300,
    MEMBERSHIP.upper(), OTHER, "job-1", "9", "null", '{"maxPayloadInMB": 500}', "{", "aws:", "\x7f", "\t", "a;b",
    arn("trained-model", "x").replace(ACCOUNT, "999988887777"), arn("ml-input-channel", "a/b"),
    arn("ml-input-channel", "x").replace(REGION, "eu-west-1"), "arn:aws:kms:us-east-1:1:key/1",
    arn("ml-input-channel", "x").replace(MEMBERSHIP, OTHER),
]  # fmt: skip
ODD_LINES = [b"", b",", b'"', b'a"b', b",,,,,,,,,,,,,", b"\xff", b"\r", b'"open,', b"name", b"\0", b'"",""']


class Explaining(RequestChecker):
    """A checker that explains every request."""

    def spelled(self, request: Any, part: Part | None = None) -> bytes | None:  # noqa: ANN401 (JSON)
        """Spell a request in which no check finds a fault, whatever was found of its part before."""
        del part
        return None if self.explain(request) else canonical(without_nulls(request))


@given(ODD_REQUESTS | any_requests() | valid_requests(), st.booleans())
@example(minimal_request(tags={"aw\u017f:": "v"}), True)
@example(minimal_request(tags={f"k{number}": "v" for number in range(50)}), True)
@example(minimal_request(tags={"k": "\ud800"}), True)
@example(minimal_request(resourceConfig={"instanceType": "\ud800"}), True)
@example(minimal_request(name="a\n"), False)
@example(minimal_request(kmsKeyArn=float("nan")), False)
@example(minimal_request(trainedModelArn=WHOLE["trainedModelArn"] + "\n"), False)
def test_one_request_is_judged_alike(request: dict[str, Any], own_tag: bool) -> None:
    """Also where its membership and ARNs are those of a good one before it."""
    checker = RequestChecker(own_tag=own_tag)
    for good in (WHOLE, minimal_request(), minimal_request(kmsKeyArn=None)):
        assert checker.spelled(good, checker.part_of(good)) is not None
    for part in (None, Part(), *[checker.part_of(request)] * 2):
        spelled = checker.spelled(request, part)
        assert spelled == (None if checker.explain(request) else canonical(without_nulls(request)))


def inventory_of(checker: RequestChecker, data: bytes, defaults: dict[str, Any], terms: Terms) -> CheckedManifest:
    """What the first pass finds."""
    spooled = ManifestFile(label="m", format="csv", sha256="", file=io.BytesIO(data))
    return take_inventory(open_reader(spooled, defaults=defaults, checker=checker), terms)


def findings(inventory: CheckedManifest) -> tuple[object, ...]:
    """All that is known after the first pass."""
    index = inventory.index
    return (
        list(index),
        list(index.offsets),
        list(index.lines),
        [index.membership(number) for number in range(len(index))],
        [index.ordinal(number) for number in range(len(index))],
        inventory.region,
        inventory.problems,
        inventory.problem_count,
        inventory.invalid_count,
        inventory.invalid,
        inventory.warnings,
        inventory.accounts,
    )


def spelled(rows: list[list[str]], delimiter: str, line_end: str, quoting: int) -> list[bytes]:
    """The rows as csv.writer writes them, one by one."""
    lines = []
    for row in rows:
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=quoting).writerow(row)
        lines.append(out.getvalue().encode())
    return lines


@st.composite
def manifests(draw: st.DrawFn) -> bytes:
    """Rows that differ in a few cells, with odd cells and odd lines strewn in."""
    left_out = draw(st.sets(st.sampled_from(list(COLUMNS)), max_size=3)) if draw(st.booleans()) else set()
    names = [name for name in COLUMNS if name not in left_out]
    if draw(st.booleans()):
        names = list(draw(st.permutations(names)))
    odd = draw(
        st.dictionaries(st.integers(0, 9), st.tuples(st.sampled_from(names), st.sampled_from(ODD_CELLS)), max_size=4)
    )
    rows = [[COLUMNS[name].replace("{}", str(number)) for name in names] for number in range(10)]
    for number, (name, cell) in odd.items():
        rows[number][names.index(name)] = cell
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    lines = spelled([names, *rows], draw(st.sampled_from(",;\t")), line_end, quoting)
    for place, line in draw(st.lists(st.tuples(st.integers(1, 10), st.sampled_from(ODD_LINES)), max_size=2)):
        lines.insert(place, line + line_end.encode())
    data = b"".join(lines)
    return data[: len(data) - draw(st.sampled_from([0, 0, 1, 2]))]


DEFAULTS: list[dict[str, Any]] = [
    {},
    {"membershipIdentifier": MEMBERSHIP, "trainedModelArn": arn("trained-model", "one"), "tags": {"by": "default"}},
    {"dataSource": {"mlInputChannelArn": arn("ml-input-channel", "c-{partition}")}, "description": "{name}"},
    {"resourceConfig": {"instanceType": "ml.m5.xlarge"}, "outputConfiguration": {"members": [{"accountId": ACCOUNT}]}},
]
TERMS = [Terms(), Terms(allow_duplicates=True, batch="nightly"), Terms(keep_invalid=True)]


@given(manifests(), st.sampled_from(DEFAULTS), st.sampled_from(TERMS))
@example(b'name,x\n"x,y,z",y\n', {}, Terms())
def test_a_manifest_is_judged_alike(data: bytes, defaults: dict[str, Any], terms: Terms) -> None:
    """To the key, the offset and the last word, whatever stands in the way."""
    quick = inventory_of(RequestChecker(region=REGION), data, defaults, terms)
    assert findings(quick) == findings(inventory_of(Explaining(region=REGION), data, defaults, terms))


def test_a_good_request_is_not_explained() -> None:
    """That would take several times as long."""

    class Counting(RequestChecker):
        explained = 0

        def explain(self, request: Any) -> list[Fault]:  # noqa: ANN401 (JSON)
            self.explained += 1
            return super().explain(request)

    checker = Counting(region=REGION)
    for number in range(10):
        whole = WHOLE | {"name": f"job-{number}", "environment": {"A": str(number)}}
        assert complete(whole, {}, Defaults({}, checker), checker)[0] == []
    assert checker.explained == 0


def test_what_precedes_an_arn_s_last_slash_is_compared() -> None:
    """Where channels vary from row to row, one of another account is found."""
    rows = [[cell.replace("{}", str(number)) for cell in COLUMNS.values()] for number in range(40)]
    rows[20][3] = rows[20][3].replace(ACCOUNT, "999988887777")
    data = b"".join(spelled([list(COLUMNS), *rows], ",", "\n", csv.QUOTE_MINIMAL))
    inventory = inventory_of(RequestChecker(region=REGION), data, {}, Terms(foreign_arns="error"))
    assert [(problem.line, problem.column) for problem in inventory.problems] == [(22, 4)]
