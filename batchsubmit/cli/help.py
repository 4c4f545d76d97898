"""`batchsubmit help`: the manual's pages, as they were installed."""

from importlib.resources import files

import click
from rich.console import Console
from rich.markdown import Markdown

from batchsubmit.cli.options import command
from batchsubmit.cli.output import say
from batchsubmit.errors import UsageError
from batchsubmit.text import nearest, printable


@command(
    ("the pages there are", "batchsubmit help"),
    ("one of them", "batchsubmit help manifest"),
    exits={0: "printed", 2: "there is no such page"},
)
@click.argument("topic", required=False)
def help(topic: str | None) -> int:  # noqa: A001 (the command's own name)
    """Print the page of the manual on TOPIC; without one, list the pages.

    The options of a command are printed by its own --help.
    """
    pages = {path.name.removesuffix(".md"): path for path in files("batchsubmit").joinpath("docs").iterdir()}
    if topic is None:
        for name in sorted(pages):
            title = pages[name].read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
            say(f"{name:16} {title}", to_stdout=True)
    elif topic in pages:
        text, console = pages[topic].read_text(encoding="utf-8"), Console()
        if console.is_terminal:
            console.print(Markdown(text, hyperlinks=False))
        else:
            click.echo(text, nl=False)
    else:
        meant = nearest(topic, pages)
        hint = f"did you mean {meant}?" if meant else "batchsubmit help lists the pages"
        raise UsageError(f"there is no page {printable(topic)!r}; {hint}")
    return 0
