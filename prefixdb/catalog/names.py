"""What names, subjects, labels and reasons may look like. One place, so that every way in applies the same rules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from prefixdb import limits
from prefixdb.errors import Reason, bad_field, error

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_MEMBER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*", re.ASCII)


def is_name(text: str) -> bool:
    """True for 1..128 ASCII letters, digits and ``._-`` of which the first is a letter or digit."""
    return len(text) <= limits.NAME_CHARS_MAX and _NAME.fullmatch(text) is not None


def is_subject(text: str) -> bool:
    """True for 1..128 printable characters; ``str.isprintable`` excludes controls, format marks and surrogates."""
    return 0 < len(text) <= limits.NAME_CHARS_MAX and text.isprintable()


def check_name(text: str) -> str:
    """Return ``text`` when it may name a namespace or group, else raise InvalidArgumentError BAD_NAME."""
    if not is_name(text):
        raise error(
            Reason.BAD_NAME,
            f"A name has 1 to {limits.NAME_CHARS_MAX} characters: letters, digits and '._-', "
            "the first a letter or digit.",
        )
    return text


def is_member_name(text: str) -> bool:
    """True for 1..128 ASCII letters, digits and ``._@+-`` of which the first is a letter or digit."""
    return len(text) <= limits.NAME_CHARS_MAX and _MEMBER_NAME.fullmatch(text) is not None


def check_member_name(text: str) -> str:
    """Return ``text`` when it may name a member, else raise InvalidArgumentError BAD_NAME."""
    if not is_member_name(text):
        raise error(
            Reason.BAD_NAME,
            f"A member's name has 1 to {limits.NAME_CHARS_MAX} characters: letters, digits and '._@+-', "
            "the first a letter or digit.",
        )
    return text


def check_subject(text: str) -> str:
    """Return ``text`` when it may be a token's subject, else raise InvalidArgumentError BAD_FIELD (subject)."""
    if not is_subject(text):
        raise bad_field("subject", f"must have 1 to {limits.NAME_CHARS_MAX} printable characters.")
    return text


def check_group_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the group names in their order, else raise InvalidArgumentError BAD_FIELD (groups)."""
    if len(names) > limits.TOKEN_GROUPS_MAX:
        raise bad_field("groups", f"may name at most {limits.TOKEN_GROUPS_MAX} groups.")
    if len(set(names)) != len(names) or not all(is_name(name) for name in names):
        raise bad_field("groups", "must be different well-formed names.")
    return tuple(names)


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of ``labels``, else raise InvalidArgumentError BAD_FIELD (labels)."""
    if len(labels) > limits.LABELS_MAX:
        raise bad_field("labels", f"may have at most {limits.LABELS_MAX} entries.")
    for key, value in labels.items():
        if not 0 < len(key) <= limits.LABEL_CHARS_MAX or len(value) > limits.LABEL_CHARS_MAX:
            raise bad_field("labels", f"need keys of 1 to {limits.LABEL_CHARS_MAX} characters and values of as many.")
        if not key.isprintable() or not value.isprintable():
            raise bad_field("labels", "must be printable.")
    return dict(labels)


def check_reason(text: str) -> str:
    """Return ``text`` when it may be the reason of a ban or suspension, else raise BAD_FIELD (reason)."""
    if len(text) > limits.BAN_REASON_CHARS_MAX:
        raise bad_field("reason", f"may have at most {limits.BAN_REASON_CHARS_MAX} characters.")
    if not text.isprintable():
        raise bad_field("reason", "must be one line of printable characters.")
    return text
