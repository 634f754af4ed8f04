"""qwb-serve under load: many connections that say nothing or little, streams whose clients vanish, and how soon /health answers.

usage: serve_load.py QWB_SERVE MODEL [--seconds 60] [--idle 200] [--streams 64] [--seed 1]
Starts the server. Idle connections are silent, send a head byte by byte, or wait behind an answered request. Streams ask for one
of eight prompts; every fourth client vanishes at random in the middle. Tells the times of /health (asked 20 times a second, each
on a new connection), the answers that came whole and whether each has the text that it has alone, and the server's RSS, in the
second fifth and at the end. The exit code is 1 if /health took more than 50 ms, an answer differed or failed, or RSS grew by more
than 2 %.
"""
import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time

PROMPTS = [f"The history of the {word}" for word in
           ("city", "river", "king", "war", "island", "church", "school", "road")]


def post(body):
    data = json.dumps(body).encode()
    return (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(data)) + data


def body_of(prompt):
    return {"prompt": prompt, "max_tokens": 32, "temperature": 0, "ignore_eos": True, "stream": True}


class Load:
    def __init__(self, port, pid, random_):
        self.port, self.pid, self.random = port, pid, random_
        self.health, self.rss = [], []
        self.whole = self.left = self.differed = self.failed = 0
        self.alone = {}

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer(self, prompt, leave=None):
        """The text, or None if this client left after so many bytes."""
        reader, writer = await self.connect()
        try:
            writer.write(post(body_of(prompt)))
            data = b""
            while chunk := await reader.read(4096):
                data += chunk
                if leave is not None and len(data) > leave:
                    return None
        finally:
            writer.close()
        if not data.startswith(b"HTTP/1.1 200") or b"[DONE]" not in data:
            raise RuntimeError(data[:200])
        events = re.findall(rb"^data: (\{.*\})", data, re.M)
        return "".join(json.loads(event)["choices"][0]["text"] for event in events)

    async def stream(self):
        while True:
            prompt = self.random.choice(PROMPTS)
            leave = self.random.randrange(8000) if self.random.random() < 0.25 else None
            try:
                text = await self.answer(prompt, leave)
            except (OSError, RuntimeError) as error:
                self.failed += 1
                print("failed:", error)
                continue
            if text is None:
                self.left += 1
            else:
                self.whole += 1
                self.differed += text != self.alone[prompt]

    async def idle(self, kind):
        """Opens the connection again whenever the server has had enough of it."""
        head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"a" * 4000
        while True:
            reader, writer = await self.connect()
            try:
                if kind == 2:
                    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    await reader.readuntil(b"}")
                for byte in head if kind == 1 else b"":
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.2)
                    if reader.at_eof():
                        break
                await reader.read()
            except OSError:
                pass
            finally:
                writer.close()

    async def watch(self):
        while True:
            begin = time.monotonic()
            reader, writer = await self.connect()
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            data = await reader.read()
            self.health.append(time.monotonic() - begin)
            writer.close()
            assert data.startswith(b"HTTP/1.1 200"), data
            with open(f"/proc/{self.pid}/status") as status:
                self.rss.append(int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1000)
            await asyncio.sleep(0.05)

    async def run(self, a):
        for prompt in PROMPTS:
            self.alone[prompt] = await self.answer(prompt)
        tasks = [asyncio.create_task(self.watch())]
        tasks += [asyncio.create_task(self.idle(i % 3)) for i in range(a.idle)]
        tasks += [asyncio.create_task(self.stream()) for _ in range(a.streams)]
        done, _ = await asyncio.wait(tasks, timeout=a.seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            task.cancel()
        for task in done:
            task.result()


def median(values):
    return sorted(values)[len(values) // 2]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--idle", type=int, default=200)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    server = subprocess.Popen([a.program, a.model, "--port", "0", "--json", "-q", "--no-energy", "--slots", "16", "--queue", "64"],
                              stdout=subprocess.PIPE, text=True)
    try:
        load = Load(json.loads(server.stdout.readline())["port"], server.pid, random.Random(a.seed))
        asyncio.run(load.run(a))
    finally:
        server.terminate()
        server.wait()
    times, fifth = sorted(load.health), len(load.rss) // 5
    before, after = median(load.rss[fifth:2 * fifth]), median(load.rss[-fifth:])
    print(f"/health: {len(times)} times, median {1000 * median(times):.1f} ms, "
          f"99 % within {1000 * times[int(0.99 * len(times))]:.1f} ms, most {1000 * times[-1]:.1f} ms")
    print(f"streams: {load.whole} whole, {load.differed} of them differ from the answer alone, {load.left} left, {load.failed} failed")
    print(f"RSS: {before:.1f} MB, then {after:.1f} MB ({100 * (after / before - 1):+.1f} %)")
    sound = times[-1] <= 0.05 and not load.differed and not load.failed and after <= 1.02 * before
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
