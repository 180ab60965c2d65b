"""The HTTP API: parse, call one function of the domain, shape the answer."""
