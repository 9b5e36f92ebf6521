"""The models of a server: who answers, who takes over and when, and who has to go."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.errors import InvalidRequest, NotEnoughMemory, RuntimeClosed, UnknownModel
from falcon_runtime.fleet import IDLE_S, Fleet
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.status import Status

from .fake_runtimes import GB, FakeRuntime, FakeTimer, World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    world.provisioned["a"].set()
    monkeypatch.setattr("falcon_runtime.fleet.FalconRuntime", lambda *arguments, **_: FakeRuntime(world, *arguments))
    monkeypatch.setattr("falcon_runtime.fleet.available_memory", world.available)
    return world


@pytest.fixture
def fleet(world: World, tmp_path: Path) -> Iterator[Fleet]:
    """Of models a to d; a answers."""
    for name in "abcd":
        (tmp_path / name).mkdir()
    with Fleet("a", tmp_path) as fleet:
        fleet.current.load()
        yield fleet


def until(happens: Callable[[], Any]) -> None:
    """Waits as long as a test may take."""
    while not happens():
        time.sleep(0.005)


def states(fleet: Fleet) -> tuple[str, str | None]:
    """Who answers, and who is on the way."""
    return fleet.current.name, fleet.preparing and fleet.preparing.name


def test_leases_are_counted(fleet: Fleet) -> None:
    assert fleet.answering == 0
    with fleet.lease() as first, fleet.lease("a") as second:
        assert first is second is fleet.current
        assert fleet.answering == 2
    with pytest.raises(ZeroDivisionError), fleet.lease():
        raise ZeroDivisionError
    assert fleet.answering == 0


def test_a_switch_goes_on_beside_the_current_one_which_ends_with_its_last_lease(fleet: Fleet, world: World) -> None:
    with fleet.lease() as lease:
        fleet.switch("b")
        assert states(fleet) == ("a", "b")
        world.provisioned["b"].set()
        until(lambda: states(fleet) == ("b", None))
        with fleet.lease() as other:
            assert other.name == "b"
            assert fleet.answering == 2
        assert world.log == ["load a", "load b"]
        assert lease.status.state == "ready"
    assert world.log == ["load a", "load b", "close a"]


def test_tokens_are_decoded_by_the_model_that_wrote_them(fleet: Fleet, world: World) -> None:
    """Also after another one has taken over: a run that it began may still be looked at."""
    decode = fleet.decoder("a")
    world.provisioned["b"].set()
    fleet.switch("b")
    until(lambda: world.log[-1] == "close a")
    assert fleet.current.name == "b"
    assert (decode([1]), fleet.decoder("a")([2]), fleet.decoder("b")([3])) == ("a[1]", "a[2]", "b[3]")


def test_a_switch_that_fails_leaves_the_current_one(
    fleet: Fleet, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever began it can see why, and the log says it; for all others it is as if nothing had been."""
    world.broken.add("b")
    world.provisioned["b"].set()
    coming = fleet.switch("b")
    until(lambda: world.log == ["load a", "close b"])
    assert states(fleet) == ("a", None)
    assert coming.status == Status("failed", "It is broken.")
    assert caplog.messages == ["B could not be prepared: It is broken."]
    assert fleet.switch("a") is fleet.current
    world.broken.clear()
    assert fleet.switch("b") is not coming
    until(lambda: states(fleet) == ("b", None))
    assert len(caplog.messages) == 1


