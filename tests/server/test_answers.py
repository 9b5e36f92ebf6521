"""Answers for asyncio, of a fleet that loads nothing."""

import asyncio
from pathlib import Path

import pytest

from falcon_runtime import FalconRuntime, Generation
from falcon_runtime.fleet import Fleet
from falcon_runtime.server.answers import Answer

from ..awaited import awaited
from ..fake_runtimes import FakeRuntime, World


def test_whoever_no_longer_waits_for_a_model_leaves_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr("falcon_runtime.fleet.FalconRuntime", lambda *arguments, **_: FakeRuntime(world, *arguments))

    def ask(_runtime: FalconRuntime) -> Generation:
        raise AssertionError("Nobody wants this any more.")

    async def ask_and_go(fleet: Fleet) -> None:
        for _ in range(3):
            with Answer(fleet, None, ask):
                while not fleet.answering:
                    await asyncio.sleep(0.01)
            while fleet.answering:
                await asyncio.sleep(0.01)

    (tmp_path / "a").mkdir()
    with Fleet("a", tmp_path) as fleet:
        awaited(ask_and_go, fleet)
        assert fleet.current.status.state == "downloading"
        world.provisioned["a"].set()
