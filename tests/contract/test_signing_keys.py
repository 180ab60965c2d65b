"""The key that signs SNS envelopes: one for all processes, over restarts, on every store."""

from __future__ import annotations

import asyncio

import pytest

from zaqar_notify.delivery.certificates import Certificates
from zaqar_notify.errors import CertificateDoesNotExist, WebhooksNotSigned
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import CERTIFICATES_REF, DEFAULT_POOL
from zaqar_notify.storage.planes import Storage

MASTER = "master"


def process(storage: Storage, *, secret: str = MASTER) -> Certificates:
    return Certificates(storage, Settings(webhook_secret=secret), storage.clock)


async def test_processes_that_need_a_key_at_once_have_the_same(storage: Storage) -> None:
    processes = [process(storage) for _ in range(3)]

    keys = await asyncio.gather(*(each.signing_key() for each in processes))
    later = await process(storage).signing_key()

    assert {key.name for key in (*keys, later)} == {later.name}
    assert later.private_bytes() == keys[0].private_bytes()


async def test_the_private_key_is_not_clear_in_the_store(storage: Storage) -> None:
    key = await process(storage).signing_key()

    store = storage.pools[DEFAULT_POOL]
    page = await store.messages.page(
        CERTIFICATES_REF, marker=None, limit=10, now=storage.clock.now()
    )

    assert page.messages
    assert not [each for each in page.messages if key.private_bytes()[-100:] in each.body]


async def test_another_master_key_has_another_key_and_the_certificate_of_before_stays(
    storage: Storage,
) -> None:
    first = await process(storage).signing_key()
    second = await process(storage, secret="other").signing_key()

    assert second.name != first.name
    reader = process(storage, secret="")
    assert await reader.certificate(first.name) == first.certificate
    assert await reader.certificate(second.name) == second.certificate


async def test_a_certificate_that_there_is_not_does_not_exist(storage: Storage) -> None:
    with pytest.raises(CertificateDoesNotExist, match=r"x\.pem does not exist"):
        await process(storage).certificate("x.pem")


async def test_without_a_master_key_there_is_no_signing_key(storage: Storage) -> None:
    with pytest.raises(WebhooksNotSigned):
        await process(storage, secret="").signing_key()
