"""The wiring of this room: store -> ingest -> uploads and library -> servicer."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from jan.media.v1 import media_pb2_grpc

from services.media import spool
from services.media.arrivals import Arrivals
from services.media.blobs import BlobStore
from services.media.image_types import ImageTypes
from services.media.ingest import Ingest
from services.media.intake import Intake
from services.media.library import Library
from services.media.local_blobs import LocalBlobs
from services.media.local_receiver import LocalReceiver
from services.media.media import MediaServicer
from services.media.media_store import MediaStore
from services.media.signing import Signer
from services.media.sources import Sources
from services.media.sweep_store import SweepStore
from services.media.sweeper import Sweeper
from services.media.upload_store import UploadStore
from services.media.uploads import Uploads
from services.runtime.addresses import Guard
from services.runtime.config import ConfigError, Settings
from services.runtime.foundation import Foundation, Storage
from services.runtime.outgoing import Fetcher
from services.runtime.server import Mounted
from services.runtime.vault import Vault

LONGEST_LIFE = 7 * 24 * 3600.0
"""Seconds; S3 signs for no longer."""
log = logging.getLogger("jan.media")


async def furnish(foundation: Foundation) -> list[Mounted]:
    """The service of this room, ready to be mounted. Raises `ConfigError`."""
    settings, storage = foundation.settings, foundation.storage
    if storage is None:
        return []
    if settings.media_s3_presign_ttl > LONGEST_LIFE:
        raise ConfigError("MEDIA_S3_PRESIGN_TTL is at most 7 days (168h)")
    signer = Signer(Vault(settings.media_url_secret.encode()) if settings.media_url_secret else storage.vault)
    is_local = keeps_locally(settings)
    blobs = await _blobs(foundation, signer, is_local=is_local)
    servicer = await _servicer(foundation, storage, blobs, signer, is_local=is_local)
    _sweep(foundation, storage, blobs)
    return [Mounted("jan.media.v1.MediaService", media_pb2_grpc.add_MediaServiceServicer_to_server, servicer)]


def keeps_locally(settings: Settings) -> bool:
    """Whether images are kept in a directory. Raises `ConfigError` when nobody has said where else."""
    if settings.media_storage_backend == "local":
        return True
    if settings.media_s3_bucket:
        return False
    if settings.environment == "production":
        raise ConfigError("MEDIA_STORAGE_BACKEND=s3 needs MEDIA_S3_BUCKET; MEDIA_STORAGE_BACKEND=local needs no store")
    log.warning("images_are_kept_locally", extra={"remedy": "set MEDIA_S3_BUCKET, or MEDIA_STORAGE_BACKEND=local"})
    return True


async def _blobs(foundation: Foundation, signer: Signer, *, is_local: bool) -> BlobStore:
    settings = foundation.settings
    blobs: BlobStore
    if is_local:
        blobs = local = LocalBlobs(_folder(settings), signer, settings.public_base_url)
        await asyncio.to_thread(local.prepare)
    else:
        from services.media import s3_blobs  # takes a quarter of a second and 40 MB

        blobs = await s3_blobs.connect(settings)
    foundation.stack.push_async_callback(blobs.close)
    foundation.checks["object store"] = blobs.ready
    return blobs


async def _servicer(
    foundation: Foundation, storage: Storage, blobs: BlobStore, signer: Signer, *, is_local: bool
) -> MediaServicer:
    settings = foundation.settings
    incoming = _home(settings) / "incoming"
    await asyncio.to_thread(spool.prepare, incoming)
    store, announced = MediaStore(storage.database), UploadStore(storage.database)
    types = ImageTypes(settings.media_allowed_types)
    ingest = Ingest(store, blobs, types, incoming, largest=settings.media_max_bytes)
    uploads = Uploads(announced, blobs, ingest, types, life=settings.media_s3_presign_ttl)
    library = Library(store, uploads, blobs, signer, life=settings.media_s3_presign_ttl)
    receiver = LocalReceiver(announced, blobs, ingest, signer) if is_local else None
    arrivals = Arrivals(ingest, Intake(), _sources(foundation), receiver)
    redirects = not is_local and not settings.media_proxy_download
    return MediaServicer(library, store, ingest, arrivals, uploads, redirects=redirects)


def _sweep(foundation: Foundation, storage: Storage, blobs: BlobStore) -> None:
    """In every process: each chore falls to one of them."""
    settings = foundation.settings
    spools = _home(settings) / "incoming"
    sweeper = Sweeper(SweepStore(storage.database), blobs, retention_days=settings.media_retention_days, spools=spools)
    sweeper.start()
    foundation.stack.push_async_callback(sweeper.close)


def _home(settings: Settings) -> Path:
    return settings.data_dir.absolute() / "media"


def _folder(settings: Settings) -> Path:
    given = settings.media_local_storage_path
    return Path(given).absolute() if given else _home(settings)


def _sources(foundation: Foundation) -> Sources:
    settings = foundation.settings
    fetcher = Fetcher(Guard(settings.media_remote_allow_hosts), user_agent="jan-server")
    foundation.stack.callback(fetcher.close)
    return Sources(fetcher, seconds=settings.media_remote_fetch_timeout)
