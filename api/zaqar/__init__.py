"""Parts that the versions of the Zaqar API share: heads of requests, queries, bodies, links, shapes, and handlers that differ
only by the version's prefix, which is `Call.wire`."""
