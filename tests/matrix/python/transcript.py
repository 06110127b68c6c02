"""What a client got, a JSON object a line: {"version"}, {"check", "got"}, {"recorded", "times"} and, last, {"end"}."""

import datetime
import decimal
import ipaddress
import json
import uuid


def plain(value):
    """A value as JSON has it; what JSON lacks goes by its type's name and its text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "items") and hasattr(value, "keys"):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (float, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta, uuid.UUID)):
        return f"{type(value).__name__} {value}"
    return f"{type(value).__name__} {value}"


def _say(entry):
    print(json.dumps(entry), flush=True)


def version(text):
    _say({"version": text})


def got(name, value):
    _say({"check": name, "got": plain(value)})


def recorded(statement, times):
    _say({"recorded": statement, "times": times})


def end():
    _say({"end": True})
