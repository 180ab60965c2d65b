"""Answers of a slow source: kept, asked for once, bounded."""

from __future__ import annotations

import asyncio

import pytest

from zaqar_notify.auth import Remembered
from zaqar_notify.errors import Overloaded, StorageUnavailable


class Source:
    """Answers from `values` once `is_open` is set, unless it is away."""

    def __init__(self, **values: str) -> None:
        self.values = values
        self.asked: list[str] = []
        self.is_away = False
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.seconds = 0.0

    async def ask(self, key: str) -> str | None:
        self.asked.append(key)
        await self.is_open.wait()
        if self.is_away:
            raise StorageUnavailable("no answer")
        return self.values.get(key)

    def remembered(
        self,
        *,
        most: int = 100,
        most_asking: int = 10,
        most_waiting: int | None = None,
        patience_seconds: float = 0,
    ) -> Remembered[str, str]:
        return Remembered(
            self.ask,
            seconds=3,
            unknown_seconds=1,
            most=most,
            most_asking=most_asking,
            most_waiting=most_waiting,
            patience_seconds=patience_seconds,
            now=lambda: self.seconds,
        )


async def test_an_answer_is_kept_exactly_as_long_as_was_said() -> None:
    source = Source(a="1")
    remembered = source.remembered(patience_seconds=60)
    await remembered.get("a")
    source.values["a"] = "2"

    source.seconds = 2.999
    assert remembered.fresh("a") == "1"
    assert await remembered.get("a") == "1"

    source.seconds = 3
    assert remembered.fresh("a") is None
    assert await remembered.get("a") == "2"
    assert source.asked == ["a", "a"]


@pytest.mark.parametrize(("seconds", "found"), [(3.5, ["1", None]), (1000, [None, None])])
async def test_an_answer_that_is_old_is_given_to_nobody_while_it_is_asked_for_again(
    seconds: float, found: list[str | None]
) -> None:
    source = Source(a="1")
    remembered = source.remembered(patience_seconds=1)
    await remembered.get("a")
    del source.values["a"]
    source.seconds = seconds
    source.is_open.clear()

    first, second = (asyncio.create_task(remembered.get("a")) for _ in range(2))
    for _ in range(5):
        await asyncio.sleep(0)
    source.is_open.set()

    assert [await second, await first] == found


async def test_a_key_that_the_source_no_longer_knows_is_unknown_at_once() -> None:
    source = Source(a="1")
    remembered = source.remembered(patience_seconds=60)
    await remembered.get("a")
    del source.values["a"]

    source.seconds = 3
    assert await remembered.get("a") is None


async def test_an_unknown_key_is_kept_for_its_own_time() -> None:
    source = Source()
    remembered = source.remembered()
    assert await remembered.get("a") is None
    source.values["a"] = "1"

    source.seconds = 0.999
    assert await remembered.get("a") is None

    source.seconds = 1
    assert await remembered.get("a") == "1"


