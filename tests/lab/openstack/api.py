"""How the lab itself uses the cloud: JSON over HTTP, with a login. What the calls mean is OpenStack's.

Not through the SDK, as the product's are: the lab must not share its mistakes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from keystoneauth1.exceptions import ClientException
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session

from tests.lab.errors import LabError
from tests.lab.openstack.site import ADMIN, PASSWORD, REGION, Service, Site

if TYPE_CHECKING:
    from pathlib import Path

    from requests import Response

Interface = Literal["public", "internal"]
DOMAIN = "Default"
NOT_FOUND = 404
CALL_SECONDS = 120
MICROVERSIONS: dict[Service, dict[str, str]] = {
    "compute": {"OpenStack-API-Version": "compute 2.79"},  # has flavors embedded, and faults
    "volumev3": {"OpenStack-API-Version": "volume 3.59"},
}


class ApiError(LabError):
    """The cloud refused a call, or did not answer it.

    Attributes:
        status: HTTP status; `None` without an answer.
    """

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """One user's access to the cloud's services; logs in when it is first used.

    Args:
        auth_url: Keystone's, with `/v3`.
        username: In the domain `Default`, as the project.
        password: The user's.
        project: Its name.
        interface: Which of the catalogue's endpoints to use: the tenants', or the services' own.
    """

    def __init__(
        self, auth_url: str, *, username: str, password: str, project: str, interface: Interface = "public"
    ) -> None:
        login = Password(
            auth_url,
            username=username,
            password=password,
            project_name=project,
            user_domain_name=DOMAIN,
            project_domain_name=DOMAIN,
        )
        self._session = Session(login)
        self._interface = interface

    @classmethod
    def administrator(cls, site: Site) -> Api:
        """Return the administrator's access to the services themselves."""
        return cls(
            site.url("identity"), username=ADMIN, password=PASSWORD, project=ADMIN, interface="internal"
        )

    def close(self) -> None:
        """Close connections that are kept open."""
        self._session.session.close()

    def get(self, service: Service, path: str) -> Any:
        """Return what stands at a path below the service's endpoint, decoded."""
        return self.call("GET", service, path).json()

    def post(self, service: Service, path: str, body: Any) -> Any:
        """Return the decoded answer to a POST, `None` to an empty one."""
        answer = self.call("POST", service, path, json=body)
        return answer.json() if answer.content else None

    def delete(self, service: Service, path: str) -> None:
        """Ask for something's removal."""
        self.call("DELETE", service, path)

    def exists(self, service: Service, path: str) -> bool:
        """Tell whether there is something at a path."""
        try:
            self.call("GET", service, path)
        except ApiError as exc:
            if exc.status == NOT_FOUND:
                return False
            raise
        return True

    def call(self, method: str, service: Service, path: str, **options: Any) -> Response:
        """Return the answer to a call.

        Args:
            method: Of HTTP.
            service: Type in the catalogue.
            path: Below the service's endpoint.
            options: Those of `requests`.

        Raises:
            ApiError: it was refused, with the service's own words; or the service is away.
        """
        headers = {**MICROVERSIONS.get(service, {}), **options.pop("headers", {})}
        options.setdefault("timeout", CALL_SECONDS)
        where = {"service_type": service, "interface": self._interface, "region_name": REGION}
        try:
            return self._session.request(path, method, endpoint_filter=where, headers=headers, **options)
        except ClientException as exc:
            status = getattr(exc, "http_status", None)
            response: Response | None = getattr(exc, "response", None)
            said = response.text if response is not None else ""
            raise ApiError(f"{method} {service} {path}: {exc} {said}", status) from exc

    def upload(self, path: str, content: Path) -> None:
        """Send a file's bytes to Glance."""
        with content.open("rb") as file:
            self.call("PUT", "image", path, data=file, headers={"Content-Type": "application/octet-stream"})

    def token(self) -> str:
        """Return the token that the calls use.

        Raises:
            ApiError: Keystone gives none.
        """
        try:
            return str(self._session.get_token())
        except ClientException as exc:
            raise ApiError(str(exc), getattr(exc, "http_status", None)) from exc

    def answers(self) -> bool:
        """Tell whether Keystone gives the user a token."""
        try:
            self.token()
        except ApiError:
            return False
        return True
