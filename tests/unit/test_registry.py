"""Every tool there is, as administrators allow it: limits, filters and the audit on every way in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.mcp.arguments import WrongArguments
from services.mcp.registry import Registry, UnknownTool
from services.mcp.tool import Result
from tests.toolbox import Echo, Ledger, Patient, Shelf, calling, registry


def code(result: Result) -> str:
    """That of the error that a result must be."""
    assert result.is_error
    assert result.structured is not None
    assert [block["text"] for block in result.blocks] == [result.structured["error"]["message"]]
    return str(result.structured["error"]["code"])


async def echo(tools: Registry, words: str = "a", **arguments: Any) -> Result:
    return await tools.call("echo", {"words": words, **arguments}, calling())


def offered(tools: Registry) -> list[str]:
    return [description.name for description in tools.offered()]


# Calling


async def test_a_tool_gets_its_arguments_with_the_defaults_of_its_schema() -> None:
    tool = Echo()
    await registry(tool).call("echo", {"words": "a", "more": None}, calling("usr_2"))
    ((arguments, caller),) = tool.asked
    assert arguments == {"words": "a", "times": 1}
    assert (caller.user_id, caller.token) == ("usr_2", "a token")


async def test_arguments_of_other_servers_are_passed_on_as_they_are() -> None:
    tool, tools = Echo("other_echo", provider="other"), registry()
    await tools.offer("other", [tool])
    await tools.call("other_echo", {"words": 5, "times": None, "new": 1}, calling())
    assert tool.asked[0][0] == {"words": 5, "times": None, "new": 1}


async def test_wrong_arguments_and_unknown_tools_are_the_callers_fault_and_run_nothing() -> None:
    tool, ledger = Echo(), Ledger()
    tools = registry(tool, ledger=ledger)
    with pytest.raises(WrongArguments):
        await tools.call("echo", {}, calling())
    with pytest.raises(UnknownTool):
        await tools.call("nothing", {}, calling())
    assert (tool.asked, ledger.calls) == ([], [])


@pytest.mark.parametrize(
    ("words", "said"),
    [("fail", "too_quiet"), ("not found", "media_not_found"), ("break", "tool_failed")],
)
async def test_whatever_goes_wrong_in_a_tool_is_a_result(words: str, said: str) -> None:
    ledger = Ledger()
    result = await echo(registry(Echo(), ledger=ledger), words)
    assert code(result) == said
    assert "secret" not in str(result)
    assert ledger.calls == [("usr_1", "echo", said)]


async def test_our_own_words_about_a_failure_are_no_structure_of_another_servers_tool() -> None:
    ledger = Ledger()
    tools = registry(ledger=ledger)
    await tools.offer("other", [Echo("other_echo", provider="other", output_schema={"type": "object"})])
    result = await tools.call("other_echo", {"words": "fail"}, calling())
    assert (result.is_error, result.structured, len(result.blocks)) == (True, None, 1)
    assert ledger.calls == [("usr_1", "other_echo", "too_quiet")]


async def test_a_tool_that_takes_too_long_is_stopped() -> None:
    patient, ledger = Patient(), Ledger()
    tools = registry(patient, ledger=ledger, seconds=0.01)
    assert code(await tools.call("wait", {}, calling())) == "tool_timeout"
    assert patient.cancelled.is_set()
    assert ledger.calls == [("usr_1", "wait", "tool_timeout")]


async def test_so_is_one_whose_caller_does_not_wait_longer() -> None:
    patient = Patient()
    assert code(await registry(patient).call("wait", {}, calling(seconds=0.01))) == "tool_timeout"
    assert patient.cancelled.is_set()


async def test_a_caller_who_leaves_ends_the_tool_and_is_recorded() -> None:
    patient, ledger = Patient(), Ledger()
    running = asyncio.create_task(registry(patient, ledger=ledger).call("wait", {}, calling()))
    await asyncio.wait_for(patient.running.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert patient.cancelled.is_set()
    assert ledger.calls == [("usr_1", "wait", "cancelled")]


# What administrators have set


async def test_a_tool_that_is_switched_off_says_so_whatever_it_is_asked() -> None:
    tools = registry(Echo(), shelf=Shelf(echo={"enabled": False}))
    await tools.start()
    assert code(await tools.call("echo", {"words": 5}, calling())) == "tool_disabled"


async def test_what_is_set_holds_from_the_start() -> None:
    shelf = Shelf(echo={"description": "Ours.", "category": "fun"}, wait={"enabled": False})
    tools = registry(Echo(), Patient(), shelf=shelf)
    await tools.start()
    (told,) = tools.offered()
    assert (told.name, told.text, told.category, told.title) == ("echo", "Ours.", "fun", "Echo")
    assert code(await tools.call("wait", {}, calling())) == "tool_disabled"
    assert shelf.remembered == ["echo", "wait"]


async def test_patterns_keep_calls_away_from_a_tool() -> None:
    tool, ledger = Echo(), Ledger()
    shelf = Shelf(echo={"disallowed_keywords": ["secret\\w*"], "require_approval_for": ["danger"]})
    tools = registry(tool, shelf=shelf, ledger=ledger)
    await tools.start()
    assert code(await echo(tools, "The SECRETS")) == "tool_input_blocked"
    assert code(await echo(tools, "danger")) == "approval_required"
    assert code(await echo(tools, "danger", approved=False)) == "approval_required"
    assert code(await echo(tools, "secret danger", approved=True)) == "tool_input_blocked"
    assert tool.asked == []
    assert not (await echo(tools, "danger", approved=True)).is_error
    assert not (await echo(tools, "harmless")).is_error
    assert [outcome for _, _, outcome in ledger.calls[-3:]] == ["tool_input_blocked", "completed", "completed"]


async def test_a_change_is_taken_over_as_soon_as_it_is_heard() -> None:
    shelf = Shelf()
    tools = registry(Echo(), shelf=shelf)
    await tools.start()
    heard = Wire()
    tools.follow(heard)  # type: ignore[arg-type]  # a peer of Watch
    running = asyncio.create_task(tools.run())
    shelf.loaded.clear()
    shelf.set(echo={"enabled": False})
    heard.say()
    await asyncio.wait_for(shelf.loaded.wait(), 5)
    assert offered(tools) == []
    running.cancel()


class Wire:
    """What a registry listens to."""

    def on(self, channel: str, heard: Any, resume: Any) -> None:
        assert channel == "tools"
        self.say = lambda: heard("")
        self.resume = resume


# Without the database


async def test_without_the_database_tools_work_and_what_was_set_last_holds() -> None:
    shelf = Shelf(echo={"enabled": False})
    tools = registry(Echo(), shelf=shelf)
    await tools.start()
    shelf.away = True
    await tools.offer("other", [Echo("other_echo", provider="other")])
    assert offered(tools) == ["other_echo"]
    assert code(await echo(tools)) == "tool_disabled"


async def test_a_start_without_the_database_is_made_good_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(echo={"enabled": False})
    shelf.away = True
    tools = registry(Echo(), shelf=shelf)
    await tools.start()
    assert offered(tools) == ["echo"]
    assert "tools_without_database" in caplog.text
    shelf.away = False
    running = asyncio.create_task(tools.run())
    await asyncio.wait_for(shelf.loaded.wait(), 5)
    assert (offered(tools), shelf.remembered) == ([], ["echo"])
    running.cancel()


# Other servers


async def test_tools_of_other_servers_come_and_go() -> None:
    shelf = Shelf()
    tools = registry(Echo(), shelf=shelf)
    await tools.start()
    await tools.offer("other", [Echo("other_a", provider="other"), Echo("other_b", provider="other")])
    assert offered(tools) == ["echo", "other_a", "other_b"]
    await tools.offer("other", [Echo("other_b", provider="other")])
    assert offered(tools) == ["echo", "other_b"]
    await tools.offer("other", [])
    assert offered(tools) == ["echo"]
    with pytest.raises(UnknownTool):
        await tools.call("other_b", {}, calling())
    assert shelf.remembered == ["echo", "other_a", "other_b"]  # each once: nothing was new the second time


async def test_a_name_that_is_taken_stays_with_its_owner() -> None:
    mine, theirs, tools = Echo(), Echo(provider="other"), registry()
    tools = registry(mine)
    await tools.offer("other", [theirs])
    await echo(tools)
    assert (len(mine.asked), len(theirs.asked)) == (1, 0)


async def test_no_other_server_takes_the_place_of_what_is_built_in() -> None:
    tools = registry(Echo())
    await tools.offer("builtin", [Patient()])
    assert offered(tools) == ["echo", "wait"]


async def test_what_was_read_last_holds() -> None:
    slow = Hesitant(echo={"enabled": True})
    tools = registry(Echo(), shelf=slow)
    first = asyncio.create_task(tools.reload())
    await asyncio.wait_for(slow.looking.wait(), 5)
    second = asyncio.create_task(tools.reload())
    slow.set(echo={"enabled": False})
    slow.found.set()
    await asyncio.gather(first, second)
    assert offered(tools) == []


class Hesitant(Shelf):
    """Whose first answer, as things were when it was asked, comes late."""

    def __init__(self, **rows: dict[str, Any]) -> None:
        super().__init__(**rows)
        self.looking, self.found = asyncio.Event(), asyncio.Event()

    async def load(self, connection: object = None) -> list[dict[str, Any]]:
        rows, first = await super().load(connection), not self.looking.is_set()
        self.looking.set()
        if first:
            await self.found.wait()
        return rows


async def test_a_description_that_changed_is_remembered_anew() -> None:
    shelf = Shelf()
    tools = registry(shelf=shelf)
    await tools.offer("other", [Echo("other_a", provider="other")])
    await tools.offer("other", [Echo("other_a", provider="other", output_schema={"type": "object"})])
    assert shelf.remembered == ["other_a", "other_a"]
