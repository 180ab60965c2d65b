"""`docker-compose.yml` and `Dockerfile`: valid, pinned, and about the service that this is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_group

from deploy.cluster import (
    API_OPTIONS,
    MEMBERS,
    MONGOD_OPTIONS,
    REDIS_OPTIONS,
    SET_NAME,
    WORKER_OPTIONS,
    WORKERS,
)
from zaqar_notify.cli import app
from zaqar_notify.settings import Settings, load_settings, variable

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
LOCAL_IMAGE = "zaqar-notify:local"
OURS = [name for name, service in SERVICES.items() if service["image"] == LOCAL_IMAGE]
OTHERS = [name for name in SERVICES if name not in OURS]
STORES = {
    "mongo1": {"/data/db", "/data/configdb"},
    "mongo2": {"/data/db", "/data/configdb"},
    "mongo3": {"/data/db", "/data/configdb"},
    "redis": {"/data"},
}
"""And the directories that each writes to."""
EXECUTOR_THREADS = 32
"""The most threads that an event loop takes for blocking calls."""
OTHER_THREADS = 16
"""The main one, the engine's, the doorbell's, Celery's and libuv's."""
EXACT_TAG = re.compile(r"[a-z][\w./-]*:v?\d+\.\d+\.\d+(-[\w.-]+)?(@sha256:[0-9a-f]{64})?")


def with_defaults(value: str) -> str:
    """A value as it is when the environment has only the required variables."""
    required = re.sub(r"\$\{\w+:\?[^}]*\}", "set-by-the-operator", value)
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", required)


def environment(service: str) -> dict[str, str]:
    return {name: with_defaults(value) for name, value in SERVICES[service]["environment"].items()}


def settings_of(service: str) -> Settings:
    return load_settings(environment(service))


def accepts(arguments: list[str]) -> bool:
    """Whether the command line is one of ours; it is not run."""
    group = get_group(app)
    with group.make_context("zaqar-notify", list(arguments)) as context:
        _, command, rest = group.resolve_command(context, list(arguments))
        assert command is not None
        command.make_context(command.name, rest, parent=context)
    return True


def test_the_file_follows_the_compose_specification() -> None:
    check = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")

    checked = subprocess.run([*check, COMPOSE_FILE], capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_services_refer_to_is_declared() -> None:
    for name, service in SERVICES.items():
        volumes = [volume.split(":") for volume in service.get("volumes", [])]
        for source, *_ in volumes:
            exists = (ROOT / source).is_file() if "/" in source else source in COMPOSE["volumes"]
            assert exists, f"{name}: {source}"
        assert set(service["networks"]) <= set(COMPOSE["networks"]), name
        assert set(service.get("depends_on", {})) <= set(SERVICES), name


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_watched_started_again_and_limited(name: str) -> None:
    service = SERVICES[name]

    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"
    assert {"memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_waits_for_a_service_waits_for_its_health(name: str) -> None:
    for dependency in SERVICES[name].get("depends_on", {}).values():
        assert dependency == {"condition": "service_healthy"}


def kept_in_volumes(name: str) -> dict[str, str]:
    """Directories of the service that outlive its container, each with the volume's name."""
    mounts = [volume.split(":") for volume in SERVICES[name]["volumes"]]
    return {target: source for source, target, *_ in mounts if source in COMPOSE["volumes"]}


def test_what_stores_keep_outlives_their_containers() -> None:
    kept = {name: kept_in_volumes(name) for name in STORES}
    volumes = [volume for directories in kept.values() for volume in directories.values()]

    assert {name: set(directories) for name, directories in kept.items()} == STORES
    assert len(set(volumes)) == len(volumes), "No two stores share one"


def test_health_is_asked_for_where_it_is_answered() -> None:
    api_port = SERVICES["api"]["command"][SERVICES["api"]["command"].index("--port") + 1]
    ports = {"api": api_port, "worker": environment("worker")["ZAQAR_METRICS_PORT"]}

    for name in OURS:
        program, *_, code = SERVICES[name]["healthcheck"]["test"][1:]
        assert program == "python"
        assert f"://127.0.0.1:{ports[name]}/readyz', timeout=4" in code


def test_the_first_members_health_check_makes_the_set_when_the_others_are_well() -> None:
    _, program, *options, script = SERVICES["mongo1"]["healthcheck"]["test"]
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["mongo1"]["volumes"])

    assert (program, options[-1]) == ("mongosh", "--file")
    assert mounts["./deploy/replica-set.js"] == script
    assert set(SERVICES["mongo1"]["depends_on"]) == {"mongo2", "mongo3"}


def test_images_are_pinned_to_a_release() -> None:
    for name in OTHERS:
        assert EXACT_TAG.fullmatch(SERVICES[name]["image"]), name
    assert {SERVICES[name]["image"] for name in OURS} == {LOCAL_IMAGE}

    stages = {"base", "build"}
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert bases
    for base in bases:
        assert base in stages or EXACT_TAG.fullmatch(base), base


@pytest.mark.parametrize("name", OURS)
def test_our_services_get_settings_that_exist_and_commands_that_are_ours(name: str) -> None:
    settings = settings_of(name)

    assert settings.store_uri.startswith("mongodb://")
    assert settings.broker_uri.startswith("redis://")
    assert accepts(SERVICES[name]["command"])


