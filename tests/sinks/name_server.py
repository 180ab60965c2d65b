"""A DNS server on a real socket, which answers as a test asks, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

TTL_SECONDS = 0


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Other names than those in `addresses` don't exist; those that begin with "hanging" are never
    answered, nor is any while `may_answer` is false."""

    port: int = 0
    addresses: dict[str, Sequence[str]] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)
    """Each name as often as its IPv4 address was asked for."""
    may_answer: bool = True
    fails: bool = False
    _unanswered: list[tuple[dns.message.QueryMessage, tuple[str, int]]] = field(
        default_factory=list
    )

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answer_all(self) -> None:
        """Answer from now on, and the questions so far."""
        self.may_answer = True
        for query, sender in self._unanswered:
            self._answer(query, sender)
        self._unanswered.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        query = cast(dns.message.QueryMessage, dns.message.from_wire(data))
        [question] = query.question
        name = question.name.to_text(omit_final_dot=True)
        if question.rdtype == dns.rdatatype.A:
            self.questions.append(name)
        if name.startswith("hanging"):
            return
        if self.may_answer:
            self._answer(query, sender)
        else:
            self._unanswered.append((query, sender))

    def _answer(self, query: dns.message.QueryMessage, sender: tuple[str, int]) -> None:
        [question] = query.question
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        addresses = self.addresses.get(question.name.to_text(omit_final_dot=True).lower())
        if self.fails:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif addresses is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        else:
            is_v6 = question.rdtype == dns.rdatatype.AAAA
            texts = [address for address in addresses if (":" in address) == is_v6]
            if texts:
                kind = dns.rdatatype.to_text(question.rdtype)
                rrset = dns.rrset.from_text(question.name, TTL_SECONDS, "IN", kind, *texts)
                reply.answer.append(rrset)
        self._transport.sendto(reply.to_wire(), sender)


@asynccontextmanager
async def serving_names(**addresses: Sequence[str]) -> AsyncIterator[NameServer]:
    """`well_example=["127.0.0.1"]` is the name well.example."""
    by_name = {name.replace("_", "."): texts for name, texts in addresses.items()}
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer(addresses=by_name), local_addr=("127.0.0.1", 0)
    )
    server.port = transport.get_extra_info("sockname")[1]
    try:
        yield server
    finally:
        transport.close()
