"""``registry ...``: read and change the registry."""

import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click

from lynx_pipeline.cli.framework import Command, model_option, path_option, with_json
from lynx_pipeline.cli.output import inform, print_json, warn
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.text import number_of, printable
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, LynxError, NotInstalled, Refused, SystemFailed
from lynx_pipeline.registry import IgnoredEntries, NotTheCIPath, Registry, Stale, fetching
from lynx_pipeline.registry.ignored import ignored_entries
from lynx_pipeline.registry.mirror import alias_problem, mirror
from lynx_pipeline.registry.witnesses import require_witnesses
from lynx_pipeline.reports.audit import entry_line


@click.group()
def registry() -> None:
    """Read and change the append-only registry."""


@registry.command(
    cls=Command,
    data=True,
    example="lynx-pipeline registry register 0123456789abcdef0123456789abcdef",
)
@click.argument("candidate", metavar="RUN_ID")
@model_option
@with_json
def register(candidate: str, model: str | None, as_json: bool) -> int:
    """Record a run's bundle by hand (dev only).

    RUN_ID may also be another form of a candidate, see 'lynx-pipeline request --help'.
    """
    warnings.simplefilter("always", NotTheCIPath)
    print_entry(Registry.open().register_pending(candidate, model).entry, as_json)
    return 0


@registry.command(
    cls=Command,
    data=True,
    example="lynx-pipeline registry promote SHA v0.2.0-dev --evidence out/",
)
@click.argument("sha")
@click.argument("semver", metavar="VERSION")
@path_option(
    "--evidence",
    metavar="DIR",
    help="The folder of evidence to judge. Only dev promotes without evidence.",
)
@with_json
def promote(sha: str, semver: str, evidence: Path | None, as_json: bool) -> int:
    """Promote the bundle with the canonical sha SHA as VERSION."""
    warnings.simplefilter("always", NotTheCIPath)
    opened = Registry.open()
    folder = evidence.absolute() if evidence else None
    entry = opened.promote(sha, semver, evidence=folder, say=inform).entry
    mirror_now(opened, semver)
    print_entry(entry, as_json)
    return 0


@registry.command(cls=Command, data=True, example="lynx-pipeline registry rollback v0.1.0-dev")
@click.argument("semver", metavar="VERSION")
@with_json
def rollback(semver: str, as_json: bool) -> int:
    """Make the earlier promoted VERSION the latest version again.

    Refuses if its bundle can't be fetched any more.
    """
    opened = Registry.open()
    entry = opened.rollback(semver).entry
    mirror_now(opened, semver)
    print_entry(entry, as_json)
    return 0


@registry.command("list", cls=Command, data=True, example="lynx-pipeline registry list --env prod")
@click.option(
    "--env", type=click.Choice([env.value for env in Env]), help="Only entries of this environment."
)
@with_json
def list_entries(env: str | None, as_json: bool) -> int:
    """List all entries, oldest first, and which ones are ignored.

    In --json, the field 'ignored' is null or the reason.
    """
    entries = [it for it in _marked(Registry.open()) if env is None or it[0].fact.env == env]
    if as_json:
        print_json([{**entry.to_json(), "ignored": ignored} for entry, ignored in entries])
    else:
        for entry, ignored in entries:
            print(entry_line(entry, ignored))
    return 0


@registry.command(cls=Command, data=True, example="lynx-pipeline registry show v0.1.0-dev")
@click.argument("version")
def show(version: str) -> int:
    """Print every entry about VERSION as JSON. 'ignored' is null or the reason."""
    found = [
        {**entry.to_json(), "ignored": ignored}
        for entry, ignored in _marked(Registry.open())
        if entry.fact.semver == version
    ]
    if not found:
        raise Refused(f"no entry names {version!r}. 'registry list' shows all entries.")
    print_json(found)
    return 0


def _marked(opened: Registry) -> list[tuple[Entry, str | None]]:
    """All entries, each with the reason if it is ignored. What can't be checked is still listed."""
    ledger = opened.verify()
    try:
        reasons = ignored_entries(opened, ledger)
    except BadInput as error:
        warn(f"which entries are ignored is unknown: {error}")
        reasons = {entry.hash: "unknown, see the warning" for entry in ledger.entries}
    return [(entry, reasons.get(entry.hash)) for entry in ledger.entries]


