"""What an operator fills in to connect a page, bot or number, and the secrets in it."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema


class Secret:
    """A secret of an account. Several values are valid at once while it is rotated; the first one signs and sends."""

    def __init__(self, *values: str) -> None:
        if not values or not all(values):
            raise ValueError("a secret needs at least one value and none may be empty")
        self._values = values

    def all(self) -> tuple[str, ...]:
        return self._values

    def reveal(self) -> str:
        return self._values[0]

    def __repr__(self) -> str:
        return "Secret(***)"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._parsed, serialization=core_schema.plain_serializer_function_ser_schema(lambda _: "***")
        )

    @classmethod
    def _parsed(cls, value: Any) -> Secret:
        if isinstance(value, Secret):
            return value
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list | tuple) or not all(isinstance(one, str) for one in values):
            raise ValueError("a secret is a text or a list of texts")
        return cls(*values)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "format": "password", "writeOnly": True}


class Account(BaseModel):
    """One connected page, bot or number. Subclass it with what an operator must fill in; form and docs come from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    tenant: str
    id: str
    region: str | None = Field(
        None, description="Country (two letters) of phone numbers written without their country; empty: such are not read"
    )


A = TypeVar("A", bound=Account)
A_contra = TypeVar("A_contra", bound=Account, contravariant=True)
