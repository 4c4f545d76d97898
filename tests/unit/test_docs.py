"""README, book and configs say what the program does: commands, options, exit statuses, events, settings."""

import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click
import msgspec
import pytest
from book import BOOK, COMMANDS, DOCS, PAGES, README, ROOT, section
from botocore.session import Session
from settings_table import HEAD, settings_table

from batchsubmit import errors as exits
from batchsubmit.cleanrooms.quotas import AppliedQuotas, quotas_in
from batchsubmit.cli.help import manual
from batchsubmit.cli.main import commands
from batchsubmit.config import Settings, load_settings, setting_names
from batchsubmit.core.job_states import DEFAULT_PER_ACCOUNT, DEFAULT_PER_MEMBERSHIP
from batchsubmit.core.jobs import Event
from batchsubmit.report.export import COLUMNS
from batchsubmit.sandbox.refusals import ACCOUNT_QUOTA, MEMBERSHIP_QUOTA

FIGURES = (ROOT / "tests" / "bench" / "README.md").read_text(encoding="utf-8")
SCREEN = 50
REFERENCE = {"settings", "troubleshooting", "development"}


def _commands() -> Iterator[str]:
    """Every command as it is typed; a group counts by what is in it."""
    for name, command in COMMANDS.items():
        if isinstance(command, click.Group):
            yield from (f"{name} {inner}" for inner in command.commands)
        else:
            yield name


def test_every_command_is_on_the_page_of_commands_and_the_other_way_round() -> None:
    """The table of commands is the list of commands."""
    documented = set(
        re.findall(
            r"^\| `batchsubmit ([a-z]+(?: [a-z][a-z-]+)?)", section(PAGES["commands"], "All commands"), re.MULTILINE
        )
    )
    assert documented == set(_commands())


def test_the_quotas_are_those_that_are_refused_by_with_their_codes_and_defaults() -> None:
    """Names as the sandbox and AWS spell them, wherever the book has a code."""
    rows = re.findall(r"^\| `(Pending.+?)` \| (\d+) \| `(L-\w+)` \|$", PAGES["aws"], re.MULTILINE)
    assert rows == [
        (MEMBERSHIP_QUOTA, str(DEFAULT_PER_MEMBERSHIP), "L-0F77DDDB"),
        (ACCOUNT_QUOTA, str(DEFAULT_PER_ACCOUNT), "L-249F4B83"),
    ]
    assert set(re.findall(r"L-[0-9A-F]{8}", BOOK)) == {code for _, _, code in rows}
    told = [{"QuotaName": name, "Value": float(value)} for name, value, _ in rows]
    assert quotas_in(told) == AppliedQuotas(per_membership=DEFAULT_PER_MEMBERSHIP, per_account=DEFAULT_PER_ACCOUNT)


def test_what_is_said_of_the_payer_and_of_list_is_in_the_service_models() -> None:
    """Members, the change request, and that nothing deletes a job."""
    session = Session()
    jobs, collaborations = session.get_service_model("cleanroomsml"), session.get_service_model("cleanrooms")
    assert "mlModelInferencePayerAccountId" in jobs.operation_model("StartTrainedModelInferenceJob").input_shape.members
    for shape in ("MemberSpecification", "CreateMembershipInput"):
        found = collaborations.shape_for(shape)
        for member in ("paymentConfiguration", "machineLearning", "modelInference", "isResponsible"):
            found = found.members[member]
        assert found.type_name == "boolean"
    assert "ADD_PAYER_CANDIDATE" in collaborations.shape_for("ChangeType").enum
    assert not [name for name in jobs.operation_names if name.startswith("Delete") and "InferenceJob" in name]
    listing = jobs.operation_model("ListTrainedModelInferenceJobs").input_shape.members
    assert listing["maxResults"].metadata["max"] == 100
    paging = {"nextToken", "maxResults"}
    assert listing.keys() - paging == {"membershipIdentifier", "trainedModelArn", "trainedModelVersionIdentifier"}


