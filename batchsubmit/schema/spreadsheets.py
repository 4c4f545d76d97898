"""What spreadsheets and other programs make of values: words for nothing, dates for names, shortened account ids."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from batchsubmit.schema.faults import Fault, shown, shown_path

_NO_WORDS = (
    "nan -nan nat null nil none undefined n/a #n/a #ref! #value! #name? #div/0! #null! #num! #spill! <na> (null)"
)
_AS_THEY_ARE = frozenset(["NaN", "-NaN", "NaT", "\\N"])
NO_VALUES = _AS_THEY_ARE | {form(word) for word in _NO_WORDS.split() for form in (str, str.upper, str.capitalize)}
"""What programs and spreadsheets write where they have no value, in the usual spellings."""

_AS_TEXT = "if it is not meant, write the name again, and format the column as text in the spreadsheet"
_MONTH = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:tember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?)"
)
_MONTHS = frozenset(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
_OF_A_SPREADSHEET = re.compile(
    r"(?P<date>\d{1,4}([-./])\d{1,2}\2\d{1,4}(?: \d{1,2}:\d\d(?::\d\d)?)?"
    rf"|\d{{1,2}}[- .]{{1,2}}{_MONTH}(?:[- ]\d{{2,4}})?|{_MONTH}[- ]\d{{1,4}})"
    r"|(?P<number>\d[.,]\d+e\+\d+)|(?P<narrow>#+\s*)",
    re.IGNORECASE | re.ASCII,
)
_WHAT_A_SPREADSHEET_DOES = {
    "date": "is a date: a spreadsheet makes one of what looks like it (1-2, may 3)",
    "number": "is a number as a spreadsheet shortens it, and the digits are lost",
    "narrow": "is what a spreadsheet shows in a column that is too narrow",
}
_KEPT_DIGITS = "and format the column as text in the spreadsheet, or it happens again"


def no_value(path: str, value: object, into: str = "") -> Fault:
    """Say that a value is such a word; `into` is the member that it would become a part of."""
    where = f", which would go into {into}" if into else ""
    right = "write the value meant, or leave it empty where there is none"
    return Fault(path=path, wrong=f"{shown(str(value))} is what a program writes for no value{where}", right=right)


def odd_values(request: Mapping[str, Any], variables: Mapping[str, str]) -> Sequence[Fault]:
    """Find what may not be meant in a good row: words for "nothing", a name with white space or from a spreadsheet."""
    name = request["name"]
    environment, tags = request.get("environment") or {}, request.get("tags") or {}
    description = request.get("description")
    found = []
    if name != name.strip():
        right = "remove it where it is not meant: with it, the job is another one"
        found.append(Fault(path="name", wrong="has white space at its ends", right=right))
    if (name[0] in "0123456789#" or name[:3].lower() in _MONTHS) and (made := _OF_A_SPREADSHEET.fullmatch(name)):
        wrong = f"{shown(name)} {_WHAT_A_SPREADSHEET_DOES[str(made.lastgroup)]}"
        found.append(Fault(path="name", wrong=wrong, right=_AS_TEXT))
    if not NO_VALUES.isdisjoint((description, *environment.values(), *tags.values(), *variables.values())):
        maps = {"": {"description": description}, "environment.": environment, "tags.": tags, "var.": variables}
        flat = {above + key: value for above, values in maps.items() for key, value in values.items()}
        found += [no_value(shown_path(path), value) for path, value in flat.items() if value in NO_VALUES]
    return found


def account_damage(value: str) -> tuple[str, str] | None:
    """What a spreadsheet made of an account id, and how to put it right; None where it is something else."""
    text = value.strip().strip("'")
    digits = re.sub(r"[.,]0+\Z|[ ,.-]", "", text)
    right = f"write {digits.zfill(12)}, {_KEPT_DIGITS}"
    if re.fullmatch(r"[0-9](?:[.,][0-9]+)?[eE]\+?[0-9]+", text, re.ASCII):
        return "is a number as a spreadsheet shortens it, and the digits are lost", f"write all twelve, {_KEPT_DIGITS}"
    if value.strip() == digits.zfill(12) or not re.fullmatch(r"[0-9]{8,12}", digits, re.ASCII):
        return None
    if len(digits) < 12:
        wrong = f"has {len(digits)} digits: a spreadsheet drops zeros in front"
        return wrong, f"if it begins with {'0' * (12 - len(digits))}, {right}"
    return "is not spelled as an account id", right
