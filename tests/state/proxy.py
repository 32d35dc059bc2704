"""A Unix socket in front of a redis-server whose replies suffer: cut or swallowed from a random byte of each
connection on, so that every place in a reply is met, or delayed."""
import asyncio
import random
import threading

REACH = 3000                         # bytes of replies within which a connection meets its fault


class Proxy:
    """`fault`: cut (the connection ends at the byte), swallow (silence from there on), delay (each piece of a
    reply by up to 50 ms), or "" (none from now on). The first `spare` bytes, which greet, are left alone on most
    connections."""

    def __init__(self, path: str, target: str, fault: str, rng: random.Random, spare: int = 700) -> None:
        self.path, self.target, self.fault, self.rng, self.spare = path, target, fault, rng, spare
        self.count = 0                           # faults that happened
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self.ready.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_unix_server(self._serve, self.path))
        self.ready.set()
        self.loop.run_forever()
        server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def _suffer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self.rng.randrange(REACH) + (self.spare if self.rng.random() < 0.8 else 0)
        while data := await reader.read(65536):
            if self.fault == "delay":
                self.count += 1
                await asyncio.sleep(self.rng.random() * 0.05)
            elif self.fault and len(data) > left:
                self.count += 1
                writer.write(data[:left])
                await writer.drain()
                if self.fault == "swallow":
                    await reader.read(-1)        # until somebody gives up
                return
            left = max(0, left - len(data))
            writer.write(data)
            await writer.drain()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(self.target)
        except OSError:
            writer.close()
            return
        both = {asyncio.ensure_future(self._pass_on(reader, up_writer)),
                asyncio.ensure_future(self._suffer(up_reader, writer))}
        _, left = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        for end in (writer, up_writer):
            end.close()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