def test_every_documented_option_of_submit_exists() -> None:
    """No option in the table is invented."""
    submit = COMMANDS["submit"]
    known = {option for each in submit.params for option in (*each.opts, *each.secondary_opts)}
    assert set(re.findall(r"--[a-z][a-z-]+", section(PAGES["commands"], "Options of submit"))) - {"--help"} <= known


def test_every_command_has_help_with_an_example() -> None:
    """Each command says what it does and how it is called; an example has only options that there are."""
    for name, command in COMMANDS.items():
        text = command.get_help(click.Context(command, info_name=name))
        assert re.search(rf"Example.*\bbatchsubmit {name}\b", text, re.DOTALL), name
        known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
        for line in re.findall(rf"batchsubmit {name} (.*)", text):
            assert set(re.findall(r"(?<!\S)--[a-z-]+", line)) <= known, line


def test_the_exit_statuses_are_those_of_the_code() -> None:
    """The table has each once, and so has each command's help; none is invented."""
    statuses = sorted(value for name, value in vars(exits).items() if name.startswith("EXIT_"))
    for text in (section(PAGES["commands"], "Exit status"), section(README, "Commands and exit statuses")):
        assert [int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)] == statuses
    helped = re.findall(r"^  (\d+)  ", manual(("", "")), re.MULTILINE)
    assert [int(number) for number in helped] == statuses


def test_every_command_s_help_has_its_exit_statuses() -> None:
    """As a manual page has them, for the commands of a group too."""
    for name in _commands():
        word, *inner = name.split()
        command = COMMANDS[word]
        for each in inner:
            assert isinstance(command, click.Group)
            command = command.commands[each]
        text = command.get_help(click.Context(command, info_name=name))
        assert "Exit status:\n" in text, name
        assert re.search(rf"# .+\n +batchsubmit {name}\b", text), name


def test_every_setting_and_variable_that_the_book_names_is_there() -> None:
    """Also outside the table: a renamed key leaves no old one behind in the text."""
    known = {".".join(names) for names in setting_names()}
    sections = {name.split(".")[0] for name in known}
    named = set(re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_]+)", BOOK))
    assert named - {"aws.py", "log.py"} <= known
    variables = set(re.findall(r"\bBATCHSUBMIT_([A-Z_]*[A-Z])\b", BOOK))
    assert {name.lower().replace("__", ".") for name in variables} <= known


def test_every_option_that_the_book_shows_with_a_command_is_one_of_it() -> None:
    """In every line that could be typed."""
    lines = re.findall(r"^ *(?:\$ )?(?:\.venv/bin/)?batchsubmit ([^\n#|&>]+)", BOOK, re.MULTILINE)
    assert len(lines) > 30
    for line in lines:
        words = line.split()
        command = COMMANDS.get(words[0], commands)
        if isinstance(command, click.Group) and words[1:] and words[1] in command.commands:
            command = command.commands[words[1]]
        known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known | {"--help", "--version"}, line


def test_every_event_of_the_ledger_is_in_the_book_with_its_members() -> None:
    """The table of events is the events of the code, both ways."""
    rows = re.findall(r"^\| (`.*?) \| .*? \| (.*?) \|$", section(PAGES["ledger-events"], "Events"), re.MULTILINE)
    documented = {name for cells, _ in rows for name in re.findall(r"`(\w+)`", cells)}
    types = {msgspec.inspect.type_info(kind).tag: kind for kind in Event.__args__}
    assert documented == set(types)
    for cells, more in rows:
        members = set(re.findall(r"`(\w+)`", more)) - {"start", "lookup"}
        names = re.findall(r"`(\w+)`", cells)
        own = {field for name in names for field in types[name].__struct_fields__}
        assert members == own - {"at", "job", "membership", "name"} or "run" in own
        assert members <= own


