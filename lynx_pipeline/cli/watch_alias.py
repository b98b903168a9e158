"""What ``registry watch-alias`` does: serve MLflow's webhook, and look at the alias."""

import threading
from typing import NoReturn

import click

from lynx_pipeline.adapters.mlflow_webhook import WebhookServer, read_secret
from lynx_pipeline.config import load_each
from lynx_pipeline.registry.alias_watch import AliasWatch


def serve(listen: str) -> NoReturn:
    """Serve on this ``HOST:PORT`` until the process is stopped."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(
            "expected HOST:PORT, for example 127.0.0.1:8377.", param_hint="'--listen'"
        )
    watch = AliasWatch(load_each(), say=lambda line: print(line, flush=True))
    with WebhookServer((host, int(port)), read_secret(), watch.moved) as server:
        print(f"Waiting for MLflow's requests on {host}:{server.server_port}.", flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while True:
            watch.look()
