"""What goes over the wire to the services: where to, in which version, and how often."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from providers.base import TLSPolicy
from providers.errors import AuthenticationFailed, Unreachable
from providers.openstack.catalogue import Service
from providers.openstack.endpoint import Endpoint
from providers.openstack.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = {"username": "u", "password": "hunter2", "project_name": "p", "domain_name": "d"}
PATHS = {"compute": "/compute/v2.1", "volumev3": "/volume/v3/p1", "image": "/a%20b", "network": "/network"}


class Asked(NamedTuple):
    """A request that came, the microversion that it was for, and whether its token was good."""

    path: str
    microversion: str | None = None
    token: bool = True


class Cloud(ThreadingHTTPServer):
    """A Keystone that gives tokens, and services that answer `{}` where nothing else is said.

    Attributes:
        logins: How often Keystone was asked for a token; only its last one is good.
        closed: Whether it gives none any more.
        answers: Status and body by path; the last one of a path is given for ever.
        asked: What the services were asked, without Keystone.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.logins = 0
        self.closed = False
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.asked: list[Asked] = []

    def versions(self, path: str, major: str, newest: str, link: str) -> None:
        """Answer with a version document, as Nova and Cinder do."""
        links = [{"rel": "self", "href": link}]
        version = {"id": major, "status": "CURRENT", "version": newest, "min_version": "2.1", "links": links}
        self.answers.setdefault(path, []).append((200, {"versions": [version]}))

    def token(self) -> dict[str, Any]:
        endpoints = {
            kind: [{"interface": "public", "region_id": "R", "url": f"{self.url}{path}"}]
            for kind, path in PATHS.items()
        }
        catalogue = [{"type": kind, "endpoints": entries} for kind, entries in endpoints.items()]
        times = {"issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2099-01-01T00:00:00.000000Z"}
        return {"token": {"catalog": catalogue, "project": {"id": "p1", "name": "p"}, **times}}


