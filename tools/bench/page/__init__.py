"""``make bench``: prefixdb beside etcd, redis, RocksDB and a bare HTTP/2 server, in one run on one machine.

keys          rows, their order of being asked for, and the file the load generators replay
samples       what one run measured, and medians and ratios of several
meters        processor time and memory of a process; facts of the machine
etcd_proto    etcd's messages, as far as they are needed
calls         a prepared gRPC call, proven by an ordinary one
generators    the load generators: our own for gRPC, h2load, redis-benchmark, RocksDB alone
servers       start and stop what is measured
side_*        one server each: its rows, and its answer to every operation
python_client the load that one Python program makes, whatever the client
operations    what is compared, and the targets
measure       rounds: every side in turn, again and again
report, chart Markdown, JSON and the picture
memory, mixed, session_check, profile    other questions than "how fast"
"""
