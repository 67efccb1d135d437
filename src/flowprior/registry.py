"""One registry per kind of piece: a name and where the class lives, imported only when asked for.

A piece is a class with an inner pydantic model `Settings`; adding one is a file and a line in its package's
registry. Everything that works on names, settings or documentation of pieces goes through here.
"""

from __future__ import annotations

import importlib
import operator
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from flowprior.errors import FlowpriorError, UnknownNameError, unknown_name_message

T = TypeVar("T")


class SettingsModel(BaseModel):
    """Settings of one piece: frozen, and a misspelt name is an error that suggests the nearest one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _on_unit_range(value: float) -> float:
    if value > 1:
        raise ValueError(f"noise is on values in [0, 1], got {value:g}; of 0 to 255 that is {value / 255:.4g}")
    return value


#: A standard deviation of noise, on values in [0, 1].
NoiseStd = Annotated[float, AfterValidator(_on_unit_range)]


def image_shape(shape: Any) -> tuple[int, int, int]:
    """The shape (C, H, W) that a piece is built for, as whole numbers.

    Raises:
        FlowpriorError: it is none of images, with the remedy.

    Example:
        >>> image_shape([3, 32, 32])
        (3, 32, 32)
    """
    try:
        sides = tuple(operator.index(side) for side in shape)
    except TypeError:
        raise FlowpriorError(f"shape must be (C, H, W) in whole numbers, got {shape!r}; (3, 32, 32), say") from None
    if len(sides) != 3 or min(sides) < 1:
        raise FlowpriorError(
            f"shape must be (C, H, W), each at least 1, got {sides}; (3, 32, 32), say: without the batch's size"
        )
    channels, height, width = sides
    if width in (1, 3) and channels == height and height > 4:
        raise FlowpriorError(f"shape must be (C, H, W), channels first, got {sides}; give {(width, channels, height)}")
    return channels, height, width


S = TypeVar("S", bound=BaseModel)


def validated(model: type[S], values: Any, context: str) -> S:
    """Build `model` from `values`, or raise a one-line error that names the setting and the remedy.

    Args:
        model: the pydantic model.
        values: what a person wrote.
        context: what is being set, for the message ("solver 'map'").

    Raises:
        FlowpriorError: for the first problem found.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        path = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            fields = _fields_at(model, problem["loc"][:-1])
            raise FlowpriorError(
                f"{context}: {unknown_name_message('setting', path.rsplit('.', 1)[-1], fields)}"
            ) from None
        message = problem["msg"].removeprefix("Value error, ")
        given = "" if problem["type"] in ("missing", "value_error") else f", got {problem['input']!r}"
        where = f"{path}: " if path else ""
        raise FlowpriorError(f"{context}: {where}{message}{given}") from None


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the settings at a place inside a nested model, as far as the annotations tell."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
        else:  # dict[str, Model] or list[Model]: the key is free, the value type follows
            current = (getattr(current, "__args__", None) or [None])[-1]
    if isinstance(current, type) and issubclass(current, BaseModel):
        return list(current.model_fields)
    return []


class Registry(Generic[T]):
    """Named pieces of one kind.

    Args:
        kind: what a piece is called in messages, for example "solver".
        places: name -> "module:Class".
    """

    def __init__(self, kind: str, places: dict[str, str]) -> None:
        self.kind = kind
        self._places = dict(places)

    @property
    def places(self) -> dict[str, str]:
        """Name -> "module:Class"."""
        return dict(self._places)

    def names(self) -> tuple[str, ...]:
        """Every registered name, in the order of the registry."""
        return tuple(self._places)

    def get(self, name: str) -> type[T]:
        """The class registered under `name`.

        Raises:
            UnknownNameError: naming the nearest registered name.
        """
        if name not in self._places:
            raise UnknownNameError(self.kind, name, self._places)
        module, _, attribute = self._places[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def settings(self, name: str, values: dict[str, Any] | None = None) -> Any:
        """The validated settings of piece `name`, defaults filled in."""
        model: type[BaseModel] = self.get(name).Settings  # type: ignore[attr-defined]
        return validated(model, values or {}, f"{self.kind} '{name}'")
