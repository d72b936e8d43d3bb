"""Cinder's storage driver of the lab: a directory of sparse raw files, with the manners of Ceph RBD.

Loaded by Debian's cinder-volume. As with RBD, the commonest storage of an OpenStack: a snapshot of a volume
in use needs no hypervisor, and a snapshot that a volume was made from cannot be deleted before that volume;
Cinder then silently sets it back to `available`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cinder import context, exception, interface
from cinder.image import image_utils
from cinder.objects import volume as volume_objects
from cinder.volume import configuration, driver, volume_utils
from oslo_concurrency import processutils
from oslo_config import cfg

OPTIONS = [cfg.StrOpt("lab_volume_directory", help="Where the files are.")]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)
GIB = 1 << 30
CAPACITY_GIB = 2000  # told to the scheduler; files are sparse


@interface.volumedriver
class SparseFileDriver(driver.VolumeDriver):  # type: ignore[misc]  # Cinder has no types
    VERSION = "1.0.0"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.configuration.append_config_values(OPTIONS)

    @staticmethod
    def get_driver_options() -> list[Any]:
        return OPTIONS

    def check_for_setup_error(self) -> None:
        if not Path(self.configuration.lab_volume_directory).is_dir():
            raise exception.VolumeBackendAPIException(data="lab_volume_directory is no directory")

    def local_path(self, volume: Any) -> str:
        return str(Path(self.configuration.lab_volume_directory, volume.name))

    def create_volume(self, volume: Any) -> None:
        with Path(self.local_path(volume)).open("xb") as file:
            file.truncate(volume.size * GIB)

    def delete_volume(self, volume: Any) -> None:
        Path(self.local_path(volume)).unlink(missing_ok=True)

    def create_snapshot(self, snapshot: Any) -> None:
        self._copy(self.local_path(snapshot.volume), self.local_path(snapshot))

    def delete_snapshot(self, snapshot: Any) -> None:
        made_from_it = {"snapshot_id": snapshot.id}
        if volume_objects.VolumeList.get_all(context.get_admin_context(), filters=made_from_it):
            raise exception.SnapshotIsBusy(snapshot_name=snapshot.name)
        Path(self.local_path(snapshot)).unlink(missing_ok=True)

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> None:
        self._copy(self.local_path(snapshot), self.local_path(volume))
        self.extend_volume(volume, volume.size)

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> None:
        self._copy(self.local_path(src_vref), self.local_path(volume))
        self.extend_volume(volume, volume.size)

    def extend_volume(self, volume: Any, new_size: int) -> None:
        os.truncate(self.local_path(volume), new_size * GIB)

    def copy_image_to_volume(
        self, context: Any, volume: Any, image_service: Any, image_id: str, *_more: Any, **_options: Any
    ) -> None:
        block_size = self.configuration.volume_dd_blocksize
        image_utils.fetch_to_raw(
            context,
            image_service,
            image_id,
            self.local_path(volume),
            block_size,
            size=volume.size,
            run_as_root=False,
        )
        self.extend_volume(volume, volume.size)

    def copy_volume_to_image(
        self, context: Any, volume: Any, image_service: Any, image_meta: Any, *_more: Any
    ) -> None:
        path = self.local_path(volume)
        volume_utils.upload_volume(context, image_service, image_meta, path, volume, run_as_root=False)

    def initialize_connection(self, volume: Any, _connector: Any) -> dict[str, Any]:
        return {"driver_volume_type": "local", "data": {"device_path": self.local_path(volume)}}

    def terminate_connection(self, volume: Any, connector: Any, **options: Any) -> None:
        """Nothing was connected."""

    def create_export(self, context: Any, volume: Any, connector: Any) -> None:
        """Nothing needs exporting."""

    def ensure_export(self, context: Any, volume: Any) -> None:
        """Nothing needs exporting."""

    def remove_export(self, context: Any, volume: Any) -> None:
        """Nothing was exported."""

    def _update_volume_stats(self) -> None:
        self._stats = {
            "volume_backend_name": self.configuration.volume_backend_name,
            "vendor_name": "lab",
            "driver_version": self.VERSION,
            "storage_protocol": "local",
            "total_capacity_gb": CAPACITY_GIB,
            "free_capacity_gb": CAPACITY_GIB,
            "reserved_percentage": 0,
            "thin_provisioning_support": True,
            "multiattach": True,
        }

    @staticmethod
    def _copy(source: str, target: str) -> None:
        """Copy data and holes, in a process of its own: this one serves other requests meanwhile."""
        try:
            processutils.execute("cp", "--sparse=always", "--reflink=auto", source, target)
        except processutils.ProcessExecutionError as exc:
            Path(target).unlink(missing_ok=True)
            raise exception.VolumeBackendAPIException(data=str(exc)) from exc
