"""Filter policies, slow and obvious: each rule of SNS as one sentence of code, evaluated anew for every message."""

from __future__ import annotations

import ipaddress
import re
from decimal import Decimal
from typing import Any


def fits(policy: dict[str, Any], document: dict[str, Any]) -> bool:
    """Whether all names of the policy fit."""
    return all(_name_fits(name, wanted, document) for name, wanted in policy.items())


def _name_fits(name: str, wanted: Any, document: dict[str, Any]) -> bool:
    if name == "$or":
        return any(fits(alternative, document) for alternative in wanted)
    if isinstance(wanted, dict):
        objects = [each for each in _elements(document.get(name)) if isinstance(each, dict)]
        return any(fits(wanted, each) for each in objects or [{}])
    return any(_is_met(condition, name, document) for condition in wanted)


def _is_met(condition: Any, name: str, document: dict[str, Any]) -> bool:
    if isinstance(condition, dict) and "exists" in condition:
        return condition["exists"] is (name in document)
    if name not in document:
        return False
    values = [each for each in _elements(document[name]) if not isinstance(each, dict)]
    return any(_value_meets(condition, value) for value in values)


def _elements(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [one for each in value for one in _elements(each)]
    return [value]


def _value_meets(condition: Any, value: Any) -> bool:
    if not isinstance(condition, dict):
        return _same(condition, value)
    [(operator, operand)] = condition.items()
    match operator:
        case "anything-but" if isinstance(operand, dict):
            [(inner, given)] = operand.items()
            texts = given if isinstance(given, list) else [given]
            return not any(_value_meets({inner: text}, value) for text in texts)
        case "anything-but":
            excluded = operand if isinstance(operand, list) else [operand]
            return not any(_same(each, value) for each in excluded)
        case "numeric":
            comparisons = zip(operand[::2], operand[1::2], strict=True)
            return _is_number(value) and all(_compare(value, *each) for each in comparisons)
        case _ if not isinstance(value, str):
            return False
        case "prefix":
            return bool(value[: len(operand)] == operand)
        case "suffix":
            return bool(value[max(0, len(value) - len(operand)) :] == operand)
        case "equals-ignore-case":
            return bool(value.casefold() == operand.casefold())
        case "wildcard":
            parts = re.split(r"(\\.|\*)", operand)
            pattern = "".join(
                ".*" if part == "*" else re.escape(re.sub(r"\\(.)", r"\1", part)) for part in parts
            )
            return re.fullmatch(pattern, value, re.DOTALL) is not None
        case "cidr":
            return _is_within(value, operand)
    raise AssertionError(operator)


def _compare(value: Any, sign: str, number: Any) -> bool:
    difference = _rounded(value) - _rounded(number)
    return {
        "=": difference == 0,
        "<": difference < 0,
        "<=": difference <= 0,
        ">": difference > 0,
        ">=": difference >= 0,
    }[sign]


def _same(wanted: Any, value: Any) -> bool:
    if _is_number(wanted) and _is_number(value):
        return _rounded(wanted) == _rounded(value)
    return type(wanted) is type(value) and bool(wanted == value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rounded(number: Any) -> int:
    return int(Decimal(str(number)).quantize(Decimal("0.00001")) * 100000)


def _is_within(text: str, block: str) -> bool:
    base, _, length = block.partition("/")
    try:
        address, network = ipaddress.ip_address(text), ipaddress.ip_address(base)
    except ValueError:
        return False
    if address.version != network.version:
        return False
    shift = network.max_prefixlen - int(length)
    return int(address) >> shift == int(network) >> shift