class _Handler(BaseHTTPRequestHandler):
    server: Cloud

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.logins += 1
        if self.server.closed:
            self._answer(401, {"error": {"message": "go away, hunter2"}})
        else:
            self._answer(201, self.server.token())

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        token = self.headers["X-Auth-Token"] == f"token-{self.server.logins}"
        self.server.asked.append(Asked(path, self.headers["OpenStack-API-Version"], token))
        if not token:
            self._answer(401, {"error": {"message": "a stale token"}})
            return
        answers = self.server.answers.get(path) or [(200, {})]
        self._answer(*(answers.pop(0) if len(answers) > 1 else answers[0]))

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("X-Subject-Token", f"token-{self.server.logins}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nobody wants to know."""


@contextlib.contextmanager
def running() -> Iterator[Cloud]:
    cloud = Cloud()
    thread = threading.Thread(target=cloud.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield cloud
    finally:
        cloud.shutdown()
        cloud.server_close()
        thread.join()


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as cloud:
        yield cloud


@pytest.fixture
def session(cloud: Cloud) -> Iterator[Session]:
    with contextlib.closing(Session(Endpoint.parse(cloud.url), SECRET, TLSPolicy(), "")) as session:
        yield session


@pytest.mark.parametrize(
    ("service", "document", "major", "offered", "spoken"),
    [
        (Service.COMPUTE, "/compute/v2.1/", "v2.1", "2.93", "compute 2.61"),
        (Service.COMPUTE, "/compute/v2.1/", "v2.1", "2.9", "compute 2.9"),
        (Service.VOLUME, "/volume/v3/", "v3.0", "3.70", "volume 3.5"),
        (Service.VOLUME, "/volume/v3/", "v3.0", "3.0", "volume 3.0"),
    ],
)
def test_the_newest_version_that_both_sides_know_is_spoken(
    cloud: Cloud, session: Session, service: Service, document: str, major: str, offered: str, spoken: str
) -> None:
    cloud.versions(document, major, offered, f"{cloud.url}{document}")
    session.get(service, "/things")
    session.get(service, "/things")
    thing = Asked(document.replace("v3/", "v3/p1/") + "things", spoken)
    assert cloud.asked == [Asked(document), thing, thing]


def test_links_of_version_documents_are_not_followed(cloud: Cloud, session: Session) -> None:
    """They name what the service takes for its address; behind a proxy that is somebody else's."""
    with running() as elsewhere:
        cloud.versions("/compute/v2.1/", "v2.1", "2.93", f"{elsewhere.url}/v2.1/")
        session.get(Service.COMPUTE, "/servers")
        assert elsewhere.asked == []
    assert cloud.asked[-1] == Asked("/compute/v2.1/servers", "compute 2.61")


@pytest.mark.parametrize("service", [Service.IMAGE, Service.NETWORK])
def test_services_without_microversions_are_asked_for_no_versions(
    cloud: Cloud, session: Session, service: Service
) -> None:
    session.get(service, "/things")
    assert [asked.microversion for asked in cloud.asked] == [None]


def test_a_service_that_is_away_is_not_held_for_an_old_one(cloud: Cloud, session: Session) -> None:
    cloud.answers["/compute/v2.1/"] = [(503, {"computeFault": {"message": "in a minute"}})]
    cloud.versions("/compute/v2.1/", "v2.1", "2.93", cloud.url)
    with pytest.raises(Unreachable, match=r"in a minute \(HTTP 503\)"):
        session.get(Service.COMPUTE, "/servers")
    session.get(Service.COMPUTE, "/servers")
    assert [asked.microversion for asked in cloud.asked] == [None, None, "compute 2.61"]


@pytest.mark.parametrize("body", [{}, [], "versions"])
def test_what_is_no_version_document_is_told(cloud: Cloud, session: Session, body: Any) -> None:
    cloud.answers["/compute/v2.1/"] = [(200, body)]
    with pytest.raises(Unreachable, match=r"/compute/v2.1/ tells of no versions"):
        session.get(Service.COMPUTE, "/servers")


def test_a_gateway_that_hides_the_version_document_is_spoken_to_in_the_oldest(
    cloud: Cloud, session: Session
) -> None:
    cloud.answers["/compute/v2.1/"] = [(404, {"message": "no such route"})]
    session.get(Service.COMPUTE, "/servers")
    assert cloud.asked[-1] == Asked("/compute/v2.1/servers")


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize("service", [Service.IMAGE, Service.NETWORK])
def test_a_request_is_sent_once_whatever_comes_of_it(
    cloud: Cloud, session: Session, service: Service, status: int
) -> None:
    path = "/a%20b/v2/things" if service is Service.IMAGE else "/network/v2.0/things"
    cloud.answers[path] = [(status, {})]
    with pytest.raises(Unreachable):
        session.get(service, "/things")
    assert cloud.asked == [Asked(path)]


def test_a_token_that_is_refused_is_replaced_once(cloud: Cloud, session: Session) -> None:
    session.get(Service.NETWORK, "/things")
    cloud.logins += 1  # Keystone gave another token, and revoked ours
    session.get(Service.NETWORK, "/things")
    assert [asked.token for asked in cloud.asked] == [True, False, True]
    assert cloud.logins == 3


def test_a_renewal_that_is_refused_is_not_tried_with_the_next_request(cloud: Cloud, session: Session) -> None:
    """An account locks after a few refusals."""
    session.get(Service.NETWORK, "/things")
    cloud.closed = True
    cloud.logins += 1
    for _ in range(3):
        with pytest.raises(AuthenticationFailed, match="Keystone refuses") as refused:
            session.get(Service.NETWORK, "/things")
        assert "hunter2" not in str(refused.value)
    assert cloud.logins == 3


@pytest.mark.parametrize("body", [[], "words", None])
def test_an_answer_that_is_no_object_is_told(cloud: Cloud, session: Session, body: Any) -> None:
    cloud.answers["/network/v2.0/things"] = [(200, body)]
    with pytest.raises(Unreachable, match="the answer to /things"):
        session.get(Service.NETWORK, "/things")
