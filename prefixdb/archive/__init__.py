"""What leaves a server and comes back: the format of archives, text formats, and repositories of backups.

Facts and codecs only: clients use it without RocksDB.
"""