def test_the_example_settings_are_the_defaults_and_complete() -> None:
    """configs/example.toml has every key, at its default; a key without a default stands as a comment."""
    path = ROOT / "configs" / "example.toml"
    assert load_settings(path).model_dump() == Settings().model_dump()
    text = path.read_text(encoding="utf-8")
    content = tomllib.loads(text)
    for group, *keys in setting_names():
        assert group in content
        for key in keys:
            assert key in content[group] or f"# {key} =" in text


def test_the_table_of_settings_is_what_the_model_says() -> None:
    """Each key with its default and its meaning, word for word; `python tests/settings_table.py` prints it."""
    page = PAGES["settings"]
    assert page[page.index(HEAD) :].split("\n\n", 1)[0].rstrip() + "\n" == settings_table()


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)
def test_every_link_leads_to_a_page_and_a_heading(path: Path) -> None:
    """Pages and sections are moved and renamed; no link stays behind."""
    for link in re.findall(r"\]\(((?!https?:)[^)]+)\)", path.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.is_file(), link
        assert not anchor or anchor in _anchors(target.read_text(encoding="utf-8")), link


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    """Nothing is more than two clicks away."""
    assert len(README.splitlines()) <= 300
    assert set(re.findall(r"\]\(batchsubmit/docs/([\w-]+)\.md", README)) == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_begins_with_what_the_reader_wants_to_do(name: str) -> None:
    """A title, then the paragraph by which one knows whether it is the right page."""
    title, purpose = PAGES[name].split("\n\n")[:2]
    assert re.fullmatch(r"# .+", title)
    assert re.match(r"(Use|Read|Look|Find|Write|Run|Keep|Export|You want|Submit)\b", purpose), purpose


@pytest.mark.parametrize("name", sorted({*PAGES} - REFERENCE))
def test_a_page_ends_within_three_screens(name: str) -> None:
    """A how-to is read as a whole; what is looked up has pages of its own."""
    assert len(PAGES[name].splitlines()) <= 3 * SCREEN


def test_every_picture_is_there_and_small() -> None:
    """A page that is read on a train; `python tests/picture.py` makes it again."""
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures
    for name in pictures:
        content = (ROOT / name).read_bytes()
        assert content.startswith((b"\x89PNG", b"<svg "))
        assert len(content) < 200_000


@pytest.mark.parametrize("name", sorted(set(re.findall(r"tests/\w+/\w+\.py", BOOK + FIGURES))))
def test_every_command_that_counts_a_figure_again_is_there(name: str) -> None:
    """A figure without its command is a claim."""
    assert (ROOT / name).is_file()


def test_the_demo_manifest_is_the_one_of_the_readme() -> None:
    """The README's main job submits configs/demo.csv, which has 22 rows."""
    assert "configs/demo.csv --sandbox --yes" in README
    assert len((ROOT / "configs" / "demo.csv").read_text(encoding="utf-8").splitlines()) == 23


def test_neither_botocore_nor_boto3_is_a_dependency() -> None:
    """The client pins botocore; a second pin would only fight it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = list(chain(project["dependencies"], *project["optional-dependencies"].values()))
    assert not [name for name in names if name.startswith(("botocore", "boto3"))]


def test_every_column_of_an_export_is_in_the_book() -> None:
    """The table of columns is the columns, both ways."""
    cells = re.findall(r"^\| (`.*?) \|", section(PAGES["export"], "Columns"), re.MULTILINE)
    assert [name for cell in cells for name in re.findall(r"`(\w+)`", cell)] == list(COLUMNS)


def test_every_dependency_is_in_the_table() -> None:
    """Each dependency has its reason."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    table = section(PAGES["development"], "Dependencies")
    for requirement in project["dependencies"]:
        assert re.split(r"[<>=]", requirement)[0] in table


def test_the_constraints_pin_every_dependency_and_name_no_registry() -> None:
    """Installs are repeatable, and no address is in the file."""
    lines = (ROOT / "configs" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {pin.split("==")[0].lower() for pin in pins}
    for requirement in project["dependencies"]:
        assert re.split(r"[<>=]", requirement)[0].lower() in pinned