async def test_one_asks_for_all() -> None:
    source = Source(a="1")
    source.is_open.clear()
    remembered = source.remembered()
    callers = [asyncio.create_task(remembered.get("a")) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    source.is_open.set()

    assert await asyncio.gather(*callers) == ["1"] * 50
    assert source.asked == ["a"]


async def test_a_caller_that_goes_away_takes_the_answer_from_no_other() -> None:
    source = Source(a="1")
    source.is_open.clear()
    remembered = source.remembered()
    first, second = (asyncio.create_task(remembered.get("a")) for _ in range(2))
    await asyncio.sleep(0)

    first.cancel()
    await asyncio.sleep(0)
    source.is_open.set()

    assert await second == "1"


async def test_known_answers_go_on_while_the_source_is_away_and_new_keys_fail() -> None:
    source = Source(a="1", b="2")
    remembered = source.remembered(patience_seconds=60)
    await remembered.get("a")
    source.is_away = True

    source.seconds = 1000
    assert await remembered.get("a") == "1"
    with pytest.raises(StorageUnavailable):
        await remembered.get("b")


async def test_a_source_that_is_away_is_asked_again_a_second_later() -> None:
    source = Source(a="1")
    remembered = source.remembered(patience_seconds=60)
    await remembered.get("a")
    source.is_away = True
    source.seconds = 10
    await remembered.get("a")

    source.seconds = 10.999
    await remembered.get("a")
    assert len(source.asked) == 2

    source.seconds = 11
    await remembered.get("a")
    assert len(source.asked) == 3


async def test_no_caller_waits_long_for_a_slow_source_when_the_answer_is_known() -> None:
    source = Source(a="1")
    remembered = source.remembered()
    await remembered.get("a")
    source.is_open.clear()
    source.values["a"] = "2"

    source.seconds = 3
    assert await remembered.get("a") == "1"

    source.is_open.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert await remembered.get("a") == "2"


async def test_a_question_that_is_older_than_the_patience_holds_up_no_further_caller() -> None:
    source = Source(a="1")
    remembered = source.remembered(patience_seconds=60)
    await remembered.get("a")
    source.is_open.clear()
    source.seconds = 1000
    first = asyncio.create_task(remembered.get("a"))
    await asyncio.sleep(0)

    source.seconds += 60
    assert await remembered.get("a") == "1"
    assert not first.done()

    source.is_open.set()
    assert await first == "1"


async def test_a_defect_of_the_source_is_no_answer() -> None:
    async def defective(key: str) -> str | None:
        raise ZeroDivisionError

    remembered = Remembered(defective, seconds=3, unknown_seconds=1, most=1)

    with pytest.raises(ZeroDivisionError):
        await remembered.get("a")


async def test_unknown_keys_push_out_no_known_one_and_neither_sort_grows_for_ever() -> None:
    source = Source(a="1")
    remembered = source.remembered(most=10)
    await remembered.get("a")

    for number in range(100):
        await remembered.get(f"unknown {number}")
        assert await remembered.get("a") == "1"
    asked = len(source.asked)
    await remembered.get("unknown 90")
    assert len(source.asked) == asked
    await remembered.get("unknown 89")
    assert len(source.asked) == asked + 1

    source.values.update({f"known {number}": "x" for number in range(100)})
    for number in range(100):
        await remembered.get(f"known {number}")
    assert [remembered.fresh(f"known {number}") for number in (89, 90)] == [None, "x"]


async def test_a_flood_of_new_keys_asks_for_a_few_at_a_time_and_a_known_key_passes_it() -> None:
    source = Source(a="1")
    remembered = source.remembered(most_asking=4)
    await remembered.get("a")
    source.is_open.clear()
    flood = [asyncio.create_task(remembered.get(f"unknown {number}")) for number in range(100)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(source.asked) == 1 + 4

    source.seconds = 3
    refreshed = asyncio.create_task(remembered.get("a"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert source.asked[-1] == "a"

    source.is_open.set()
    assert await refreshed == "1"
    assert await asyncio.gather(*flood) == [None] * 100


@pytest.mark.parametrize("keys", [["x", "y", "z"], ["x", "x", "x"]])
async def test_only_so_many_wait_for_new_keys_and_known_keys_go_on(keys: list[str]) -> None:
    source = Source(a="1", x="2", y="2", z="2")
    remembered = source.remembered(most_waiting=2)
    await remembered.get("a")
    source.is_open.clear()
    waiting = [asyncio.create_task(remembered.get(key)) for key in keys[:2]]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await remembered.get(keys[2])
    assert await remembered.get("a") == "1"

    source.is_open.set()
    assert await asyncio.gather(*waiting) == ["2", "2"]
    assert await remembered.get(keys[2]) == "2"


async def test_what_is_forgotten_is_asked_for_again_and_an_answer_under_way_is_not_kept() -> None:
    source = Source(a="1")
    remembered = source.remembered()
    await remembered.get("a")
    source.seconds = 3
    source.is_open.clear()
    under_way = asyncio.create_task(remembered.get("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    remembered.forget("a")
    source.is_open.set()
    await under_way
    del source.values["a"]

    assert await remembered.get("a") is None
