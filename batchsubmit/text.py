"""Text from outside (names, the service's messages) made safe to show to a person. Pure."""


def printable(text: str) -> str:
    """Put a text into one line, with nothing in it that a terminal would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 job`, `1,200 jobs`; `plural` where an s is not enough: `2 retries`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def agreeing(number: int, one: str, many: str) -> str:
    """The word that agrees with a number: `was` or `were`."""
    return one if number == 1 else many
