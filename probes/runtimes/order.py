"""The order path of a Python bot, timed phase by phase: what the probe `runtime` runs under CPython, uvloop and PyPy.

One tick, one order: parse the tick and apply it to the book, decide, sign, encode, write, read the answer, parse it.
Sends leave on an open-loop schedule over one warm connection; `slip` is how late one left, for whatever reason, so
slip + phases = response, exactly. `order.c` and `order.ts` do the same; the bytes on the wire differ in nothing but the
client order id, the timestamp and the signature.

Signing is what the ecosystem offers: the package `cryptography`; where it cannot be imported, libcrypto itself through
cffi (PyPy's own way to C) or ctypes. The line printed says which.

Prints one JSON object; times are ns of time.perf_counter_ns (CLOCK_MONOTONIC).
"""
import argparse
import asyncio
import base64
import json
import platform
import socket
import sys
import time

now = time.perf_counter_ns
PATH = "/trade-api/v2/portfolio/events/orders"
# The loop turns without sleeping for this long before a send: its timers have steps of a millisecond.
LEAD_NS = 2_000_000
TIMEOUT_S = 5
LEVELS = 10
CPU_BATCH = 200
CPU_BATCH_SIGN = 10


def cryptography_signer(pem):
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, padding
    import cryptography

    key = serialization.load_pem_private_key(pem, password=None)
    how = "cryptography " + cryptography.__version__
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign, how
    digest = hashes.SHA256()
    pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=32)
    return (lambda data: key.sign(data, pss, digest)), how


LIBCRYPTO = ("libcrypto.so.3", "libcrypto.so.1.1")
# EVP_PKEY_CTX_ctrl: commands and operation of <openssl/rsa.h> and <openssl/evp.h>
EVP_PKEY_CTRL_RSA_PADDING, EVP_PKEY_CTRL_RSA_PSS_SALTLEN = 0x1001, 0x1002
RSA_PKCS1_PSS_PADDING, EVP_PKEY_RSA = 6, 6


def libcrypto_signer(pem):
    """The same few functions through cffi or ctypes; both hide behind `lib`, `buffer` and `null`."""
    try:
        import cffi

        ffi = cffi.FFI()
        ffi.cdef(
            """
            void *BIO_new_mem_buf(const void *, int);
            void *PEM_read_bio_PrivateKey(void *, void *, void *, void *);
            int EVP_PKEY_get_base_id(const void *);
            void *EVP_MD_CTX_new(void);
            void EVP_MD_CTX_free(void *);
            const void *EVP_sha256(void);
            int EVP_DigestSignInit(void *, void **, const void *, void *, void *);
            int EVP_DigestSign(void *, unsigned char *, size_t *, const unsigned char *, size_t);
            int EVP_PKEY_CTX_ctrl(void *, int, int, int, int, void *);
            """
        )
        lib, how = open_first(ffi.dlopen), "libcrypto through cffi"
        null, sha256 = ffi.NULL, lib.EVP_sha256()
        key = lib.PEM_read_bio_PrivateKey(lib.BIO_new_mem_buf(pem, len(pem)), null, null, null)
        signature, length, pkey = ffi.new("unsigned char[1024]"), ffi.new("size_t *"), ffi.new("void **")
        take = lambda: bytes(ffi.buffer(signature, length[0]))

        def reset():
            length[0] = 1024

        context = lambda: pkey[0]
        length_at, pkey_at = length, pkey
    except ImportError:
        import ctypes

        lib, how = open_first(ctypes.CDLL), "libcrypto through ctypes"
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        for name in ("BIO_new_mem_buf", "PEM_read_bio_PrivateKey", "EVP_MD_CTX_new", "EVP_sha256"):
            getattr(lib, name).restype = pointer
        lib.BIO_new_mem_buf.argtypes = [ctypes.c_char_p, ctypes.c_int]
        lib.PEM_read_bio_PrivateKey.argtypes = [pointer] * 4
        lib.EVP_PKEY_get_base_id.argtypes = [pointer]
        lib.EVP_MD_CTX_free.argtypes = [pointer]
        lib.EVP_DigestSignInit.argtypes = [pointer] * 5
        lib.EVP_DigestSign.argtypes = [pointer, pointer, pointer, ctypes.c_char_p, size]
        lib.EVP_PKEY_CTX_ctrl.argtypes = [pointer] + [ctypes.c_int] * 4 + [pointer]
        null, sha256 = None, lib.EVP_sha256()
        key = lib.PEM_read_bio_PrivateKey(lib.BIO_new_mem_buf(pem, len(pem)), null, null, null)
        signature, length, pkey = ctypes.create_string_buffer(1024), size(), pointer()
        take = lambda: signature.raw[: length.value]

        def reset():
            length.value = 1024

        context = lambda: pkey.value
        length_at, pkey_at = ctypes.addressof(length), ctypes.addressof(pkey)
    if not key:
        raise ValueError("the key is not a PEM private key")
    rsa = lib.EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA

    def sign(data):
        ctx = lib.EVP_MD_CTX_new()
        ok = lib.EVP_DigestSignInit(ctx, pkey_at, sha256 if rsa else null, null, key)
        if rsa:
            lib.EVP_PKEY_CTX_ctrl(context(), -1, -1, EVP_PKEY_CTRL_RSA_PADDING, RSA_PKCS1_PSS_PADDING, null)
            lib.EVP_PKEY_CTX_ctrl(context(), -1, -1, EVP_PKEY_CTRL_RSA_PSS_SALTLEN, 32, null)
        reset()
        ok = ok and lib.EVP_DigestSign(ctx, signature, length_at, data, len(data))
        lib.EVP_MD_CTX_free(ctx)
        if ok != 1:
            raise ValueError("libcrypto cannot sign with this key")
        return take()

    return sign, how


