"""What ``registry watch-alias`` does: serve MLflow's webhook, and check the alias."""

import re
import threading

import click

from lynx_pipeline.adapters.mlflow_webhook import WebhookServer, read_secret
from lynx_pipeline.config import load_each
from lynx_pipeline.registry.alias_watch import AliasWatch


def serve(listen: str) -> int:
    """Serve on this ``HOST:PORT`` until the process is stopped."""
    form = re.fullmatch(r"([^:\[\]]+):([0-9]{1,5})", listen)
    if form is None or int(form[2]) > 65535:
        raise click.BadParameter(
            "expected HOST:PORT, for example 127.0.0.1:8377.", param_hint="'--listen'"
        )
    models = load_each()
    watch = AliasWatch(load_each, _say)
    address = form[1], int(form[2])
    with WebhookServer(address, read_secret(), watch.enqueue, _say) as server:
        for it in models:
            _say(f"Watching MLflow's alias {it.alias!r} of {it.model}, in {it.env}.")
        _say(f"Waiting for MLflow's requests on {form[1]}:{server.server_port}.")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            while True:
                watch.check()
        except KeyboardInterrupt:
            return 0


def _say(line: str) -> None:
    print(line, flush=True)
