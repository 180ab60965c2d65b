"""Every test of a client runs against both shapes of the service, and below a path of a site; each test has a project of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.clients.caller import Caller
from tests.cluster.cluster import empty_cluster
from tests.proxies import proxy
from tests.service import Service, free_port
from zaqar_notify.clock import new_id


@contextmanager
def single_process(directory: Path) -> Iterator[str]:
    service = Service(directory / "data")
    service.start()
    yield service.url
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()


@contextmanager
def api_and_worker(directory: Path) -> Iterator[str]:
    with empty_cluster(directory) as cluster:
        api = cluster.api(environ={"ZAQAR_VERSIONS": "v2,v1.1,v1"})
        worker = cluster.worker()
        yield api.url
        assert (api.stop(), worker.stop()) == (0, 0)


@contextmanager
def below_a_prefix(directory: Path) -> Iterator[str]:
    """The single process behind nginx, which takes the prefix away."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/messaging"
    service = Service(directory / "data", environ={"ZAQAR_PUBLIC_URL": url})
    service.start()
    site = f"""server {{ listen 127.0.0.1:{port}; client_max_body_size 0;
        location /messaging/ {{ proxy_pass {service.url}/; proxy_http_version 1.1; }} }}"""
    with proxy("nginx", site, port, directory / "nginx"):
        yield url
    assert service.stop() == 0


SHAPES: dict[str, Callable[[Path], AbstractContextManager[str]]] = {
    "sqlite": single_process,
    "prefix": below_a_prefix,
    "mongodb": api_and_worker,
}


# Not of the session: the cluster's database goes when the next package asks for one of its own.
@pytest.fixture(scope="package", params=SHAPES)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a service that all tests of the clients share."""
    running = SHAPES[request.param]
    with running(tmp_path_factory.mktemp("clients")) as url:
        yield url


@pytest.fixture
def prefix(url: str) -> str:
    """The beginning of every link."""
    return urlsplit(url).path


@pytest.fixture
def project() -> str:
    return f"project-{new_id()}"


@pytest.fixture
def caller(url: str, project: str) -> Iterator[Caller]:
    with Caller(url, project) as caller:
        yield caller
