#!/usr/bin/env python3
"""A node of the reference OpenDHT (Python wheel `opendht`) for tests, driven by lines of JSON.

    dht_peer.py PORT [HOST:PORT to bootstrap from]

Every line of stdin is a request {"n": number, "do": what, ...}, every line of stdout an answer
{"n": number, ...} or an event of a listen {"listen": number, ...}. Bytes are hexadecimal.

    put        key data [type] [id]            plain value
    put_signed key data
    put_encrypted key data to                  `to`: the long id, 64 digits
    get        key                             all values
    listen     key
    type       type seconds                    how long values of a type live here, from now on
    stored     key                             how many values this node itself stores
    quit

Answers of puts and gets say how long they took, in microseconds.
"""
import datetime
import json
import re
import sys
import threading
import time

try:
    import opendht as dht
except ImportError as e:  # the test skips, and says why
    print(json.dumps({"missing": str(e)}), flush=True)
    sys.exit(0)

lock = threading.Lock()


def say(**what):
    with lock:
        print(json.dumps(what), flush=True)


def show(v):
    # Ids are 64 bits: as text they survive every JSON reader.
    owner = v.owner
    out = {"id": str(v.id), "data": bytes(v.data).hex(), "user_type": str(v.user_type or "")}
    if owner is not None:
        try:
            out["owner"] = str(owner.getId())
        except Exception:
            out["owner"] = None
    try:
        out["to"] = str(v.recipient)
    except Exception:
        pass
    return out


def main():
    port = int(sys.argv[1])
    identity = dht.Identity.generate("reference", bits=2048)
    config = dht.DhtConfig()
    config.setIdentity(identity)
    # A test's traffic comes from one address.
    config.setRateLimit(-1, -1)
    node = dht.DhtRunner()
    node.run(port=port, config=config)
    if len(sys.argv) > 2:
        host, service = sys.argv[2].rsplit(":", 1)
        node.bootstrap(host, service)
    say(
        ready=str(node.getNodeId()),
        id=str(node.getId()),
        long_id=str(identity.publickey.getLongId()),
    )
    tokens = []
    for line in sys.stdin:
        r = json.loads(line)
        n, what = r["n"], r["do"]
        if what == "quit":
            break
        key = dht.InfoHash(r.get("key", "").encode())
        start = time.perf_counter()

        def took(start=start):
            return round((time.perf_counter() - start) * 1e6)

        def done(ok, nodes, n=n, took=took):
            say(n=n, ok=bool(ok), nodes=len(nodes), took=took())

        if what.startswith("put"):
            value = dht.Value(bytes.fromhex(r["data"]))
            if "user_type" in r:
                value.user_type = r["user_type"]
            if what == "put":
                node.put(key, value, done)
            elif what == "put_signed":
                node.putSigned(key, value, done)
            else:
                node.putEncrypted(key, value, dht.PkId(r["to"].encode()), done)
        elif what == "get":
            found = []

            def got(v, found=found):
                found.append(show(v))
                return True

            def over(ok, nodes, n=n, found=found, took=took):
                say(n=n, ok=bool(ok), values=found, took=took())

            node.get(key, got, over)
        elif what == "listen":

            def heard(v, expired, n=n):
                say(listen=n, expired=bool(expired), value=show(v))
                return True

            tokens.append(node.listen(key, heard))
            say(n=n, ok=True)
        elif what == "type":
            life = datetime.timedelta(seconds=r["seconds"])
            node.registerType(dht.ValueType(r["type"], "of a test", life))
            say(n=n, ok=True)
        elif what == "stored":
            found = re.search(rf"Storage {key} .*?(\d+) values", node.getStorageLog())
            say(n=n, values=int(found[1]) if found else 0)
        else:
            say(n=n, error="unknown request")
    node.shutdown()
    node.join()


main()
