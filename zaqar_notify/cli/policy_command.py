"""`zaqar-notify policy list`: every rule of the policy, with its operations and its default."""

from __future__ import annotations

import msgspec
import typer

from zaqar_notify.auth.rules import BLOCKS, RULES, Rule
from zaqar_notify.cli.commands import Json, add_group
from zaqar_notify.cli.output import print_json
from zaqar_notify.settings import VERSIONS, Settings, load_settings


class _Operation(msgspec.Struct):
    method: str
    path: str


class _Listed(msgspec.Struct):
    """A rule as the list has it; `scope` is the least scope of a tenant's token."""

    name: str
    default: str
    scope: str | None = None
    description: str = ""
    operations: list[_Operation] = []


def register(app: typer.Typer) -> None:
    add_group(app, "policy", "Rules that permit operations to roles.", (list_,))


def list_(as_json: Json = False) -> None:
    """List all rules with their operations and defaults, as a policy file in which all lines are comments.

    The defaults are those that ZAQAR_POLICY_DEFAULTS names. To change a rule, write it into the file that
    ZAQAR_POLICY_FILE names.
    """
    is_strict = load_settings().policy_defaults == "strict"
    listed = [
        _Listed(name, check, description="A building block") for name, check in BLOCKS.items()
    ]
    listed += _rules(is_strict=is_strict)
    if as_json:
        print_json(listed)
    else:
        print("\n\n".join(map(_sample, listed)))


def _rules(*, is_strict: bool) -> list[_Listed]:
    # Imported late, because the routes take a while to import.
    from api.authentication import TrustedHeaders
    from api.routes import surfaces
    from api.surfaces import guarded

    settings = Settings(admin_mode=True, versions=VERSIONS)
    operations = guarded(surfaces(settings, TrustedHeaders(settings)))

    def listed(rule: Rule) -> _Listed:
        found = operations.get(rule.name, [])
        summaries = "; ".join(dict.fromkeys(one.summary for one in found))
        return _Listed(
            rule.name,
            rule.check(is_strict=is_strict),
            rule.scope.role,
            summaries or "Zaqar's rule; this release has no such operation",
            [_Operation(one.method, one.path) for one in found],
        )

    return [listed(rule) for rule in RULES.values()]


def _sample(rule: _Listed) -> str:
    """The rule as `oslopolicy-sample-generator` writes it."""
    lines = [f"# {rule.description}"]
    lines += [f"# {operation.method}  {operation.path}" for operation in rule.operations]
    if rule.scope is not None:
        lines.append(f"# Least scope of a tenant's token: {rule.scope}")
    return "\n".join([*lines, f'#"{rule.name}": "{rule.default}"'])
