"""`make run`: the whole gateway in the foreground, until Ctrl-C.

It starts a front end, a worker, a Redis unless `redis.url` names one, and the simulator unless
`upstream.base_url` or `[upstreams.NAME]` name a server. Nothing is restarted: if one process dies
the others are stopped, so that the person at the terminal notices.

Ctrl-C stops the front end first, so that its answers finish while worker, upstream and Redis still
run; then those. SIGTERM does the same, and gives the answers their full time.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import settings
from local.gateway import LocalGateway
from local.terminal import LocalError, say
from local.upstreams import choose
from runtime.command_line import new_parser
from runtime.tasks import first_of
from settings.client_access import client_access
from settings.loader import load


def main() -> None:
    """Read the settings and serve. The status is 0 after a signal, 1 after a failure."""
    parser = new_parser("local", __doc__)
    parser.add_argument(
        "--upstream",
        choices=["llama"],
        default="",
        help="start a llama.cpp server with a tiny random model, whatever [upstream] names",
    )
    arguments = parser.parse_args()
    try:
        config = load()
        client_access(config)  # the front end's own refusal would be one of its last words
    except settings.SettingsError as error:
        sys.exit(str(error))
    sys.exit(asyncio.run(run(LocalGateway(config, choose(config, arguments.upstream)))))


async def run(gateway: LocalGateway) -> int:
    """Serve until a signal arrives or something fails, and leave no process behind."""
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    hurry = True
    try:
        hurry = await first_of(signals.get(), gateway.serve()) is signal.SIGINT
        say("\nstopping; Ctrl-C again stops at once" if hurry else "\nstopping")
        return 0
    except LocalError as error:
        say(f"\n{error}")
        return 1
    finally:
        await first_of(signals.get(), gateway.stop(hurry))
        await gateway.kill()


if __name__ == "__main__":
    main()