def test_the_steps_in_the_head_of_the_file_make_a_token_with_a_command_of_ours() -> None:
    head = COMPOSE_FILE.read_text().partition("\nname:")[0]
    [arguments] = re.findall(r"docker compose exec api zaqar-notify (.+)", head)

    assert settings_of("api").auth == ("token",)
    assert accepts(arguments.split())


def test_variables_that_are_asked_for_are_settings_or_ports() -> None:
    known = {variable(name) for name in Settings.model_fields} | {"API_PORT", "MAIL_PORT"}

    assert set(re.findall(r"\$\{(\w+)", COMPOSE_FILE.read_text())) <= known


@pytest.mark.parametrize("secret", ["ZAQAR_WEBHOOK_SECRET", "ZAQAR_SIGNED_URL_SECRETS"])
def test_without_a_secret_nothing_starts_and_a_sentence_says_what_to_do(secret: str) -> None:
    for name in OURS:
        value = SERVICES[name]["environment"][secret]
        assert re.fullmatch(rf"\$\{{{secret}:\?[^}}]*{secret}[^}}]*openssl rand[^}}]*\}}", value)


def test_only_the_api_and_the_mailbox_are_published_and_only_to_this_host() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert set(published) == {"api", "mail"}
    for ports in published.values():
        assert all(port.startswith("127.0.0.1:") for port in ports)


def test_stores_can_be_reached_by_our_services_only() -> None:
    stores = {name for name, service in SERVICES.items() if service["networks"] == ["stores"]}

    assert COMPOSE["networks"]["stores"] == {"internal": True}
    assert stores == set(STORES)
    assert {name for name, service in SERVICES.items() if "stores" in service["networks"]} == {
        *stores,
        *OURS,
    }


@pytest.mark.parametrize("name", OURS)
def test_our_services_have_the_time_that_they_take_to_stop(name: str) -> None:
    grace_seconds = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))

    assert grace_seconds > settings_of(name).shutdown_seconds + 5


@pytest.mark.parametrize("name", OURS)
def test_our_services_may_have_as_many_threads_as_their_settings_let_them_take(name: str) -> None:
    command, settings = SERVICES[name]["command"], settings_of(name)
    processes = int(command[command.index("--processes" if name == "api" else "--concurrency") + 1])
    # A try may be a process: a mail command.
    tries = settings.delivery_concurrency if name == "worker" else 0

    most = 1 + processes * (tries + EXECUTOR_THREADS + OTHER_THREADS)

    assert SERVICES[name]["deploy"]["resources"]["limits"]["pids"] >= most


def test_the_members_of_the_set_are_the_same_everywhere() -> None:
    members = [name for name in SERVICES if name.startswith("mongo")]
    script = (ROOT / "deploy" / "replica-set.js").read_text()

    assert re.findall(r'"(mongo\d)"', script) == members
    assert f'_id: "{SET_NAME}"' in script
    for name in OURS:
        hosts = ",".join(f"{member}:27017" for member in members)
        assert settings_of(name).store_uri.startswith(f"mongodb://{hosts}/")
        assert settings_of(name).store_uri.endswith(f"?replicaSet={SET_NAME}")


def test_make_cluster_runs_the_same() -> None:
    members = [service for name, service in SERVICES.items() if name.startswith("mongo")]
    redis = SERVICES["redis"]["command"]
    api, worker = SERVICES["api"], SERVICES["worker"]

    assert len(members) == MEMBERS
    for member in members:
        assert member["command"] == ["mongod", *MONGOD_OPTIONS, "--bind_ip_all"]
    assert redis == ["valkey-server", *REDIS_OPTIONS]
    assert api["command"] == ["api", "--host", "0.0.0.0", "--port", "8888", *API_OPTIONS]
    assert worker["command"] == ["worker", *WORKER_OPTIONS]
    assert worker["deploy"]["replicas"] == WORKERS


def test_the_image_has_no_root_and_no_shell_between_it_and_signals() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    instructions = dict(re.findall(r"^([A-Z]+) (.*)$", last, re.MULTILINE))

    assert instructions["USER"] == "10001:10001"
    assert instructions["STOPSIGNAL"] == "SIGTERM"
    assert instructions["ENTRYPOINT"] == '["zaqar-notify"]'
    assert instructions["VOLUME"] == '["/data"]'
    assert re.search(r'HEALTHCHECK .*\\\n +CMD \["python", .*/healthz', last)
    assert accepts(yaml.safe_load(instructions["CMD"]))


def test_the_image_has_nothing_of_its_build_but_what_was_installed() -> None:
    built, _, last = DOCKERFILE.rpartition("\nFROM ")
    base = last.split()[0]
    copied = re.findall(r"^(?:COPY|ADD) (.*)$", last, re.MULTILINE)

    assert re.search(rf"^FROM {base} AS build$", built, re.MULTILINE)
    assert copied == ["--from=build /opt/zaqar-notify /opt/zaqar-notify"]
    assert "pip" not in last


def test_the_image_is_built_from_what_is_let_through_to_it() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)

    assert "*" in lines
    assert {source for sources in copied for source in sources.split()} == let_through
    assert all((ROOT / source).exists() for source in let_through)
