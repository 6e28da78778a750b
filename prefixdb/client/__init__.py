"""The Python client: ``aio`` is the source, ``sync`` is generated from it.

    encoding, models      callers' types ↔ messages, pure
    options, profiles     what a client can be told, and where that is kept
    credentials           tokens and passwords from files; never shown
    logins, login_file    what to do next with a login, pure; the file that processes share it by
    methods, channel      the rpcs, retry policy and channel settings
    failures              gRPC's errors become ours
    aio/, sync/           connection, access (which token a call carries), login and keeping (its renewal), key-value
                          calls, scans, batches, transactions, pipelines, guardians' calls

It imports the facts, ``v1`` and ``rpcstatus`` only, so that it works without the server's packages.
"""