def open_first(load):
    failed = None
    for name in LIBCRYPTO:
        try:
            return load(name)
        except OSError as error:
            failed = error
    raise failed


def create_signer(pem):
    try:
        signer, how = cryptography_signer(pem)
    except Exception:  # not installed, or built for another interpreter, which fails in many ways
        signer, how = libcrypto_signer(pem)
    signer(b"")
    return signer, how


class Book:
    def __init__(self):
        self.yes = [0.0] * 101
        self.no = [0.0] * 101

    def apply(self, line):
        delta = json.loads(line)["msg"]
        levels = self.yes if delta["side"] == "yes" else self.no
        cents = round(float(delta["price_dollars"]) * 100)
        levels[cents] = max(0.0, levels[cents] + float(delta["delta_fp"]))

    def decide(self):
        """The side with more contracts, weighted by distance, in its ten best levels."""
        weights = []
        for levels in (self.yes, self.no):
            weight, found = 0.0, 0
            for cents in range(99, 0, -1):
                contracts = levels[cents]
                if contracts > 0:
                    weight += contracts / (1 + found)
                    found += 1
                    if found == LEVELS:
                        break
            weights.append(weight)
        return "bid" if weights[0] >= weights[1] else "ask"


class Trader:
    def __init__(self, args, sign):
        self.args, self.sign = args, sign
        self.book = Book()
        self.head = (
            "POST %s HTTP/1.1\r\nhost: %s:%d\r\nuser-agent: tickscope\r\naccept: application/json\r\n"
            "content-type: application/json\r\nKALSHI-ACCESS-KEY: %s\r\nKALSHI-ACCESS-TIMESTAMP: "
            % (PATH, args.host, args.port, args.key_id)
        )

    def signed(self):
        timestamp = str(int(time.time() * 1000))
        signature = base64.b64encode(self.sign((timestamp + "POST" + PATH).encode())).decode()
        return timestamp, signature

    def encode(self, side, index, timestamp, signature):
        # Far from the market and immediate-or-cancel: nothing rests, nothing fills.
        body = json.dumps(
            {
                "ticker": self.args.ticker,
                "side": side,
                "count": "1.00",
                "price": "0.0100" if side == "bid" else "0.9900",
                "time_in_force": "immediate_or_cancel",
                "self_trade_prevention_type": "taker_at_cross",
                "client_order_id": "%s-%08d" % (self.args.prefix, index),
            },
            separators=(",", ":"),
        )
        return (
            "%s%s\r\nKALSHI-ACCESS-SIGNATURE: %s\r\ncontent-length: %d\r\n\r\n%s"
            % (self.head, timestamp, signature, len(body), body)
        ).encode()


