"""Numbers with their nouns, as people say them. Pure; a number is never told with the wrong form of what it counts."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 job`, `1,200 jobs`; `plural` where an s is not enough: `2 retries`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def agreeing(number: int, one: str, many: str) -> str:
    """The word that agrees with a number: `was` or `were`."""
    return one if number == 1 else many
