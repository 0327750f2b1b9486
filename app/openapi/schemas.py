"""JSON Schemas of requests and answers, made from their types. Pure.

`msgspec.json.schema` cannot describe a field whose default is a `Raw`, and does not know that an
answer always has the fields that a request may leave out.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import msgspec.inspect as mi

Schema = dict[str, Any]
"""A JSON Schema, or another part of the description."""

REFERENCE = "#/components/schemas/"


class Schemas:
    """Schemas of types. Those of structs are in `named`, and all others refer to them."""

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {}
        self._structs: dict[str, type] = {}

    def request(self, kind: object) -> Schema:
        """Return the schema of a body that a client sends: fields with a default may be missing."""
        return self._schema(mi.type_info(kind), always=False)

    def answer(self, kind: object) -> Schema:
        """Return the schema of a body that the gateway sends."""
        return self._schema(mi.type_info(kind), always=True)

    def _schema(self, info: mi.Type, *, always: bool) -> Schema:
        match info:
            case mi.Metadata(type=inner):
                return self._schema(inner, always=always) | (info.extra_json_schema or {})
            case mi.StructType():
                return self._reference(info, always=always)
            case mi.UnionType(types=types):
                return any_of([self._schema(one, always=always) for one in types])
            case mi.CollectionType(item_type=item):
                items = {"type": "array", "items": self._schema(item, always=always)}
                return items | _bounds(maxItems=info.max_length)
            case mi.DictType():
                return {"type": "object"}
            case mi.LiteralType(values=values):
                return {"enum": list(values)}
            case mi.IntType(ge=least, le=most):
                return {"type": "integer"} | _bounds(minimum=least, maximum=most)
            case mi.StrType(max_length=longest):
                return {"type": "string"} | _bounds(maxLength=longest)
            case mi.CustomType():  # `FileText`
                return {"type": "string"}
            case mi.DateTimeType():
                return {"type": "string", "format": "date-time"}
            case mi.NoneType():
                return {"type": "null"}
            case mi.BoolType():
                return {"type": "boolean"}
            case mi.AnyType() | mi.RawType():
                return {}
        raise TypeError(f"no schema for {info}")

    def _reference(self, info: mi.StructType, *, always: bool) -> Schema:
        name = info.cls.__name__
        if self._structs.setdefault(name, info.cls) is not info.cls:
            raise TypeError(f"two types are named {name}")
        if name not in self.named:
            self.named[name] = {}  # it may refer to itself
            self.named[name] |= self._struct(info, always=always)
        return {"$ref": REFERENCE + name}

    def _struct(self, info: mi.StructType, *, always: bool) -> Schema:
        tag = {info.tag_field: {"const": info.tag}} if info.tag_field else {}
        sent = _always_sent(info.cls) if always else frozenset()
        fields = {f.encode_name: self._schema(f.type, always=always) for f in info.fields}
        required = [
            field.encode_name for field in info.fields if field.required or field.name in sent
        ]
        return {
            "type": "object",
            "description": inspect.cleandoc(info.cls.__doc__ or ""),
            "properties": tag | fields,
            "required": [*tag, *required],
        }


def any_of(schemas: list[Schema]) -> Schema:
    """Return the schema of what one of the schemas describes."""
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _always_sent(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The fields that are encoded whatever their values are."""
    if kind.__struct_config__.omit_defaults:
        return frozenset()
    fields = msgspec.structs.fields(kind)
    return frozenset(field.name for field in fields if field.default is not msgspec.UNSET)


def _bounds(**given: int | None) -> Schema:
    return {name: bound for name, bound in given.items() if bound is not None}
