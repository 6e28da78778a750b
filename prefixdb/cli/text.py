"""Bytes as people and shells write them, and back; sizes, counts and times for people.

auto    text; what is no printable UTF-8 is escaped as in \\x00 \\n \\\\, so that one row stays one line
utf8    text as it is; an error when the bytes are not UTF-8
hex     two digits for each byte
base64  standard alphabet with padding
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from datetime import UTC, datetime, timedelta

import click

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def decode_argument(text: str, enc: str) -> bytes:
    """Return the bytes that an argument of the command line stands for.

    Raises:
        click.UsageError: it is not written as ``--enc`` says.
    """
    try:
        if enc == "hex":
            return bytes.fromhex(text)
        if enc == "base64":
            return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        # `from None`: the codec's error quotes the argument, which may be a value.
        raise click.UsageError(f"An argument is not {enc}, which --enc {enc} asks for.") from None
    # The shell's bytes, also when they are not UTF-8: Python kept those as surrogates.
    return os.fsencode(text)


def encode_output(data: bytes, enc: str) -> str:
    """Return bytes as one line of text.

    Raises:
        click.UsageError: ``--enc utf8`` and the bytes are not UTF-8.
    """
    if enc == "hex":
        return data.hex()
    if enc == "base64":
        return base64.b64encode(data).decode("ascii")
    if enc == "utf8":
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise click.UsageError("These bytes are not UTF-8; use --enc hex, base64 or auto.") from None
    return escape(data)


def escape(data: bytes) -> str:
    """Return readable text that says exactly which bytes these are and cannot steer a terminal."""
    text = data.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def harmless(words: str) -> str:
    """Return words that may quote somebody else (a server, a file's name, an archive) so that they cannot steer a
    terminal; what is printable, and ends of lines, stay as they are."""
    if words.isprintable():
        return words
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in words)


def json_line(content: object) -> str:
    """Return JSON on one line, readable, in which nothing can steer a terminal either: JSON itself escapes only what
    is below the space."""
    text = json.dumps(content, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _escaped(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    # Byte by byte, so that whoever reads it back gets the same bytes.
    kept = "surrogateescape" if "\udc80" <= char <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", kept))


def json_bytes(name: str, data: bytes, enc: str) -> dict[str, str]:
    """Return ``{name: text}``, or ``{name_b64: base64}`` for what is no UTF-8 or when ``--enc base64`` asks for it."""
    if enc == "hex":
        return {f"{name}_hex": data.hex()}
    if enc != "base64":
        try:
            return {name: data.decode()}
        except UnicodeDecodeError:
            pass
    return {f"{name}_b64": base64.b64encode(data).decode("ascii")}


def size(count: int) -> str:
    """Return a number of bytes for people: ``12.3 MiB``."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def number(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 row``, ``12,345 rows``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def instant(moment: datetime | None) -> str:
    """Return a time in UTC to the second; a dash for none."""
    return "-" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def duration(span: timedelta | float) -> str:
    """Return a length of time in its two largest units: ``3 d 4 h``, ``2 min 5 s``, ``0.3 s``."""
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    if seconds < 10:
        return f"{seconds:.1f} s"
    left = int(seconds)
    parts = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, length)
        if amount:
            parts.append(f"{amount} {unit}")
    return " ".join(parts[:2])