async def exchange(reader, writer, request):
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    at = lower.index(b"content-length:") + 15
    body = await reader.readexactly(int(lower[at : lower.index(b"\r\n", at)]))
    return int(head[9:12]), body


async def wait_until(at_ns):
    while True:
        left = at_ns - now()
        if left <= 0:
            return
        await asyncio.sleep((left - LEAD_NS) / 1e9 if left > LEAD_NS else 0)


async def run(args, ticks, sign, how):
    trader = Trader(args, sign)
    reader, writer = await asyncio.open_connection(args.host, args.port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    samples = {name: [] for name in ("slip", "parse", "decide", "sign", "encode", "io", "answer")}
    sent = lost = 0
    reasons = {}
    begin = now() + 5_000_000
    for index in range(args.warm_up + args.count):
        measured = index - args.warm_up
        if measured == 0:
            begin = now() + 5_000_000
        intended = begin + round(measured * 1e9 / args.rate) if measured >= 0 else now()
        await wait_until(intended)
        t0 = now()
        trader.book.apply(ticks[index % len(ticks)])
        t1 = now()
        side = trader.book.decide()
        t2 = now()
        timestamp, signature = trader.signed()
        t3 = now()
        request = trader.encode(side, index, timestamp, signature)
        t4 = now()
        failed = None
        try:
            status, body = await asyncio.wait_for(exchange(reader, writer, request), TIMEOUT_S)
        except (asyncio.TimeoutError, OSError, EOFError, ValueError) as error:
            failed, status, body = type(error).__name__, 0, b""
        t5 = now()
        if failed is None:
            answer = json.loads(body)
            if status != 201:
                failed = "STATUS_%d" % status
            elif not answer.get("order_id"):
                failed = "NO_ORDER_ID"
        t6 = now()
        if measured < 0:
            if failed is not None:
                raise SystemExit("order.py: the venue answered %s to the first orders: %s" % (failed, body[:200]))
            continue
        sent += 1
        if failed is not None:
            lost += 1
            reasons[failed] = reasons.get(failed, 0) + 1
            if status == 0:
                break
            continue
        values = (t0 - intended, t1 - t0, t2 - t1, t3 - t2, t4 - t3, t5 - t4, t6 - t5)
        for name, value in zip(samples, values):
            samples[name].append(value)
    writer.close()
    return {
        "runtime": platform.python_implementation(),
        "version": sys.version.split()[0]
        + (" (PyPy %d.%d.%d)" % sys.pypy_version_info[:3] if hasattr(sys, "pypy_version_info") else ""),
        "loop": type(asyncio.get_running_loop()).__module__.split(".")[0],
        "signing": how,
        "clock": "time.perf_counter_ns (CLOCK_MONOTONIC)",
        "sent": sent,
        "lost": lost,
        "reasons": reasons,
        "samplesNs": samples,
        "cpuNs": cpu(trader, ticks, args.cpu_batches),
    }


def cpu(trader, ticks, batches):
    """The same work in a hot loop without a venue: ns an operation, one figure a batch; warmed up by as many batches."""

    def parse(i):
        trader.book.apply(ticks[i % len(ticks)])

    work = {
        "parse": (CPU_BATCH, parse),
        "decide": (CPU_BATCH, lambda i: trader.book.decide()),
        "encode": (CPU_BATCH, lambda i: trader.encode("bid", i, "1700000000000", "x" * 344)),
        "sign": (CPU_BATCH_SIGN, lambda i: trader.signed()),
    }
    figures = {}
    for name, (size, operation) in work.items():
        figures[name] = []
        for batch in range(2 * batches):
            started = now()
            for i in range(size):
                operation(i)
            if batch >= batches:
                figures[name].append(round((now() - started) / size))
    return figures


def main():
    parser = argparse.ArgumentParser()
    for name in ("--host", "--key-file", "--key-id", "--ticker", "--ticks", "--prefix"):
        parser.add_argument(name, required=True)
    for name in ("--port", "--count", "--warm-up", "--cpu-batches"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    args = parser.parse_args()
    with open(args.key_file, "rb") as file:
        sign, how = create_signer(file.read())
    with open(args.ticks) as file:
        ticks = file.read().splitlines()
    if args.loop == "uvloop":
        import uvloop

        uvloop.install()
    print(json.dumps(asyncio.run(run(args, ticks, sign, how))), flush=True)


main()
