"""Every limit, with its unit last in its name and the reason for its value. The relations are asserted below."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# --- ids and names -------------------------------------------------------------------------------------------------

NAMESPACE_ID_MAX = 2**64 - 2
"""Largest namespace id. 2^64-1 is never issued, so ``id + 1`` always exists and ends a namespace's span."""

DATABASE_MAX = 2**16 - 1
"""Largest numbered database inside a namespace."""

NAME_CHARS_MAX = 128
"""Longest namespace, group or subject name, in characters."""

LABELS_MAX = 64
"""Labels on one namespace."""

LABEL_CHARS_MAX = 256
"""Longest label key or label value, in characters."""

BAN_REASON_CHARS_MAX = 512
"""Longest reason of a ban or suspension, in characters."""

# --- rows ----------------------------------------------------------------------------------------------------------

KEY_BYTES_MAX = 4 * KIB
"""Longest user key. Keys live in every index block and in every request; 4 KiB is generous for both."""

VALUE_BYTES_MAX = 1 * MIB
"""Default largest value; the configuration may raise it to ``VALUE_BYTES_CEILING``."""

VALUE_BYTES_CEILING = 16 * MIB - 64 * KIB
"""Largest value any configuration may allow: one value, its key and framing must fit one message."""

TTL_MS_MAX = 100 * 365 * 24 * 3600 * 1000
"""Longest lifetime of a row: a hundred years, so that now + ttl always fits 64 bits."""

# --- calls ---------------------------------------------------------------------------------------------------------

REQUEST_BYTES_MAX = 16 * MIB
"""Largest message either way. gRPC buffers a whole message, so this bounds memory per call."""

RESPONSE_BYTES_MAX = 15 * MIB
"""Largest BatchGet answer the server builds; below the message limit to leave room for framing."""

BATCH_KEYS_MAX = 10_000
"""Keys of one BatchGet."""

WRITE_MUTATIONS_MAX = 10_000
"""Mutations of one Write."""

WRITE_CONDITIONS_MAX = 1_000
"""Conditions of one Write."""

WRITE_RANGE_DELETES_MAX = 100
"""Range deletes of one Write. Each leaves a tombstone that slows reads until the next flush (see the store)."""

PIPELINE_OPERATIONS_MAX = 1_000
"""Operations of one Pipeline message."""

SCAN_PAGE_ROWS_MAX = 1_000
"""Rows of one Scan page: a thousand per message gives a Python client a million rows/s, one 15 thousand."""

SCAN_PAGE_BYTES_MAX = 1 * MIB
"""Bytes of one Scan page, but for a single larger row."""

LIST_PAGE_ENTRIES_MAX = 1_000
"""Entries of one page of any List call."""

DEADLINE_MS_MAX = 3_600_000
"""Longest time the server works on one unary call."""

# --- connections ---------------------------------------------------------------------------------------------------

TOKEN_BYTES_MAX = 4 * KIB
"""Longest token. Metadata over 8 KiB is refused by gRPC now and then and over 16 KiB always."""

METADATA_BYTES_MAX = 8 * KIB
"""Largest request metadata the server accepts."""

STREAMS_PER_CONNECTION_MAX = 64
"""Open calls of one connection. 32 to 64 keeps others' p50 at 1.7 ms under a flood of resets instead of 350 ms."""

STREAMS_PER_NAMESPACE_MAX = 256
"""Open streaming calls of one namespace, so that one tenant cannot hold every iterator."""

STREAMS_MAX = 4_096
"""Open streaming calls of the server. Each costs a task and up to one page of buffers."""

REQUEST_ARRIVAL_MS_MAX = 10_000
"""Longest time between the headers of a call and its message; half-open calls end then."""

UNREAD_BYTES_PER_NAMESPACE_MAX = 128 * MIB
"""Bytes of large answers that one namespace's clients may leave unread in the server's buffers."""

UNREAD_BYTES_MAX = 512 * MIB
"""The same for all namespaces together."""

PIPELINE_IDLE_MS_MAX = 300_000
"""A Pipeline stream that sends nothing for so long is ended."""

SLOW_READER_MS_MAX = 10_000
"""A streaming client that takes no message for so long is cut: it pins an iterator and the files under it."""

# --- tokens --------------------------------------------------------------------------------------------------------

TOKEN_LEEWAY_S = 30
"""Clock difference tolerated in ``iat`` and ``nbf``, and after ``exp``."""

ACCESS_TOKEN_S = 15 * 60
"""Lifetime of an access token that a login gives."""

MINTED_TOKEN_S_MAX = 3600
"""Longest lifetime of a token that a cluster guardian mints into a namespace that is not its own."""

SERVICE_TOKEN_S_MAX = 366 * 24 * 3600
"""Longest lifetime of a service token; also the cap on ``exp - iat`` of any token that is accepted."""

SERVICE_TOKENS_PER_NAMESPACE_MAX = 10_000
"""Live service tokens of one namespace."""

TOKEN_GROUPS_MAX = 32
"""Groups one token may carry."""

GROUP_RULES_MAX = 64
"""Rules of one group."""

GROUP_PREFIX_BYTES_MAX = 16 * KIB
"""Bytes of all prefixes of one group together: whoever is in 32 groups holds all of them in memory with each token."""

REFRESH_TOKEN_S = 7 * 24 * 3600
"""Lifetime of a refresh token; each use gives a new one, so a login that is used lives on."""

EXTERNAL_TOKEN_S_MAX = 24 * 3600
"""Longest lifetime of a token of another issuer: it cannot be listed here, so it must not last."""

