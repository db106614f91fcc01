"""UnixFS as Kubo's `ipfs add` makes it under given options, for options that the library cannot be told.

Plain files and flat directories; sharded directories are left to Kubo itself.
"""

import base64
import hashlib
import os
from dataclasses import dataclass

RAW, DAG_PB = 0x55, 0x70
DIRECTORY, FILE = 1, 2
SHA2_256 = b"\x12\x20"


@dataclass(frozen=True)
class Profile:
    """Raw leaves of `chunk` bytes, nodes of `width` links, CIDs of version 1."""

    chunk: int
    width: int


PROFILES = {
    "unixfs-v1-2025": Profile(chunk=1 << 20, width=1024),
    "kubo-v1-raw": Profile(chunk=256 << 10, width=174),
}

# Above this size Kubo makes shards, which is not done here.
FLAT_DIRECTORY_BYTES = 256 << 10


@dataclass(frozen=True)
class Node:
    cid: bytes
    content: int
    """Bytes of the file."""
    blocks: int
    """Bytes of all blocks."""


class Builder:
    def __init__(self, profile, put, part=None, leaves=True):
        """`put(name, block)` keeps a block; the name is its multihash in base32. `part`, `leaves`: see `keep`."""
        self.profile = profile
        self.put = put
        self.index, self.of = part or (0, 1)
        self.leaves = leaves

    def add(self, path):
        """The CID, as text, of a file or of a folder with all that is in it."""
        return "b" + base32(self.tree(path).cid).lower()

    def tree(self, path):
        if not os.path.isdir(path):
            return self.file(path)
        # Links are sorted by the bytes of their names.
        names = sorted(os.listdir(path), key=str.encode)
        entries = [(name.encode(), self.tree(os.path.join(path, name))) for name in names]
        if sum(len(name) + len(node.cid) for name, node in entries) > FLAT_DIRECTORY_BYTES:
            raise ValueError(f"{path} is large enough for shards: add it with another profile")
        return self.node(entries, number(1, DIRECTORY))

    def file(self, path):
        level = []
        with open(path, "rb") as source:
            while chunk := source.read(self.profile.chunk):
                level.append(self.leaf(chunk))
        level = level or [self.leaf(b"")]
        while len(level) > 1:
            groups = (level[at : at + self.profile.width] for at in range(0, len(level), self.profile.width))
            level = [self.join(group) for group in groups]
        return level[0]

    def leaf(self, chunk):
        return Node(self.keep(RAW, chunk), len(chunk), len(chunk))

    def join(self, nodes):
        size = sum(node.content for node in nodes)
        sizes = b"".join(number(4, node.content) for node in nodes)
        return self.node([(b"", node) for node in nodes], number(1, FILE) + number(3, size) + sizes)

    def node(self, links, data):
        encoded = [
            field(2, field(1, node.cid) + field(2, name) + number(3, node.blocks)) for name, node in links
        ]
        # The specification puts the links before the data.
        block = b"".join(encoded) + field(1, data)
        content = sum(node.content for _, node in links)
        return Node(self.keep(DAG_PB, block), content, len(block) + sum(node.blocks for _, node in links))

    def keep(self, codec, block):
        multihash = SHA2_256 + hashlib.sha256(block).digest()
        # A file can be spread over several peers: the hash says which of them has a block.
        if multihash[-1] % self.of == self.index and (self.leaves or codec != RAW):
            self.put(base32(multihash), block)
        return bytes([1, codec]) + multihash


def base32(data):
    return base64.b32encode(data).decode().rstrip("=")


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(index, data):
    return varint(index << 3 | 2) + varint(len(data)) + data


def number(index, value):
    return varint(index << 3) + varint(value)
