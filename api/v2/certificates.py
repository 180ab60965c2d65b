"""The certificates of the keys that sign SNS envelopes; anyone may read them."""

from __future__ import annotations

from http import HTTPStatus

from api.answers import Answer
from api.requests import Call
from api.resources import UNGUARDED, Operation, Reply, Resource
from api.zaqar.examples import CERTIFICATE_NAME
from zaqar_notify.delivery.sns import CERTIFICATES
from zaqar_notify.errors import CertificateDoesNotExist
from zaqar_notify.service import Service

_PEM = "application/pem-certificate-chain"
# A name is a digest of the certificate, so that what it names never changes.
_KEEP = ((b"Cache-Control", b"public, max-age=86400, immutable"),)


async def show(service: Service, call: Call) -> Answer:
    found = await service.certificates.certificate(call.names["certificate_name"])
    return Answer(HTTPStatus.OK, found, _KEEP, content_type=_PEM.encode())


RESOURCES = (
    Resource(
        f"{CERTIFICATES}/{{certificate_name}}",
        {
            "GET": Operation(
                show,
                UNGUARDED,
                "Show a certificate that SNS envelopes name",
                {
                    200: Reply(
                        "The certificate, PEM",
                        "-----BEGIN CERTIFICATE-----\n…",
                        content_type=_PEM,
                    )
                },
                description="`SigningCertURL` of an envelope leads here. No token is needed.",
                refuses=(CertificateDoesNotExist(CERTIFICATE_NAME),),
            )
        },
        is_open=True,
    ),
)
