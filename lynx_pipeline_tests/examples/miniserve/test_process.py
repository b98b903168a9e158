"""One model's process: what a model may do to it, and what the caller sees."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from examples.miniserve.process import ModelFailed, ModelProcess
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline_tests.examples.miniserve.running import children
from lynx_pipeline_tests.support.builders import bundle

pytestmark = pytest.mark.slow(seconds=15)

PROMPTS = ["Say a", "Say b"]


def run(folder: Path, check: Callable[[ModelProcess], Awaitable[None]]) -> None:
    """Run ``check`` on the model, and end it."""

    async def use() -> None:
        process = ModelProcess(folder, read_bundle(folder).digest)
        try:
            await check(process)
        finally:
            await process.close()

    asyncio.run(use())


def test_requests_of_a_process_that_died_are_asked_again(tmp_path: Path) -> None:
    """It dies while it answers, once; all requests at that moment are answered."""
    mark = tmp_path / "died"
    body = f"import os, pathlib, time; time.sleep(0.1); died = pathlib.Path({str(mark)!r})\n"
    body += "if not died.exists(): died.touch(); os._exit(1)\nreturn prompts"
    folder = bundle(tmp_path / "model", body)

    async def check(process: ModelProcess) -> None:
        await process.load()
        assert await asyncio.gather(*(process.ask([f"{k}"]) for k in range(5))) == [
            [f"{k}"] for k in range(5)
        ]

    run(folder, check)
    assert mark.exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import os; os._exit(1)", "the model's process died 3 times"),
        ("return prompts[1:]", "returned 1 answers to 2 prompts"),
        ("return [b'1' for prompt in prompts]", "returned bytes, expected text or a number"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        (
            "class Odd(Exception):\n    def __reduce__(self): raise ValueError\nraise Odd('odd')",
            "Odd: odd",
        ),
    ],
)
def test_a_model_that_does_not_answer_is_an_error(tmp_path: Path, body: str, message: str) -> None:
    """The message says why, and the next request is asked again."""
    folder = bundle(tmp_path / "model", body)

    async def check(process: ModelProcess) -> None:
        for _ in range(2):
            with pytest.raises(ModelFailed, match=message):
                await process.ask(PROMPTS)

    run(folder, check)


def test_a_model_that_cannot_be_loaded_is_an_error(tmp_path: Path) -> None:
    """Before any request goes to it."""
    folder = bundle(tmp_path / "model", load="import a_package_that_is_missing")

    async def check(process: ModelProcess) -> None:
        with pytest.raises(ModelFailed, match="No module named 'a_package_that_is_missing'"):
            await process.load()

    run(folder, check)


def test_a_changed_bundle_is_not_loaded(tmp_path: Path) -> None:
    """Neither at first, nor when a process that died is replaced."""
    folder = bundle(tmp_path / "model", "import os; os._exit(1)")

    async def check(process: ModelProcess) -> None:
        await process.load()
        (folder / "code/tiny_loader.py").write_text("he goed")
        with pytest.raises(ModelFailed, match="model was changed: its digest is"):
            await process.ask(PROMPTS)

    run(folder, check)


def test_two_models_bring_modules_with_the_same_name(tmp_path: Path) -> None:
    """Each process has its own. Loading leaves no compiled files in the bundle."""
    folders = [bundle(tmp_path / name, f"return [{name!r} for prompt in prompts]") for name in "ab"]

    async def both() -> list[list[str | None]]:
        processes = [ModelProcess(it, read_bundle(it).digest) for it in folders]
        found = [await process.ask(PROMPTS) for process in processes]
        await asyncio.gather(*(process.close() for process in processes))
        return found

    assert asyncio.run(both()) == [["a", "a"], ["b", "b"]]
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_closed_process_answers_what_it_was_asked(tmp_path: Path) -> None:
    """A signal to the whole group, as a terminal or systemd sends it, does not end it before."""
    body = "import os, time; time.sleep(0.5); return [str(os.getpid()) for prompt in prompts]"
    folder = bundle(tmp_path / "model", body)

    async def check() -> None:
        process = ModelProcess(folder, read_bundle(folder).digest)
        ((pid,), _) = await asyncio.gather(process.ask(["x"]), process.load())
        asked = asyncio.create_task(process.ask(["x"]))
        await asyncio.sleep(0.1)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(int(str(pid)), number)
        await process.close()
        assert await asked == [pid]
        assert all(int(str(pid)) not in children(server) for server in children(os.getpid()))

    asyncio.run(check())
