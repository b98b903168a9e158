"""An SFTP server on this machine, in its own thread, which lets one key in."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh

USER = "team"


@dataclass(frozen=True)
class SSH:
    """A running server. ``key`` is the file of the only key that it lets in, ``other`` that of
    another one. Paths in its URLs are those of this machine."""

    host: str
    port: int
    key: Path
    other: Path

    def url(self, folder: Path) -> str:
        """The URL of a folder of this machine on the server."""
        return f"ssh://{USER}@{self.host}:{self.port}{folder}"


@contextmanager
def serving(folder: Path) -> Iterator[SSH]:
    """Run the server while the block runs. Its keys are in ``folder``."""
    keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in ("host", "key", "other")}
    for name, key in keys.items():
        key.write_private_key(str(folder / name))
    keys["key"].write_public_key(str(folder / "authorized"))
    loop = asyncio.new_event_loop()

    async def start() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[keys["host"]],
            authorized_client_keys=str(folder / "authorized"),
            sftp_factory=True,
        )

    async def stop(server: asyncssh.SSHAcceptor) -> None:
        server.close()
        await server.wait_closed()

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
        try:
            yield SSH("127.0.0.1", server.get_port(), folder / "key", folder / "other")
        finally:
            asyncio.run_coroutine_threadsafe(stop(server), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
