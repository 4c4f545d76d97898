"""Text from outside (names, the service's messages) made safe to show to a person. Pure."""


def printable(text: str) -> str:
    """Put a text into one line, with nothing in it that a terminal would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
