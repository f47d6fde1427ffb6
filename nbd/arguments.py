"""What a user may add to nbdkit's command line, and what that means for who may connect.

Options are read as nbdkit reads them, shortened ones too: one that is not understood might open the
server to others, and is refused.
"""

from __future__ import annotations

import dataclasses
import getopt
import ipaddress
from typing import TYPE_CHECKING

from .errors import ArgumentsError

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOPBACK = "127.0.0.1"

_SHORT = "46D:e:fg:i:noP:p:rst:U:u:vV"
_LONG = (
    "debug=", "dump-config", "dump-plugin", "exit-with-parent", "export=", "export-name=",
    "exportname=", "filter=", "foreground", "group=", "help", "ip-addr=", "ipaddr=", "ipv4-only",
    "ipv6-only", "log=", "long-options", "mask-handshake=", "new-style", "newstyle", "no-fork",
    "no-mc", "no-meta-contexts", "no-sr", "no-structured-replies", "old-style", "oldstyle",
    "pid-file=", "pidfile=", "port=", "print-uri", "read-only", "readonly", "run=",
    "selinux-label=", "short-options", "single", "stdin", "swap", "threads=", "timeout=", "tls=",
    "tls-certificates=", "tls-psk=", "tls-verify-peer", "unix=", "user=", "verbose", "version",
    "vsock",
)  # fmt: skip
"""Those of nbdkit 1.32 and of later ones. Source: its options.h."""

_ADDRESS = frozenset({"-i", "--ip-addr", "--ipaddr"})
_PASSED = _ADDRESS | {
    "-4", "--ipv4-only", "-6", "--ipv6-only", "-D", "--debug", "--filter", "-g", "--group", "--log",
    "--mask-handshake", "-n", "--new-style", "--newstyle", "--no-mc", "--no-meta-contexts",
    "--no-sr", "--no-structured-replies", "-P", "--pid-file", "--pidfile", "-r", "--read-only",
    "--readonly", "--selinux-label", "--swap", "-t", "--threads", "--timeout", "--tls",
    "--tls-certificates", "--tls-psk", "--tls-verify-peer", "-u", "--user", "-v", "--verbose",
}  # fmt: skip
_INSTEAD = {
    "-p": "--port N before the `--`", "--port": "--port N before the `--`",
    "-U": "--socket PATH before the `--`", "--unix": "--socket PATH before the `--`",
}  # fmt: skip

_STATELESS = frozenset({
    "delay", "error", "exitlast", "exitwhen", "ip", "limit", "log", "nocache", "noextents",
    "noparallel", "pause", "rate", "retry-request", "stats",
})  # fmt: skip
"""Filters that keep no bytes of an export: all others take two exports for one."""


@dataclasses.dataclass(frozen=True, slots=True)
class NbdkitArguments:
    """What a user has added.

    Attributes:
        options: as nbdkit takes them before the plugin.
        parameters: ``key=value``, as filters take them behind it.
        address: where it listens, if that was said.
        requires_tls: whether nobody connects without TLS.
        knows_clients: whether only those connect who have a key, or a certificate.
        has_threads: whether the number of threads was said.
        keeping_filters: those that keep bytes of what they are put upon.
    """

    options: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    address: str | None = None
    requires_tls: bool = False
    knows_clients: bool = False
    has_threads: bool = False
    keeping_filters: tuple[str, ...] = ()


def parse(arguments: Sequence[str]) -> NbdkitArguments:
    """Return what arguments mean.

    Raises:
        ArgumentsError: nbdkit does not know one, or it is not one to pass on.
    """
    try:
        found, parameters = getopt.gnu_getopt(list(arguments), _SHORT, list(_LONG))
    except getopt.GetoptError as error:
        raise ArgumentsError(f"{error}: no option of nbdkit that can be passed on") from error
    options: list[str] = []
    said: dict[str, str] = {}
    filters = []
    for name, value in found:
        if name not in _PASSED:
            instead = f": use {_INSTEAD[name]}" if name in _INSTEAD else ""
            raise ArgumentsError(f"{name}: cannot be passed on{instead}")
        takes_value = f"{name[2:]}=" in _LONG or f"{name[1:]}:" in _SHORT
        if not takes_value:
            options.append(name)
        else:
            options.extend((f"{name}={value}",) if name.startswith("--") else (name, value))
        if name == "--filter":
            filters.append(value)
        said["-i" if name in _ADDRESS else name] = value
    for each in parameters:
        if "=" not in each or each.startswith("script="):
            raise ArgumentsError(
                f"{each}: options of nbdkit, or key=value for its filters, go here"
            )
    requires_tls = said.get("--tls") == "require"
    return NbdkitArguments(
        options=tuple(options),
        parameters=tuple(parameters),
        address=said.get("-i"),
        requires_tls=requires_tls,
        knows_clients=requires_tls and ("--tls-psk" in said or "--tls-verify-peer" in said),
        has_threads="-t" in said or "--threads" in said,
        keeping_filters=tuple(each for each in filters if each not in _STATELESS),
    )


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can connect to an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        # A name, that of the machine itself among them, may lead anywhere.
        return address == "localhost"
