"""The operator's accounts at one upstream: their slots in offers, and their tokens."""

from __future__ import annotations

from typing import Any, cast

import pytest

import settings
from settings.accounts import Account, list_accounts
from wire.events import Failed
from wire.jobs import ChatJob, RelayedJob
from wire.line.claims import Claim
from wire.line.offers import Offer
from wire.seal import Seal
from workers.accounts import PoolAccounts
from workers.openai.server import OpenAiServer
from workers.openai.survey import Survey
from workers.opening import serve_openai, serve_pandora
from workers.secret_text import NOT_SHOWN, without_secret
from workers.upstream import Upstream, UpstreamBusy

SEAL = Seal(b"a secret of the tests")
LINES = ["tok-1 one", "pk-2 two", "tok-3 three 5"]
PANDORA = settings.Settings(upstream=settings.Upstream(max_concurrency=6))


class File:
    """A file of accounts that may change."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines

    def __call__(self) -> tuple[Account, ...]:
        return list_accounts(self.lines)


def pool(file: File, kind: Any = "pandora") -> PoolAccounts:
    return PoolAccounts("main", settings.Upstream(kind=kind), file, SEAL)


def claim(account: str, key: str = "key") -> Claim:
    return Claim("main", account, "chat:@gpt_4_s", "j", 1, key, "gpt_4_s", [], b"")


async def offered_by_pandora(accounts: PoolAccounts | None, *, passes_through: bool) -> Offer:
    upstream = cast(Upstream[ChatJob], None)
    served = serve_pandora("main", PANDORA, upstream, accounts, passes_through)
    found = (await served.survey()).offer
    assert found is not None
    return accounts.add_to(found) if accounts else found


async def test_pandora_offers_own_accounts_shared_ones_or_both() -> None:
    accounts = pool(File(*LINES))
    own = ["chat", "images"]
    shared = [f"{sort}:@{family}" for sort in own for family in ("gpt_4_s", "gpt_4_mobile")]
    offer = await offered_by_pandora(None, passes_through=True)
    assert (offer.lanes, offer.accounts) == (own, {})
    offer = await offered_by_pandora(accounts, passes_through=True)
    assert {*own, *shared} < {*offer.lanes}
    assert offer.accounts == {"main/one": 1, "main/two": 3, "main/three": 5}
    assert offer.max_concurrency == 6
    offer = await offered_by_pandora(accounts, passes_through=False)
    assert {*shared} < {*offer.lanes}
    assert not {*own} & {*offer.lanes}


async def test_accounts_of_an_api_have_the_slots_that_it_names_for_all_or_is_assumed_to_have() -> (
    None
):
    accounts = pool(File("tok-1 one", "tok-2 two 9"), "openai")
    for known, most in ((True, 4), (False, 0)):
        found = Survey({"m": "m"}, False, 4, slots_known=known)

        class Server:
            async def survey(self, found: Survey = found) -> Survey:
                return found

        limits = settings.Upstream(kind="openai", base_url="http://a")
        served = serve_openai("main", limits, cast(OpenAiServer, Server()), accounts)
        offer = (await served.survey()).offer
        assert offer is not None
        assert accounts.add_to(offer).accounts == {"main/one": 4, "main/two": 9}
        assert offer.max_concurrency == most


def test_another_token_has_another_name_which_does_not_show_it() -> None:
    file = File("tok-1 one")
    accounts = pool(file)
    offer = Offer(upstream="main", max_concurrency=1, accounts={}, lanes=[], about=b"")
    names = [accounts.add_to(offer).tokens]
    file.lines = ("tok-2 one",)
    names.append(accounts.add_to(offer).tokens)
    assert names[0].keys() == names[1].keys() == {"main/one"}
    assert names[0] != names[1]
    assert "tok" not in repr(names)


def test_a_job_gets_the_token_of_its_account_and_waits_without_one() -> None:
    file = File(*LINES)
    served = serve_pandora("main", PANDORA, cast(Upstream[ChatJob], None), pool(file))
    shared = ChatJob(4, "j", "gpt_4_s", "", [])
    assert served.with_token(shared, claim("main/two")) == ChatJob(4, "j", "gpt_4_s", "pk-2", [])
    own = ChatJob(4, "j", "gpt_4_s", "mine", [])
    assert served.with_token(own, claim("key", "key")) == own
    file.lines = ("tok-1 one",)
    with pytest.raises(UpstreamBusy):
        served.with_token(shared, claim("main/two"))
    alone = serve_pandora("main", PANDORA, cast(Upstream[ChatJob], None))
    with pytest.raises(UpstreamBusy):
        alone.with_token(shared, claim("main/one"))
    relayed = RelayedJob(4, "j", "completions", "m", "k", b"{}")
    assert alone.with_token(relayed, claim("main")) == relayed, "the only credential"


def test_the_upstream_is_asked_with_one_account_after_another() -> None:
    file = File("tok-1", "tok-2", "tok-3")
    accounts = pool(file, "openai")
    asked = []
    for _ in range(4):
        asked.append(accounts.asking().reveal())
        accounts.ask_with_next()
    assert asked == ["tok-1", "tok-2", "tok-3", "tok-1"]
    file.lines = ("tok-9",)
    assert accounts.asking().reveal() == "tok-9"


def test_a_failure_that_shows_a_secret_is_replaced() -> None:
    secret = "a-long-secret-token"
    for shown in (f"bad {secret}!", f"bad {secret[:9]}"):
        failed = without_secret(Failed("rate_limited", shown, "cap", 9.0), secret)
        assert failed == Failed("rate_limited", NOT_SHOWN, retry_after=9.0)
    harmless = Failed("rate_limited", "bad a-long", "cap")
    assert without_secret(harmless, secret) is harmless
    assert without_secret(harmless, "") is harmless