@registry.command(cls=Command, data=True, example="lynx-pipeline registry resolve --json")
@click.argument("version", default="latest")
@with_json
def resolve(version: str, as_json: bool) -> int:
    """Print the bundle of VERSION and where its files are (default: latest)."""
    for shown in (Stale, IgnoredEntries):
        warnings.simplefilter("always", shown)
    resolved = asdict(Registry.open().resolve(version))
    if as_json:
        print_json(resolved)
    else:
        for key, value in resolved.items():
            if key == "stale" and value is None:
                continue
            print(f"{key}: {'not recorded' if value is None else value}")
    return 0


@registry.command(
    cls=Command, data=True, example="lynx-pipeline registry fetch v0.2.0 --to models/v0.2.0"
)
@click.argument("version", default="latest")
@path_option(
    "--to",
    metavar="DIR",
    required=True,
    help="The folder to create, one for each version. If the bundle is there, nothing changes.",
)
@with_json
def fetch(version: str, to: Path, as_json: bool) -> int:
    """Download the bundle of VERSION and verify every byte of it (default: latest)."""
    for shown in (Stale, IgnoredEntries):
        warnings.simplefilter("always", shown)
    opened = Registry.open()
    entry, stale = opened.answer(version)
    is_new = fetching.fetch_promoted(opened, entry, to).is_new
    fact = entry.fact
    if as_json:
        found = {"semver": fact.semver, "bundle_digest": fact.bundle_digest, "is_new": is_new}
        values = {"canonical_sha": fact.canonical_sha, "folder": str(to), "stale": stale}
        print_json({**found, **values})
    else:
        done = "is now in" if is_new else "was already in"
        print(f"{fact.model} {fact.semver} {done} {to}, digest {fact.bundle_digest}.")
    return 0


@registry.command(cls=Command, data=True, example="lynx-pipeline registry doctor")
@with_json
def doctor(as_json: bool) -> int:
    """Check that the bundle of each promoted version can still be fetched, and from where, and that
    MLflow's alias names the latest one.

    Downloads and compares all of them. The exit code is 1 if one can't be fetched or the alias
    names another one, and 3 if one can't because MLflow, the bundle store or the disk failed.
    """
    opened = Registry.open()
    found = list(fetching.availability(opened))
    alias = _alias(opened)
    if as_json:
        print_json(
            [
                *(
                    {"semver": it.entry.fact.semver, "problem": it.problem, "places": it.places}
                    for it in found
                ),
                *([{"alias": opened.settings.alias, "problem": alias}] if alias else []),
            ]
        )
    else:
        for it in found:
            print(f"{it.entry.fact.semver}  {it.problem or _fetchable_from(it.places)}")
        if alias:
            print(alias)
    if any(it.failed for it in found):
        return SystemFailed.exit_code
    return Refused.exit_code if alias or any(it.problem for it in found) else 0


def _alias(registry: Registry) -> str | None:
    """The problem with MLflow's alias. None also where MLflow is not installed, or does not answer,
    which each version's line says."""
    try:
        return alias_problem(registry)
    except (NotInstalled, SystemFailed):
        return None


def _fetchable_from(places: Mapping[str, str | None]) -> str:
    good = " and ".join(place for place, problem in places.items() if problem is None)
    bad = "".join(f" Not from {place}: {problem}" for place, problem in places.items() if problem)
    return f"can be fetched from {good}{'.' if bad else ''}{bad}"


@registry.command(cls=Command, example="lynx-pipeline registry verify")
def verify() -> int:
    """Verify the ledger's chain and the signatures in prod, and list what is ignored.

    The chain proves that no entry was changed, removed or reordered. A signature proves that an
    entry was made with a key that your settings name.
    """
    opened = Registry.open()
    ledger = opened.verify()
    ignored = ignored_entries(opened, ledger)
    for entry in ledger.entries:
        if reason := ignored.get(entry.hash):
            print(f"lynx-pipeline: line {entry.seq} is ignored: {reason}", file=sys.stderr)
    late = require_witnesses(opened.settings, ledger)
    for name, reason in late.items():
        print(f"lynx-pipeline: the witness {name} does not count: {reason}.", file=sys.stderr)
    for stray in ledger.strays:
        print(f"lynx-pipeline: {stray} is ignored: it belongs to no entry.", file=sys.stderr)
    if ignored or ledger.strays or late:
        return 1
    torn = f", and {ledger.torn} uncommitted bytes that will be dropped" if ledger.torn else ""
    entries = number_of(len(ledger.entries), "entry", "entries")
    print(f"The ledger is consistent: {entries}, {ledger.size} bytes{torn}.")
    return 0


