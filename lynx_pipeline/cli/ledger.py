"""Commands about the registry: registry ..., audit, announce."""

import sys
import warnings
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lynx_pipeline.cli.output import print_json, warn
from lynx_pipeline.errors import LynxError, Refused

if TYPE_CHECKING:
    from lynx_pipeline.domain.ledger.chain import Entry
    from lynx_pipeline.registry import Registry


def registry_register(arguments: Namespace) -> int:
    from lynx_pipeline.registry import NotTheCIPath, Registry

    warnings.simplefilter("always", NotTheCIPath)
    print_entry(Registry.open().register_pending(arguments.run_id).entry, arguments)
    return 0


def registry_promote(arguments: Namespace) -> int:
    from lynx_pipeline.registry import NotTheCIPath, Registry

    warnings.simplefilter("always", NotTheCIPath)
    evidence = Path(arguments.evidence).absolute() if arguments.evidence else None
    registry = Registry.open()
    entry = registry.promote(arguments.sha, arguments.semver, evidence=evidence).entry
    mirror_now(registry, entry.fact.semver)
    print_entry(entry, arguments)
    return 0


def registry_rollback(arguments: Namespace) -> int:
    from lynx_pipeline.registry import Registry

    registry = Registry.open()
    entry = registry.rollback(arguments.semver).entry
    mirror_now(registry, entry.fact.semver)
    print_entry(entry, arguments)
    return 0


def registry_list(arguments: Namespace) -> int:
    from lynx_pipeline.domain.versioning import Env
    from lynx_pipeline.registry import Registry

    entries = list(Registry.open().history(Env(arguments.env) if arguments.env else None))
    if arguments.json:
        print_json([entry.to_json() for entry in entries])
    else:
        from lynx_pipeline.reports.audit import entry_line

        for entry in entries:
            print(entry_line(entry))
    return 0


def registry_show(arguments: Namespace) -> int:
    from lynx_pipeline.registry import Registry

    entries = Registry.open().history()
    found = [entry.to_json() for entry in entries if entry.fact.semver == arguments.version]
    if not found:
        raise Refused(f"no entry names {arguments.version!r}. 'registry list' shows all.")
    print_json(found)
    return 0


def registry_resolve(arguments: Namespace) -> int:
    from dataclasses import asdict

    from lynx_pipeline.registry import Registry

    resolved = Registry.open().resolve(arguments.version)
    if arguments.json:
        print_json(asdict(resolved))
    else:
        for key, value in asdict(resolved).items():
            print(f"{key}: {value}")
    return 0


def registry_verify(arguments: Namespace) -> int:
    from lynx_pipeline.domain.ledger.state import broken_rules
    from lynx_pipeline.registry import Registry

    ledger = Registry.open().verify()
    broken = broken_rules(ledger)
    for entry, reason in broken:
        print(f"lynx-pipeline: line {entry.seq} counts for nothing: {reason}", file=sys.stderr)
    if broken:
        return 1
    torn = f", and {ledger.torn} uncommitted bytes that will be dropped" if ledger.torn else ""
    print(f"The ledger is whole: {len(ledger.entries)} entries, {ledger.size} bytes{torn}.")
    return 0


def audit_version(arguments: Namespace) -> int:
    from lynx_pipeline.registry import Registry
    from lynx_pipeline.registry.audit import audit
    from lynx_pipeline.reports.audit import audit_json, print_audit

    result = audit(Registry.open(), arguments.version)
    if arguments.json:
        print_json(audit_json(result))
    else:
        print_audit(result)
    return 1 if result.findings else 0


def announce(arguments: Namespace) -> int:
    from lynx_pipeline.adapters.notify import CHANNELS
    from lynx_pipeline.registry import Registry
    from lynx_pipeline.registry.announcement import announce, announcement

    registry = Registry.open()
    entry, now = registry.promoted(arguments.version), registry.promoted()
    if now.fact.semver != entry.fact.semver:
        raise Refused(
            f"{entry.fact.semver} is not in force, {now.fact.semver} is. Nobody was told."
        )
    told = announce(entry)
    if arguments.json:
        title, body = announcement(entry)
        print_json({"title": title, "body": body, "channels": told})
    elif told:
        print(f"{told} channels know that {entry.fact.semver} is promoted.")
    else:
        print(f"Nobody was told: {CHANNELS} names no channel.")
    return 0


def mirror_now(registry: "Registry", semver: str) -> None:
    """Let MLflow's alias follow. The registry decides what is in production, so a failure here is
    only a warning."""
    from lynx_pipeline.registry.mirror import mirror

    try:
        latest = registry.promoted().fact.semver
        if latest != semver:
            warn(f"{semver} was promoted before and is not the latest version; {latest} is.")
        mirror(registry.settings, lambda: registry.promoted().fact)
    except LynxError as error:
        warn(
            f"the registry is changed, MLflow's alias is not: {error} It follows with the next "
            "promotion or rollback, and whenever production_alias is materialized."
        )


def print_entry(entry: "Entry", arguments: Namespace) -> None:
    if arguments.json:
        print_json(entry.to_json())
    else:
        from lynx_pipeline.reports.audit import entry_line

        print(entry_line(entry))