def test_the_owner_is_told_how_a_model_comes(
    fleet: Fleet, world: World, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    told: list[Status] = []
    coming = fleet.switch("b", told.append)
    world.provisioned["b"].set()
    until(lambda: fleet.current is coming)
    assert told == [Status("downloading")]
    assert caplog.messages == []

    world.broken.add("c")
    world.provisioned["c"].set()
    with Fleet("c", tmp_path) as other:
        other.load()
        assert other.current.status.state == "failed"
    assert caplog.messages == ["C could not be prepared: It is broken."]


def test_where_memory_is_short_the_old_one_is_closed_before_the_new_one_loads(fleet: Fleet, world: World) -> None:
    world.memory, world.sizes["b"] = 3 * GB, 3 * GB
    answered = threading.Event()

    def ask() -> None:
        with fleet.lease() as runtime:
            assert runtime.name == "b"
            fleet.ready(runtime)
            answered.set()

    with fleet.lease():
        fleet.switch("b")
        assert states(fleet) == ("a", "b")
        world.provisioned["b"].set()
        until(lambda: states(fleet) == ("b", None))
        assert fleet.current.status == Status("loading", "Waiting for running answers to end")
        asking = threading.Thread(target=ask)
        asking.start()
        fleet.switch("b")
        with pytest.raises(InvalidRequest, match="B is being prepared"):
            fleet.switch("a")
        assert not answered.wait(0.1)
        assert world.log == ["load a"]
    asking.join()
    assert answered.is_set()
    assert world.log == ["load a", "close a", "load b"]


def test_where_the_new_one_fails_after_the_old_one_was_closed_the_old_model_comes_back(
    fleet: Fleet, world: World
) -> None:
    world.memory, world.sizes["b"] = 3 * GB, 3 * GB
    world.broken.add("b")
    world.provisioned["b"].set()
    fleet.switch("b")
    until(lambda: world.log == ["load a", "close a", "close b"])
    assert states(fleet) == ("a", None)
    fleet.current.load()
    assert fleet.current.status.state == "ready"


def test_memory_that_a_model_has_not_filled_yet_is_kept_for_it(fleet: Fleet, world: World) -> None:
    world.memory, world.sizes["b"], world.unfilled["a"] = 3 * GB, 2 * GB + 1, GB // 2
    with pytest.raises(NotEnoughMemory, match=r"B needs 2.0 GB .* 2.0 GB are available\. Choose"), fleet.lease("b"):
        pass
    fleet.switch("b")
    world.provisioned["b"].set()
    until(lambda: states(fleet) == ("b", None))
    assert world.log == ["load a", "close a", "load b"]


def test_what_does_not_fit_at_all_is_refused_at_once(fleet: Fleet, world: World) -> None:
    world.memory, world.sizes["b"] = 3 * GB, 4 * GB
    with pytest.raises(
        NotEnoughMemory, match=r"B needs 4.0 GB of memory, and only 3.0 GB are available, including that of A"
    ):
        fleet.switch("b")
    with pytest.raises(NotEnoughMemory, match=r"B needs 4.0 GB .* 2.0 GB are available\. Choose"), fleet.lease("b"):
        pass
    assert states(fleet) == ("a", None)
    assert fleet.answering == 0


def test_memory_that_others_took_meanwhile_is_not_there(fleet: Fleet, world: World) -> None:
    coming = fleet.switch("b")
    world.memory = GB // 2
    world.provisioned["b"].set()
    until(lambda: coming.status.state == "failed")
    assert "B needs 1.0 GB of memory, and only 0.5 GB are available" in coming.status.message
    assert fleet.current.name == "a"


def test_one_switch_at_a_time(fleet: Fleet, world: World) -> None:
    fleet.switch("b")
    for name in ("b", "c"):
        with pytest.raises(InvalidRequest, match="B is being prepared"):
            fleet.switch(name)
    with pytest.raises(InvalidRequest, match="B is being prepared"), fleet.lease("b"):
        pass
    fleet.switch("a")
    assert states(fleet) == ("a", "b")
    world.provisioned["b"].set()
    until(lambda: states(fleet) == ("b", None))


@pytest.mark.parametrize("name", ["gpt-5", "..", "../models", "/", f"{STARTER.name}:int5"])
def test_only_names_are_taken(fleet: Fleet, name: str) -> None:
    with pytest.raises(UnknownModel, match=r"no (model|recipe)"):
        fleet.switch(name)
    with pytest.raises(UnknownModel, match=r"no (model|recipe)"), fleet.lease(name):
        pass


def test_a_second_model_is_shared_and_closed_when_it_idles(
    fleet: Fleet, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[FakeTimer] = []

    def timer(seconds: float, function: Callable[[], None]) -> FakeTimer:
        timers.append(FakeTimer(seconds, function))
        return timers[-1]

    monkeypatch.setattr("falcon_runtime.fleet.threading.Timer", timer)
    world.provisioned["b"].set()
    with fleet.lease("b") as one:
        one.load()
        with fleet.lease("b") as other:
            assert one is other
            assert one is not fleet.current
        assert timers == []
    assert [(timer.seconds, timer.state) for timer in timers] == [(IDLE_S, "started")]
    with fleet.lease("b") as again:
        assert one is again
        assert timers[0].state == "cancelled"
        timers[0].go_off()  # It did in the instant in which it was cancelled.
    timers[0].go_off()
    assert world.log == ["load a", "load b"]
    timers[1].go_off()
    assert world.log == ["load a", "load b", "close b"]
    with fleet.lease("b") as later:
        assert later is not one


def test_there_is_one_second_model_at_a_time(fleet: Fleet, world: World) -> None:
    world.provisioned["b"].set()
    with fleet.lease("b") as second:
        second.load()
        with pytest.raises(NotEnoughMemory, match="B is in use beside A"), fleet.lease("c"):
            pass
    assert world.log == ["load a", "load b"]
    world.memory = 2 * GB  # No more than a and either of the others take.
    with fleet.lease("c") as second:
        assert second.name == "c"
        assert world.log == ["load a", "load b", "close b"]


def test_a_loaded_second_model_is_not_asked_for_memory_again(fleet: Fleet, world: World) -> None:
    world.provisioned["b"].set()
    with fleet.lease("b") as second:
        second.load()
    world.memory = 0
    with fleet.lease("b") as again:
        assert again is second


def test_the_second_model_may_become_the_first(fleet: Fleet, world: World) -> None:
    world.provisioned["b"].set()
    with fleet.lease("b") as second:
        second.load()
        fleet.switch("b")
        until(lambda: fleet.current is second)
    until(lambda: world.log == ["load a", "load b", "close a"])
    with fleet.lease("c") as other:
        assert other.name == "c"


def test_an_idle_second_model_makes_room_for_a_switch(fleet: Fleet, world: World) -> None:
    for name in "bc":
        world.provisioned[name].set()
    with fleet.lease("b") as second:
        second.load()
    world.memory = 2 * GB
    with fleet.lease():
        fleet.switch("c")
        until(lambda: fleet.current.name == "c")
        assert world.log == ["load a", "load b", "close b", "load c"]


def test_choices_are_those_of_the_models_folder(fleet: Fleet) -> None:
    assert fleet.choices()[0].name == STARTER.name


def test_closing_is_final(fleet: Fleet, world: World) -> None:
    world.memory, world.sizes["b"] = 3 * GB, 3 * GB
    world.provisioned["b"].set()
    with fleet.lease():
        fleet.switch("b")
        until(lambda: fleet.current.status.message.startswith("Waiting"))
        waiting = fleet.current
        fleet.close()
        until(lambda: waiting.status.state == "failed")
    assert sorted(world.log) == ["close a", "close b", "load a"]
    with pytest.raises(RuntimeClosed), fleet.lease():
        pass
    with pytest.raises(RuntimeClosed):
        fleet.switch("c")


@pytest.mark.parametrize("short", [False, True])
def test_real_models_change_places_while_an_answer_is_written(
    small_model: Path, small_model_slots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    shutil.copytree(small_model, tmp_path / "one")
    shutil.copytree(small_model_slots, tmp_path / "three")
    params = SamplingParams(temperature=0, max_new_tokens=200)
    with FalconRuntime(str(small_model)) as alone:
        expected = [token for chunk in alone.generate("Once", params) for token in chunk.token_ids]
    with Fleet("one", tmp_path) as fleet:
        if short:
            left = fleet.current.memory_bytes  # What it has not filled of its own is kept for it.
            monkeypatch.setattr("falcon_runtime.fleet.available_memory", lambda: left)
        with fleet.lease() as runtime:
            generation = runtime.generate("Once", params)
            tokens = [*next(generation).token_ids]
            fleet.switch("three")
            until(lambda: fleet.current.name == "three")
            assert (fleet.current.status.state == "loading") == short
            assert fleet.answering == 1
            tokens += [token for chunk in generation for token in chunk.token_ids]
            assert tokens == expected
        with fleet.lease() as runtime:
            *_, last = runtime.generate("Once", SamplingParams(max_new_tokens=4, logit_bias={256: -100}))
            assert last.stats.generated_tokens == 4
            assert runtime.slots == 3
            assert fleet.preparing is None
