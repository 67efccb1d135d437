"""Where images come from and how they are prepared, as a person says it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from flowprior.fingerprint import fingerprint
from flowprior.registry import SettingsModel

SPLITS = ("train", "validation", "test")
#: What was found and how it was divided, beside the prepared images.
MANIFEST = "manifest.json"


class DataSettings(SettingsModel):
    """Where images come from and how they are prepared."""

    source: str = Field("photos", description="photos, celeba or folder")
    path: str | None = Field(None, description="where the raw images lie; default: data/<source>")
    url: str | None = Field(None, description="where to download a missing archive from (celeba)")
    checksum: str | None = Field(
        None,
        description="expected checksum of the archive, as 'sha256:...' or 'md5:...'; a mismatch is an error",
    )
    resolution: int = Field(32, ge=4, le=1024, description="side of the prepared images in pixels")
    train: int | None = Field(None, ge=1, description="how many training images; null: all there are")
    validation: int | None = Field(None, ge=1, description="how many validation images are prepared; null: all")
    test: int | None = Field(None, ge=1, description="how many test images are prepared; null: all")

    splits: Literal["folders", "hash", "test"] | None = Field(
        None,
        description="folder: which images are for what. folders: the outermost folder of a path that is named after a "
        "split (train, val, test, DIV2K_valid_HR); hash: 80, 10 and 10 % by a hash of each name; "
        "test: all are test images, as of a folder among test_sets; "
        "null: folders if there are such, and an error where that is not clear",
    )

    @field_validator("path")
    @classmethod
    def _can_be_a_path_of_the_workflow(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.strip():
            raise ValueError("path is empty; name a folder or an archive, or leave it out")
        if odd := [sign for sign in "{}\n" if sign in value]:
            raise ValueError(f"path '{value}' holds {odd[0]!r}, which Snakemake reads as a wildcard; rename the folder")
        return Path(value).expanduser().as_posix()

    @model_validator(mode="after")
    def _splits_are_of_folders(self) -> Self:
        if self.splits is not None and self.source != "folder":
            raise ValueError(f"splits is for source folder, and source '{self.source}' has its own: leave it out")
        return self

    @property
    def raw(self) -> str:
        """Folder of the raw images."""
        return self.path or f"data/{self.source}"

    @property
    def key(self) -> str:
        """Name of the prepared data set: readable, and different whenever the settings differ."""
        facts = self.model_dump(exclude={"url"} if self.splits else {"url", "splits"})
        return f"{self.source}-{self.resolution}px-{fingerprint(facts)}"
