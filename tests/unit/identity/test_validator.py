from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from moorage.clients.keystone import TokenInfo
from moorage.identity.validator import EACH, PENDING, REFUSED_ENTRIES, RESERVED, KeystoneValidator
from moorage.model.caller import Permission
from moorage.model.errors import Forbidden, Refused, RetryLater, Unauthenticated

GOOD = TokenInfo("u1", "alice", "p1", "ours", frozenset({"Member", "READER"}), expires_at=1000.0)


@dataclass
class PaperKeystone:
    """Knows some tokens; `gate` closed, it does not answer yet."""

    tokens: dict[str, TokenInfo] = field(default_factory=lambda: {"good": GOOD})
    asked: list[str] = field(default_factory=list)
    failure: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def show_token(self, subject: str) -> TokenInfo | None:
        self.asked.append(subject)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self.tokens.get(subject)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keystone() -> PaperKeystone:
    made = PaperKeystone()
    made.gate.set()
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def validator(keystone: PaperKeystone, clock: Clock) -> KeystoneValidator:
    return KeystoneValidator(keystone, cache_seconds=30.0, entries=3, clock=clock)


async def test_a_caller(validator: KeystoneValidator) -> None:
    caller = await validator.validate("good")
    assert (caller.user_id, caller.project_id) == ("u1", "p1")
    assert caller.roles == {"member", "reader"}
    assert caller.permission is Permission.MEMBER


async def test_asked_once_and_again_when_time_is_up(
    validator: KeystoneValidator, keystone: PaperKeystone, clock: Clock
) -> None:
    for _ in range(5):
        await validator.validate("good")
    assert keystone.asked == ["good"]
    clock.now += 29.9
    await validator.validate("good")
    assert len(keystone.asked) == 1
    del keystone.tokens["good"]  # revoked
    clock.now += 0.2
    with pytest.raises(Unauthenticated):
        await validator.validate("good")
    assert len(keystone.asked) == 2


async def test_never_believed_past_its_own_end(
    validator: KeystoneValidator, keystone: PaperKeystone, clock: Clock
) -> None:
    keystone.tokens["good"] = replace(GOOD, expires_at=clock.now + 5)
    await validator.validate("good")
    clock.now += 5
    with pytest.raises(Unauthenticated):
        await validator.validate("good")


async def test_nothing_is_kept_with_a_cache_of_no_time(
    keystone: PaperKeystone, clock: Clock
) -> None:
    validator = KeystoneValidator(keystone, cache_seconds=0.0, clock=clock)
    for _ in range(2):
        await validator.validate("good")
    assert len(keystone.asked) == 2


async def test_a_no_is_kept_for_a_short_time(
    validator: KeystoneValidator, keystone: PaperKeystone, clock: Clock
) -> None:
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await validator.validate("forged")
    assert keystone.asked == ["forged"]
    clock.now += 5.1
    keystone.tokens["forged"] = GOOD
    await validator.validate("forged")


async def test_forged_tokens_do_not_push_good_ones_out(
    validator: KeystoneValidator, keystone: PaperKeystone
) -> None:
    await validator.validate("good")
    for number in range(REFUSED_ENTRIES + 10):
        with pytest.raises(Unauthenticated):
            await validator.validate(f"forged-{number}")
    keystone.asked.clear()
    await validator.validate("good")
    assert keystone.asked == []
    assert len(validator._refused) == REFUSED_ENTRIES


async def test_the_least_recently_used_goes_first(
    validator: KeystoneValidator, keystone: PaperKeystone
) -> None:
    keystone.tokens |= dict.fromkeys("abcd", GOOD)
    for token in "abcad":
        await validator.validate(token)
    keystone.asked.clear()
    for token in "acd":
        await validator.validate(token)
    assert keystone.asked == []
    await validator.validate("b")
    assert keystone.asked == ["b"]


