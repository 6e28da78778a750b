"""Where backups of the whole store are kept: every file once, under the SHA-256 of its content, and a manifest of each.

Facts and codecs only: clients use it without RocksDB.

repository  one repository: what it holds, and adding to it
manifest    one backup: every file with its size and SHA-256
bans        the list of bans each backup carries
objects     files on their way in and out
places      where it lies: ``local``, a directory; ``remote``, whatever fsspec knows by a URL
upkeep      looking through all of it, and pruning
"""
