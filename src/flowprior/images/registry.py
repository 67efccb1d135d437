"""Every source of images by its name. To add one: its file, and its line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowprior.registry import Registry

if TYPE_CHECKING:
    from flowprior.images.settings import DataSettings
    from flowprior.images.source import Source

SOURCES: Registry[Source] = Registry(
    "image source",
    {
        "photos": "flowprior.images.photos:Photos",
        "celeba": "flowprior.images.celeba:CelebA",
        "folder": "flowprior.images.folder:Folder",
    },
)


def source_of(data: DataSettings) -> Source:
    """The source that the settings name.

    Raises:
        UnknownNameError: no such source, naming the nearest.
    """
    return SOURCES.get(data.source)(data)