async def test_one_question_for_many_who_ask_at_once(
    validator: KeystoneValidator, keystone: PaperKeystone
) -> None:
    keystone.gate.clear()
    asking = [asyncio.create_task(validator.validate("good")) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()  # who began hangs up
    await asyncio.sleep(0)
    keystone.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert len({id(caller) for caller in answers[1:]}) == 1
    assert keystone.asked == ["good"]
    assert validator._pending == {}


async def test_a_refusal_is_shared_and_its_traceback_is_not(
    validator: KeystoneValidator,
) -> None:
    asking = [asyncio.create_task(validator.validate("forged")) for _ in range(3)]
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert len({id(error) for error in errors}) == 3


async def test_a_token_for_no_project(
    validator: KeystoneValidator, keystone: PaperKeystone
) -> None:
    keystone.tokens["good"] = replace(GOOD, project_id=None, project_name=None)
    for _ in range(2):
        with pytest.raises(Forbidden, match="not for a project"):
            await validator.validate("good")
    assert keystone.asked == ["good"]


async def test_silence_is_not_an_answer(
    validator: KeystoneValidator, keystone: PaperKeystone
) -> None:
    keystone.failure = RetryLater("silent")
    with pytest.raises(RetryLater):
        await validator.validate("good")
    keystone.failure = None
    assert (await validator.validate("good")).user_name == "alice"


async def test_silence_does_not_lengthen_a_token_s_life(
    validator: KeystoneValidator, keystone: PaperKeystone, clock: Clock
) -> None:
    await validator.validate("good")
    keystone.failure = RetryLater("silent")
    clock.now += 31
    with pytest.raises(RetryLater):
        await validator.validate("good")


async def test_moorage_itself_is_refused(
    validator: KeystoneValidator, keystone: PaperKeystone
) -> None:
    """A wrong password of ours is not the tenant's fault, nor for the tenant to read."""
    keystone.failure = Refused("Keystone at http://inside refuses moorage")
    with pytest.raises(RetryLater) as caught:
        await validator.validate("good")
    assert "inside" not in caught.value.reason


async def settled() -> None:
    """Every task that can go on has: those that ask, and the questions that they began."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_too_many_questions_at_once(
    validator: KeystoneValidator, keystone: PaperKeystone
) -> None:
    keystone.gate.clear()
    asking = [
        asyncio.create_task(validator.validate(f"t{n}", f"10.0.0.{n % 99}"))
        for n in range(PENDING - RESERVED)
    ]
    await settled()
    with pytest.raises(RetryLater, match="Too many"):
        await validator.validate("good")
    keystone.gate.set()
    await asyncio.gather(*asking, return_exceptions=True)
    await validator.validate("good")


async def test_what_one_address_forges_keeps_no_place_from_another(
    validator: KeystoneValidator, keystone: PaperKeystone
) -> None:
    keystone.gate.clear()
    asking = [
        asyncio.create_task(validator.validate(f"t{n}", f"10.0.0.{n % 2}")) for n in range(PENDING)
    ]
    await settled()
    assert len(keystone.asked) == 2 * EACH
    good = asyncio.create_task(validator.validate("good", "10.0.0.9"))
    await settled()
    keystone.gate.set()
    assert (await good).user_id == "u1"
    told = await asyncio.gather(*asking, return_exceptions=True)
    assert sum(isinstance(error, RetryLater) for error in told) == PENDING - 2 * EACH
    with pytest.raises(Unauthenticated):
        await validator.validate("another", "10.0.0.0")


async def test_tokens_that_were_good_have_places_of_their_own(
    validator: KeystoneValidator, keystone: PaperKeystone, clock: Clock
) -> None:
    await validator.validate("good", "10.0.0.0")
    clock.now += 31.0
    keystone.gate.clear()
    asking = [
        asyncio.create_task(validator.validate(f"t{n}", f"10.0.0.{n % 99}")) for n in range(PENDING)
    ]
    await settled()
    assert len(keystone.asked) == 1 + PENDING - RESERVED
    good = asyncio.create_task(validator.validate("good", "10.0.0.0"))
    await settled()
    keystone.gate.set()
    assert (await good).user_id == "u1"
    await asyncio.gather(*asking, return_exceptions=True)


async def test_a_token_that_was_revoked_was_good_no_longer(
    validator: KeystoneValidator, keystone: PaperKeystone, clock: Clock
) -> None:
    await validator.validate("good")
    del keystone.tokens["good"]
    clock.now += 31.0
    with pytest.raises(Unauthenticated):
        await validator.validate("good")
    clock.now += 31.0
    keystone.gate.clear()
    asking = [asyncio.create_task(validator.validate(f"t{n}")) for n in range(EACH)]
    await settled()
    with pytest.raises(RetryLater, match="Too many"):
        await validator.validate("good")
    keystone.gate.set()
    await asyncio.gather(*asking, return_exceptions=True)


@pytest.mark.parametrize("token", ["", "a b", "a\nX-Evil: 1", "\0", "\u00fc", "x" * 5000, "\ud800"])
async def test_what_no_header_can_carry_is_not_asked_about(
    validator: KeystoneValidator, keystone: PaperKeystone, token: str
) -> None:
    with pytest.raises(Unauthenticated):
        await validator.validate(token)
    assert keystone.asked == []


async def test_tokens_are_neither_kept_nor_shown(validator: KeystoneValidator) -> None:
    await validator.validate("good")
    with pytest.raises(Unauthenticated) as caught:
        await validator.validate("forged")
    kept = repr(vars(validator._known)) + repr(vars(validator._refused))
    assert "good" not in kept
    assert "forged" not in kept + repr(caught.value)
