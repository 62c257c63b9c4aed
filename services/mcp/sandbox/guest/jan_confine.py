"""The last step into the bubblewrap sandbox, taken inside it: limits, and no more system calls that start processes or
programs, open sockets, or reach into the kernel. None of it can be undone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
# Numbers of system calls (asm/unistd.h) in that order; None: there is no such call.
_DENIED = {
    "socket": (41, 198),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "prctl": (157, 167),  # could undo that a process ends with its parent
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "personality": (135, 92),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "open_by_handle_at": (304, 265),
    "shmget": (29, 194),  # memory that RLIMIT_AS does not count, as the next two
    "msgget": (68, 186),
    "memfd_create": (319, 279),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
}
_CLONE, _CLONE3, _CLONE_THREAD = (56, 220), 435, 0x10000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
_NUMBER, _ARCHITECTURE, _FLAGS = 0, 4, 16  # where in struct seccomp_data
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_PR_CAP_AMBIENT, _CLEAR_ALL, _CAPABILITIES = 47, 4, 0x20080522  # linux/capability.h, version 3
_REMOUNT, _NO_SUID, _NO_DEVICES = 32, 2, 4


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def confine(memory: int, file_size: int, files: int) -> None:
    """Hold this process to `memory` bytes, and to so many files of `file_size` bytes in each of its file systems.
    Raises OSError where the kernel cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    for path in (b"/work", b"/tmp", b"/dev/shm"):
        options = f"nr_inodes={files}".encode()  # empty files cost memory of the kernel, which no limit counts
        _require(libc.mount(b"tmpfs", path, None, _REMOUNT | _NO_SUID | _NO_DEVICES, options))
    _require(libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0))
    _require(libc.capset(struct.pack("<II", _CAPABILITIES, 0), bytes(24)))
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_NPROC, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    code = _filter(platform.machine())
    program = _Program(len(code) // 8, code)
    _require(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _require(libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(program)))


def _require(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _filter(machine: str) -> bytes:
    """The filter, as the kernel reads it (Documentation/userspace-api/seccomp_filter.rst)."""
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no filter for {machine}")
    column = list(_ARCHITECTURES).index(machine)
    refuse = _REFUSE | errno.EPERM
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, 0x40000000),  # the x32 calls of x86_64
        (_RETURN, 0, 0, refuse),
        (_EQUAL, 0, 1, _CLONE3),  # its flags cannot be seen; told that there is none, libc takes clone
        (_RETURN, 0, 0, _REFUSE | errno.ENOSYS),
    ]
    for number in (numbers[column] for numbers in _DENIED.values()):
        if number is not None:
            steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, refuse)]
    steps += [
        (_EQUAL, 0, 3, _CLONE[column]),
        (_LOAD, 0, 0, _FLAGS),
        (_ANY_BIT, 1, 0, _CLONE_THREAD),
        (_RETURN, 0, 0, refuse),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)
