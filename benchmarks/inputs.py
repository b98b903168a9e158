"""Generated inputs for the benchmarks: ten million answers, and a ledger of many versions."""

import csv
import json
from collections.abc import Callable
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path


def apart(make: Callable[..., None], *arguments: object) -> None:
    """Call ``make`` in its own process, because a child process inherits this one's peak memory."""
    process = get_context("spawn").Process(target=make, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{make.__name__} failed")


def files(folder: Path) -> tuple[Path, Path, Path]:
    """The files that :func:`ten_million` writes: items, predictions and baseline."""
    return folder / "items.parquet", folder / "predictions.parquet", folder / "baseline.json"


def million_lines(file: Path) -> None:
    """Write a corpus with the eval set's dimensions."""
    with file.open("w") as lines:
        for k in range(1_000_000):
            buckets = {"tense": f"t{k % 5}", "person": f"{k % 3 + 1}sg", "verb": f"v{k % 20}"}
            prompt = f"Every day number {k} they ___ (go) home."
            values = {"id": f"c{k}", "prompt": prompt, "expected": "go", "buckets": buckets}
            lines.write(json.dumps(values) + "\n")


def million_rows(file: Path) -> None:
    """Write a table of questions as CSV."""
    with file.open("w", newline="") as output:
        rows = csv.writer(output)
        rows.writerow(("prompt", "expected", "topic"))
        for k in range(1_000_000):
            rows.writerow((f"Every day number {k} they ___ (go) home.", "go", f"t{k % 20}"))


def ten_million(folder: Path) -> None:
    """Write items in the stored format, predictions of which 9 in 10 are right, and a baseline."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lynx_pipeline.evaluation.storage import large as large_eval_set

    count, cells, step = 10_000_000, 1000, 1_000_000
    items, predictions, floors = files(folder)
    # A copy of the private format that large_eval_set writes. If it changes there, change it here.
    parts = [[[f"d.b{k:03}"], count // cells] for k in range(cells)]
    about = json.dumps({"cells": parts, "words": 4 * count}).encode()
    texts = ("id", "prompt")
    schema = pa.schema(
        [
            *((name, pa.string()) for name in texts),
            ("answers", pa.list_(pa.string())),
            ("cell", pa.int32()),
        ],
        {large_eval_set._FORMAT: about},
    )
    predicted = pa.schema([("id", pa.string()), ("prediction", pa.string())])
    with (
        pq.ParquetWriter(items, schema, compression="zstd") as first,
        pq.ParquetWriter(predictions, predicted, compression="zstd") as second,
    ):
        for start in range(0, count, step):
            rows = range(start, start + step)
            ids = [f"i{k:08}" for k in rows]
            right = [f"answer {k % 977}" for k in rows]
            given = [
                text if k // 1000 % 10 else "wrong" for k, text in zip(rows, right, strict=True)
            ]
            prompts = [f"Say answer {k}" for k in rows]
            wanted = [[text] for text in right]
            part = pa.table([ids, prompts, wanted, [k % cells for k in rows]], schema=schema)
            first.write_table(part, 1 << 16)
            second.write_table(pa.table([ids, given], schema=predicted), 1 << 16)
    floor = {"accuracy": 0.5, "n": count // cells}
    buckets = {f"d.b{k:03}": floor for k in range(cells)}
    values = {"eval_set_dvc_hash": "0" * 32, "baseline_sha": "0" * 64, "tolerance_pp": 0.02}
    floors.write_text(json.dumps({**values, "buckets": buckets}))


def server(folder: Path, count: int) -> None:
    """Write the project of a server, with a registry of ``count`` signed promotions in prod."""
    import base64

    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from lynx_pipeline.adapters.ledgers.directory import DirectoryLedger
    from lynx_pipeline.domain.ledger.statements import (
        Envelope,
        Signature,
        entry_statement,
        to_sign,
    )

    folder.mkdir()
    key = Ed25519PrivateKey.generate()
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "pyproject.toml").write_text(
        '[tool.lynx_pipeline]\nmodel = "grammar-tutor"\nregistry = "registry"\n'
        "[tool.lynx_pipeline.signatures]\n"
        f'keys = [{{public_key = "{base64.b64encode(der).decode()}"}}]\n'
    )
    ledger(folder / "registry", count, in_prod=True)
    store = DirectoryLedger(folder / "registry")
    with store.signatures_file.open("wb") as file:
        for entry in store.read().entries:
            payload = entry_statement(entry, "0" * 64)
            signature = Signature("0" * 64, key.sign(to_sign(payload)))
            file.write(Envelope(payload, (signature,)).to_line())


def ledger(folder: Path, count: int, *, in_prod: bool = False) -> None:
    """Write a ledger of ``count`` promotions in dev or prod."""
    from lynx_pipeline.domain.ledger.chain import Checkpoint, seal
    from lynx_pipeline.domain.ledger.facts import Actor, Evidence, Promoted
    from lynx_pipeline.domain.versioning import Env

    folder.mkdir()
    prev, size = None, 0
    names = [part.name for part in fields(Actor) if part.name != "jti"]
    with (folder / "index.jsonl").open("wb") as file:
        for k in range(1, count + 1):
            fact = Promoted(
                time="2025-01-02T03:04:05Z",
                env=Env.PROD if in_prod else Env.DEV,
                model="grammar-tutor",
                mlflow_run_id=f"{k:032x}",
                artifact_uri=f"mlflow-artifacts:/1/{k:032x}/artifacts/model",
                canonical_sha=f"{k:064x}",
                semver=f"v0.1.{k}" if in_prod else f"v0.1.{k}-dev",
                evidence=Evidence(
                    **{f"{name}_sha256": f"{k:064x}" for name in _DIGESTS},
                    eval_set_dvc_hash=f"{k:032x}",
                    scorer="normalised-exact-match/1",
                    isolation="bubblewrap",
                    tolerance=0.02,
                    worst_bucket="verb.be",
                    worst_margin=0.001667,
                ),
                cpqu=3.125e-08,
                actor=Actor(jti=f"{k}", **dict.fromkeys(names, "a claim")) if in_prod else None,
            )
            entry = seal(k, prev, fact)
            line = entry.to_line()
            file.write(line)
            prev, size = entry.hash, size + len(line)
    assert prev
    checkpoint = Checkpoint(size, count, prev)
    (folder / "index.checkpoint.json").write_bytes(checkpoint.to_line())


_DIGESTS = ("eval_set", "baseline", "candidate_eval", "predictions")
