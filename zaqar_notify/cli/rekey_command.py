"""`zaqar-notify rekey`: encrypts everything under the first key of ZAQAR_ENCRYPTION_KEYS."""

from __future__ import annotations

import msgspec
import typer

from zaqar_notify.cli.administration import Data, perform
from zaqar_notify.cli.commands import REFUSED, Json
from zaqar_notify.cli.output import Progress, print_json
from zaqar_notify.errors import StartRefused
from zaqar_notify.operations.admin import Command, Site, Tell
from zaqar_notify.storage.rekeying import Rekeyed, rekey


class Wish(msgspec.Struct):
    """Asks for the change of keys."""


async def change_keys(site: Site, wish: Wish, tell: Tell) -> Rekeyed:
    """Encrypt everything under the first key."""
    storage = site.storage
    if not storage.keys:
        raise StartRefused("ZAQAR_ENCRYPTION_KEYS is not set: there is no key to encrypt with")
    storage.pools.check_all()
    progress = Progress("{} encrypted so far …", tell)
    return await rekey(storage.encrypted, storage.keys, progress=progress)


REKEY = Command("rekey", Wish, Rekeyed, change_keys, lambda _: {"rule": "rekey"})


def register(app: typer.Typer) -> None:
    app.command("rekey")(rekey_)


def rekey_(data: Data = None, as_json: Json = False) -> None:
    """Encrypt under the first key of ZAQAR_ENCRYPTION_KEYS everything that is under the others.

    Run it when every process has the new key in front. The service may run meanwhile. If it is
    interrupted, run it again. Exit code 1 if something can't be decrypted.
    """
    done = perform(REKEY, Wish(), data)
    if as_json:
        print_json(done)
    else:
        print("\n".join(lines(done)))
    if done.missing or done.locked:
        raise typer.Exit(REFUSED)


def lines(done: Rekeyed) -> list[str]:
    """The lines that tell an operator the result of a change of keys."""
    told = [f"Messages and subscriptions encrypted under {done.key_id!r} anew: {done.done}."]
    told += [
        f"Nothing is encrypted under {key_id!r} any more: take it out of ZAQAR_ENCRYPTION_KEYS."
        for key_id in done.unused
    ]
    told += [
        f"Something is encrypted under {key_id!r}, and ZAQAR_ENCRYPTION_KEYS lacks this key."
        for key_id in done.missing
    ]
    if done.locked:
        told.append(f"{done.locked} can't be decrypted, though their keys are there.")
    return told
