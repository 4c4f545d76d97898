"""Our Signature Version 4 is botocore's, for whatever it may be given."""

from datetime import UTC, datetime
from unittest.mock import patch

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.wire.signature import Credentials, Scope, Signer, amz_date

words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
names = st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True)
moments = st.integers(0, 4_000_000_000)
credentials = st.builds(Credentials, access_key=words, secret_key=words, token=st.none() | words)
scopes = st.builds(Scope, region=names, service=names)
headers = st.dictionaries(
    st.from_regex(r"x-own-[a-z]{1,9}", fullmatch=True), st.lists(words, min_size=1, max_size=3).map("  ".join)
)
paths = st.from_regex(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,9}){1,3}", fullmatch=True)


def by_botocore(
    scope: Scope, signed: dict[str, str], path: str, body: bytes, moment: int, who: Credentials
) -> tuple[str, str]:
    """The date and the Authorization header that botocore makes."""
    request = AWSRequest("POST", f"https://host.example{path}", headers=signed, data=body)
    signer = SigV4Auth(ReadOnlyCredentials(who.access_key, who.secret_key, who.token), scope.service, scope.region)
    with patch("botocore.auth.get_current_datetime", lambda: datetime.fromtimestamp(moment, UTC)):
        signer.add_auth(request)
    return request.headers["X-Amz-Date"], request.headers["Authorization"]


@given(scopes, headers, paths, st.binary(max_size=200), st.lists(st.tuples(moments, credentials), min_size=1))
def test_every_signature_is_botocore_s(
    scope: Scope, signed: dict[str, str], path: str, body: bytes, calls: list[tuple[int, Credentials]]
) -> None:
    """One signer over changes of day and credentials, as a run that lasts has them."""
    signer = Signer(scope, {**signed, "host": "host.example"})
    for moment, who in calls:
        date, authorization = by_botocore(scope, signed, path, body, moment, who)
        assert amz_date(moment) == date
        assert signer.authorization(path, body, date, who) == authorization


def test_the_key_is_new_on_each_day() -> None:
    """A second before midnight and a second after."""
    signer = Signer(Scope(region="eu-west-1", service="cleanrooms-ml"), {"host": "h"})
    who = Credentials(access_key="AKID", secret_key="secret", token=None)
    midnight = 1_800_057_600
    assert midnight % 86_400 == 0
    for moment in (midnight - 1, midnight, midnight + 1):
        date, expected = by_botocore(
            Scope(region="eu-west-1", service="cleanrooms-ml"), {"host": "h"}, "/a", b"", moment, who
        )
        assert signer.authorization("/a", b"", date, who) == expected
