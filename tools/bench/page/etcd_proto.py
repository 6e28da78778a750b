"""etcd's messages as far as a benchmark needs them, made from a table when the program starts.

Names and numbers are those of etcd's public ``rpc.proto`` and ``kv.proto``. They are real protobuf classes, so a Python
client of etcd pays for them what it would pay for generated ones.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "etcdserverpb"
_TYPES = {
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "uint64": descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
}

# message -> fields, each "type name number", with "*" after the type of a repeated one.
_MESSAGES = {
    "ResponseHeader": ["uint64 cluster_id 1", "uint64 member_id 2", "int64 revision 3", "uint64 raft_term 4"],
    "KeyValue": [
        "bytes key 1", "int64 create_revision 2", "int64 mod_revision 3", "int64 version 4", "bytes value 5",
        "int64 lease 6",
    ],
    "RangeRequest": [
        "bytes key 1", "bytes range_end 2", "int64 limit 3", "int64 revision 4", "bool serializable 7",
        "bool keys_only 8", "bool count_only 9",
    ],
    "RangeResponse": ["ResponseHeader header 1", "KeyValue* kvs 2", "bool more 3", "int64 count 4"],
    "PutRequest": ["bytes key 1", "bytes value 2", "int64 lease 3"],
    "PutResponse": ["ResponseHeader header 1", "KeyValue prev_kv 2"],
    "RequestOp": ["RangeRequest request_range 1", "PutRequest request_put 2"],
    "ResponseOp": ["RangeResponse response_range 1", "PutResponse response_put 2"],
    "TxnRequest": ["RequestOp* success 2", "RequestOp* failure 3"],
    "TxnResponse": ["ResponseHeader header 1", "bool succeeded 2", "ResponseOp* responses 3"],
}  # fmt: skip


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="bench/etcd.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in fields:
            kind, field_name, number = text.split()
            field = message.field.add(name=field_name, number=int(number))
            repeated = kind.endswith("*")
            field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            kind = kind.removesuffix("*")
            if kind in _TYPES:
                field.type = _TYPES[kind]
            else:
                field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _build()
RangeRequest, RangeResponse = _CLASSES["RangeRequest"], _CLASSES["RangeResponse"]
PutRequest, PutResponse = _CLASSES["PutRequest"], _CLASSES["PutResponse"]
RequestOp = _CLASSES["RequestOp"]
TxnRequest, TxnResponse = _CLASSES["TxnRequest"], _CLASSES["TxnResponse"]