SESSIONS_CACHED_MAX = 16_384
"""Verified tokens kept; the least recently used goes first."""

SESSION_RULE_BYTES_MAX = 128 * MIB
"""Bytes of the rules of all verified tokens that are kept, about; beyond it the least recently used go, too."""

# --- members -------------------------------------------------------------------------------------------------------

MEMBERS_PER_NAMESPACE_MAX = 100_000
"""Members of one namespace. They are read one by one when they log in, and all of them only to be listed."""

GROUPS_PER_NAMESPACE_MAX = 10_000
"""Groups of one namespace."""

GRANTS_PER_MEMBER_MAX = 1_000
"""Grants and denials of one member of namespace 0; all of them are read to list what it may use."""

LOGINS_PER_MEMBER_MAX = 64
"""Logins of one member that are open at once; the next one ends the oldest."""

ACTS_AT_ONCE_MAX = 20_000
"""Audited acts that the people of one namespace may do at once, cluster guardians apart: a tenant's whole staff."""

ACTS_PER_MINUTE_MAX = 120
"""Audited acts of theirs after that. Each is two lines for ever: without a bound one tenant fills everybody's disk."""

PASSWORD_CHARS_MIN = 8
"""Shortest password accepted when one is set."""

PASSWORD_BYTES_MAX = 1024
"""Longest password: hashing reads all of it."""

# --- archives and transfers -----------------------------------------------------------------------------------------

ARCHIVE_FRAME_ROWS_MAX = 8_192
"""Rows of one frame of an archive."""

ARCHIVE_FRAME_BYTES_MAX = 1 * MIB
"""Bytes of a frame's content before compression, but for a frame of a single larger row. What a frame unfolds to in
memory is bounded by it, whatever its compression promises."""

ARCHIVE_ROW_BYTES_CEILING = VALUE_BYTES_CEILING + KEY_BYTES_MAX + 1 * KIB
"""The same for a frame of a single row."""

BACKUP_CHUNK_BYTES = 512 * KIB
"""Bytes of a file in one message of a backup."""

BACKUP_FILES_MAX = 1_000_000
"""Files of one backup; 64 TiB in files of 64 MiB."""

TRANSFER_PATIENCE_MS_MAX = 60_000
"""A client of a backup or an export that takes no message for so long is cut. Longer than for a scan: a slow disk or a
bounded rate on the other side is normal, and one message is up to 1 MiB."""

TRANSFER_MS_MAX = 24 * 3_600_000
"""Longest backup or export. While one is open the engine keeps files that it has replaced, neighbours' rows in them, so
whoever reads as slowly as the patience allows would put off the proof that a banned namespace is gone for ever."""

IMPORTS_PER_NAMESPACE_MAX = 4
"""Imports of one namespace at a time, uploads that were interrupted and are kept included."""

IMPORTS_MAX = 64
"""The same for all namespaces together."""

IMPORT_KEPT_MS = 3_600_000
"""How long an interrupted upload is kept for its client to go on with, and a result nobody has taken."""

SPOOLED_PER_NAMESPACE_PERCENT = 33
"""Of the disk that is free, what the archives on their way into one namespace may take; those of namespaces that are
being restored count as namespace 0's."""

SPOOLED_PERCENT = 50
"""The same for all together: what comes in has to be written as rows as well."""

VERSIONS_RESERVED_MAX = 50_000_000
"""Versions one import may reserve to keep the order of its rows; with more distinct ones neighbours share one."""

# --- bans ----------------------------------------------------------------------------------------------------------

BAN_GRACE_MS_MAX = 365 * 24 * 3600 * 1000
"""Longest grace between a ban and its reclaim."""

RANGE_TOMBSTONES_MAX = 1_000
"""Range tombstones in the memtable before it is flushed: 1,000 cost 220 µs per get, 20,000 cost 4.2 ms."""

if not (
    KEY_BYTES_MAX + VALUE_BYTES_CEILING < REQUEST_BYTES_MAX
    and VALUE_BYTES_MAX <= VALUE_BYTES_CEILING
    and RESPONSE_BYTES_MAX < REQUEST_BYTES_MAX
    and VALUE_BYTES_CEILING > RESPONSE_BYTES_MAX // 2
    and SCAN_PAGE_BYTES_MAX + VALUE_BYTES_MAX < REQUEST_BYTES_MAX
    and RESPONSE_BYTES_MAX < UNREAD_BYTES_PER_NAMESPACE_MAX < UNREAD_BYTES_MAX
    and TOKEN_BYTES_MAX < METADATA_BYTES_MAX
    and WRITE_RANGE_DELETES_MAX < RANGE_TOMBSTONES_MAX
    and MINTED_TOKEN_S_MAX <= SERVICE_TOKEN_S_MAX
    and ARCHIVE_FRAME_BYTES_MAX < ARCHIVE_ROW_BYTES_CEILING < REQUEST_BYTES_MAX
    and BACKUP_CHUNK_BYTES < REQUEST_BYTES_MAX
    and TRANSFER_PATIENCE_MS_MAX < TRANSFER_MS_MAX
    and IMPORTS_PER_NAMESPACE_MAX < IMPORTS_MAX
    and SPOOLED_PER_NAMESPACE_PERCENT < SPOOLED_PERCENT < 100
    and NAMESPACE_ID_MAX + 1 == 2**64 - 1
):
    raise RuntimeError("prefixdb.limits: the limits contradict each other")
