"""The end of each command's help, as a manual page has it: examples, exit statuses, and where to read on. Text only."""

_EXITS = {
    0: "done, or there was nothing to do",
    1: "some jobs failed for good",
    2: "usage, settings or manifest wrong: nothing was sent",
    3: "stopped before the end: run it again to go on",
    4: "the ledger is in use or damaged",
}


def manual(*examples: tuple[str, str], exits: dict[int, str] | None = None, more: str = "") -> str:
    r"""Make an epilog of `(what for, command line)` examples; a `\b` paragraph is left as it is by click."""
    lines = ["\b", "Examples:"]
    for purpose, line in examples:
        lines += [f"  # {purpose}", f"  {line}"]
    statuses = [f"  {number}  {words}" for number, words in (_EXITS | (exits or {})).items() if words]
    parts = ["\n".join(lines), "\n".join(["\b", "Exit status:", *statuses])]
    return "\n\n".join([*parts, more] if more else parts)