@registry.command(cls=Command, data=True, example="lynx-pipeline registry repair --dry-run")
@click.option("--dry-run", is_flag=True, help="Only show what would change. Exits with 1 if any.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@with_json
def repair(dry_run: bool, yes: bool, as_json: bool) -> int:
    """Repair the registry's ledger, as far as nothing that counts is lost.

    For an administrator: shows each change, then asks. It restores lines, tags and the checkpoint,
    and removes what is ignored at the ledger's end. It refuses to drop an entry that counts.
    """
    from lynx_pipeline.registry.repair import planned_repair

    if not (dry_run or yes) and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on. Use --dry-run or --yes.")
    with planned_repair(Registry.open()) as planned:
        changes = [printable(line) for line in planned.changes]
        notes = [printable(line) for line in planned.notes]
        if not as_json:
            for line in changes:
                print(f"  - {line}")
            for line in notes:
                print(f"Note: {line}.")
        wanted = bool(changes) and not dry_run and (yes or _confirmed("Repair it?"))
        if wanted:
            planned.apply()
    if as_json:
        print_json({"changes": changes, "notes": notes, "repaired": wanted})
    elif wanted:
        print("The registry is repaired. Run 'lynx-pipeline registry verify'.")
    else:
        print("Nothing was changed." if changes else "There is nothing to repair.")
    return Refused.exit_code if changes and not wanted else 0


def _confirmed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:  # the end of the input
        return False


@registry.command(cls=Command, data=True, example="lynx-pipeline registry witness")
@click.option(
    "--show-key",
    metavar="NAME",
    help="Only print the line for 'keys' in the settings, for a witness with this name.",
)
@click.option("--first", is_flag=True, help="This witness has signed nothing with this key yet.")
@with_json
def witness(show_key: str | None, first: bool, as_json: bool) -> int:
    """Sign the registry in prod as a witness, and publish that beside it.

    Run it regularly on another machine, with the private key in LYNX_WITNESS_KEY. A registry that
    does not extend what this witness signed before is not signed, and the exit code is 2.
    """
    from lynx_pipeline.adapters.witness_key import verifier_key
    from lynx_pipeline.registry.cosigning import witness as sign

    if show_key is not None:
        print_json(str(verifier_key(show_key)))
        return 0
    key, signed = sign(Registry.open().settings, first=first)
    head = signed.head
    if as_json:
        values = {"size": head.size, "root": head.root.hex(), "time": signed.time}
        print_json({"name": key.name, "origin": head.origin, **values})
    else:
        entries = number_of(head.size, "entry", "entries")
        print(f"{key.name} has signed {entries} of {head.origin}, and published that.")
    return 0


@registry.command(
    "watch-alias", cls=Command, example="lynx-pipeline registry watch-alias --listen 127.0.0.1:8377"
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8377",
    show_default=True,
    help="Where MLflow's requests arrive.",
)
def watch_alias(listen: str) -> int:
    """Report a moved alias as soon as MLflow's webhook calls.

    Runs until it is stopped. LYNX_WEBHOOK_SECRET is the webhook's secret. An alias that names
    another version than the latest promotion is reported on the channels of APPRISE_URLS.
    """
    from lynx_pipeline.cli.watch_alias import serve

    return serve(listen)


def mirror_now(opened: Registry, semver: str) -> None:
    """Update MLflow's alias and GTO's stage. The registry decides what is in production, so a
    failure here is only a warning."""
    try:
        latest = mirror(opened)["semver"]
        if latest != semver:
            warn(f"{semver} was promoted before and is not the latest version; {latest} is.")
    except LynxError as error:
        warn(
            f"the registry has changed, but not all that mirrors it: {error} The next promotion or "
            "rollback updates the mirrors; so does materializing production_alias."
        )


def print_entry(entry: Entry, as_json: bool) -> None:
    """Print one entry."""
    if as_json:
        print_json(entry.to_json())
    else:
        print(entry_line(entry))
