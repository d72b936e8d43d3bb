"""Nova's hypervisor driver of the lab: no guest runs, but root disks have bytes and power has a state.

Loaded by Debian's nova-compute as `nova.virt.lab_compute`. Beyond Nova's own fake driver: a server that was
booted from an image has that image's bytes as its disk and uploads them when a snapshot is taken; power
states outlive the service; a file tells guests how long to take for a shutdown.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import eventlet
from nova.compute import task_states
from nova.conf import CONF
from nova.image import glance
from nova.virt import fake
from oslo_concurrency import processutils

POWER = "power.json"
STOP_SECONDS = "stop-seconds"
DEFAULT_STOP_SECONDS = 60


class Driver(fake.FakeDriver):  # type: ignore[misc]  # Nova has no types
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._state = Path(CONF.state_path)
        self._images = glance.API()

    def init_host(self, host: str) -> None:
        super().init_host(host)
        with contextlib.suppress(FileNotFoundError):
            for uuid, (name, state) in json.loads((self._state / POWER).read_text()).items():
                self.instances[uuid] = fake.FakeInstance(name, state, uuid)

    def spawn(self, context: Any, instance: Any, image_meta: Any, *args: Any, **options: Any) -> None:
        if instance.image_ref:
            self._make_disk(context, instance)
        super().spawn(context, instance, image_meta, *args, **options)
        self._remember()

    def destroy(self, context: Any, instance: Any, *args: Any, **options: Any) -> None:
        super().destroy(context, instance, *args, **options)
        self._disk(instance).unlink(missing_ok=True)
        self._remember()

    def power_on(self, *args: Any, **options: Any) -> None:
        super().power_on(*args, **options)
        self._remember()

    def power_off(self, instance: Any, timeout: int = 0, retry_interval: int = 0) -> None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            seconds = float((self._state / STOP_SECONDS).read_text())
            eventlet.sleep(min(seconds, timeout or DEFAULT_STOP_SECONDS))  # only this request waits
        super().power_off(instance, timeout, retry_interval)
        self._remember()

    def snapshot(self, context: Any, instance: Any, image_id: str, update_task_state: Any) -> None:
        """Upload the disk in the format that its image had, as libvirt's driver does by default."""
        update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
        disk_format = instance.system_metadata.get("image_disk_format", "raw")
        copy = self._disk(instance).with_suffix(f".{image_id}")
        self._convert(self._disk(instance), "raw", copy, disk_format)
        update_task_state(
            task_state=task_states.IMAGE_UPLOADING, expected_state=task_states.IMAGE_PENDING_UPLOAD
        )
        wanted = {"status": "active", "disk_format": disk_format, "container_format": "bare"}
        try:
            with copy.open("rb") as data:
                self._images.update(context, image_id, wanted, data, purge_props=False)
        finally:
            copy.unlink()

    def _make_disk(self, context: Any, instance: Any) -> None:
        """Give the server its image as a raw disk, as long as the flavor says (0: as long as the image)."""
        download = self._disk(instance).with_suffix(".download")
        self._images.download(context, instance.image_ref, dest_path=str(download))
        disk_format = instance.system_metadata.get("image_disk_format", "raw")
        self._convert(download, disk_format, self._disk(instance), "raw")
        download.unlink()
        size = instance.flavor.root_gb << 30
        if size > self._disk(instance).stat().st_size:
            os.truncate(self._disk(instance), size)

    def _disk(self, instance: Any) -> Path:
        return self._state / "servers" / f"{instance.uuid}.img"

    @staticmethod
    def _convert(source: Path, source_format: str, target: Path, target_format: str) -> None:
        formats = ("-f", source_format, "-O", target_format)
        processutils.execute("qemu-img", "convert", *formats, str(source), str(target))

    def _remember(self) -> None:
        states = {uuid: (guest.name, guest.state) for uuid, guest in self.instances.items()}
        new = self._state / f"{POWER}.new"
        new.write_text(json.dumps(states))
        new.replace(self._state / POWER)
