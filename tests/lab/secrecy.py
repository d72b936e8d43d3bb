"""Every secret of a lab, and every place where none may stand: the one register for all scenes and sources.

Secrets come in by themselves: those of Secret objects that are applied, ServiceAccount tokens, the tokens of
image URLs, and the session cookies that a controller notes on its scratch volume. What else is secret is told
with `remember`. Places are kept as texts and searched at the end, when all secrets are known.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LOOK_SECONDS = 0.2
SHORTEST = 6  # shorter words stand anywhere by chance
IMAGE_TOKEN = re.compile(r"/([0-9a-f]{32})/disk-\d+")
COOKIE_VALUE = re.compile(r"[\w-]{16,}")

# Keys of a source's Secret that are none.
PUBLIC_KEYS = frozenset(
    {
        *("username", "project_name", "domain_name", "user_domain_name", "project_domain_name"),
        *("application_credential_id", "caCert", "ca_cert", "ca.crt"),
    }
)


class Secrecy:
    """Secrets by their value, with what each is, and texts by their place. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: dict[str, str] = {}
        self._places: dict[str, dict[str, None]] = {}

    def remember(self, what: str, value: str) -> None:
        """Note a secret, and the forms in which it travels."""
        if len(value) < SHORTEST:
            return
        forms = {value, base64.b64encode(value.encode()).decode(), urllib.parse.quote(value, safe="")}
        with self._lock:
            self._secrets |= dict.fromkeys(forms, what)

    def remember_manifests(self, manifests: Iterable[Mapping[str, Any]]) -> None:
        """Note what is secret in Secret objects."""
        for manifest in manifests:
            if manifest.get("kind") != "Secret":
                continue
            plain = dict(manifest.get("stringData") or {})
            for key, value in (manifest.get("data") or {}).items():
                plain[key] = base64.b64decode(value).decode(errors="replace")
            for key, value in plain.items():
                if key not in PUBLIC_KEYS:
                    self.remember(key, value)
            if "username" in plain and "password" in plain:
                self.remember("basic authentication", f"{plain['username']}:{plain['password']}")

    def remember_urls(self, urls: Iterable[str]) -> None:
        """Note the tokens of image URLs."""
        for url in urls:
            if match := IMAGE_TOKEN.search(url):
                self.remember("image token", match[1])

    def kinds(self) -> set[str]:
        """Return what sorts of secrets are known."""
        with self._lock:
            return set(self._secrets.values())

    def keep(self, place: str, text: str) -> None:
        """Keep a text in which no secret may stand."""
        with self._lock:
            self._places.setdefault(place, {})[text] = None

    def places(self) -> set[str]:
        """Return the places of which there are texts."""
        with self._lock:
            return set(self._places)

    def leaks(self) -> list[str]:
        """Return where a secret stands, and which sort, without the secret."""
        with self._lock:
            return sorted(
                {
                    f"{what} in {place}"
                    for place, texts in self._places.items()
                    for text in texts
                    for secret, what in self._secrets.items()
                    if secret in text
                }
            )

    def follow(self, pid: int, scratch: Path) -> None:
        """Watch a controller as long as it runs: its arguments, its children's, what it notes as open."""
        threading.Thread(target=self._follow, args=(pid, scratch), name="secrecy", daemon=True).start()

    def _follow(self, pid: int, scratch: Path) -> None:
        pause = threading.Event()
        while Path(f"/proc/{pid}/cmdline").exists():
            for each in (pid, *_children(pid)):
                with contextlib.suppress(OSError):
                    words = Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ")
                    self.keep("process arguments", words.decode(errors="replace"))
            with contextlib.suppress(OSError):  # the volume may go while it is listed
                for path in scratch.glob(".open/*.json"):
                    self._remember_cookies(path)
            pause.wait(LOOK_SECONDS)

    def _remember_cookies(self, path: Path) -> None:
        with contextlib.suppress(OSError, ValueError):
            for value in _secret_values(json.loads(path.read_text())):
                for cookie in COOKIE_VALUE.findall(value):
                    self.remember("session cookie", cookie)


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):  # the process may end while its threads are listed
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                yield from map(int, path.read_text().split())


def _secret_values(note: Any) -> Iterator[str]:
    """Yield the secret values of a note, whose entry is JSON of the provider's own within JSON of ours."""
    if isinstance(note, str):
        with contextlib.suppress(ValueError):
            yield from _secret_values(json.loads(note))
    elif isinstance(note, dict):
        for key, value in note.items():
            if isinstance(value, str) and re.search("cookie|token|password", key):
                yield value
            else:
                yield from _secret_values(value)
