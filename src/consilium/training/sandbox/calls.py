"""System calls that training needs, with their numbers on x86_64 and aarch64 (-: none). All others are refused.

What is not here, and why: sockets, so that nothing leaves the process but files and its answers · new processes and
programs · other processes' memory, signals, limits and priorities · owners, modes and times of files, which Landlock
does not judge · links and special files · mounts, namespaces, keys, io_uring, eBPF, clocks, modules, and what is newer
than this list. Calls in `seccomp.ARGUMENTS` are allowed with some arguments only.
"""

_TABLE = """
# open files
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, preadv 295 69, pwritev 296 70,
preadv2 327 286, pwritev2 328 287, lseek 8 62, close 3 57, close_range 436 436, dup 32 23, dup2 33 -, dup3 292 24,
pipe 22 -, pipe2 293 59, flock 73 32, fsync 74 82, fdatasync 75 83, ftruncate 77 46, fallocate 285 47,
fadvise64 221 223, sync_file_range 277 84, readahead 187 213, sendfile 40 71, copy_file_range 326 285, splice 275 76,
poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -, epoll_create1 291 20, epoll_ctl 233 21,
epoll_wait 232 -, epoll_pwait 281 22, eventfd2 290 19, fcntl 72 25, ioctl 16 29,
# paths, which Landlock judges
open 2 -, openat 257 56, openat2 437 437, creat 85 -, stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79,
statx 332 291, statfs 137 43, fstatfs 138 44, access 21 -, faccessat 269 48, faccessat2 439 439, getdents 78 -,
getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50, readlink 89 -, readlinkat 267 78, mkdir 83 -,
mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -, renameat 264 38, renameat2 316 276, umask 95 166,
# memory
mmap 9 222, munmap 11 215, mprotect 10 226, mremap 25 216, madvise 28 233, brk 12 214, msync 26 227, mincore 27 232,
mlock 149 228, mlock2 325 284, munlock 150 229, membarrier 324 283, mbind 237 235, get_mempolicy 239 236,
set_mempolicy 238 237, memfd_create 319 279, pkey_alloc 330 289, pkey_free 331 290, pkey_mprotect 329 288,
# threads
clone 56 220, futex 202 98, futex_waitv 449 449, set_robust_list 273 99, rseq 334 293,
set_tid_address 218 96, gettid 186 178, exit 60 93, exit_group 231 94, sched_yield 24 124, sched_getaffinity 204 123,
sched_getparam 143 121, sched_getscheduler 145 120, sched_get_priority_max 146 125, sched_get_priority_min 147 126,
arch_prctl 158 -, prctl 157 167, wait4 61 260, waitid 247 95, restart_syscall 219 128,
# signals
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136, rt_sigtimedwait 128 137,
rt_sigsuspend 130 133, sigaltstack 131 132, pause 34 -, signalfd4 289 74, kill 62 129, tgkill 234 131,
# time
clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, nanosleep 35 101, gettimeofday 96 169, time 201 -,
times 100 153, getitimer 36 102, setitimer 38 103, alarm 37 -, timerfd_create 283 85, timerfd_settime 286 86,
timerfd_gettime 287 87,
# facts
getpid 39 172, getppid 110 173, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177, getresuid 118 148,
getresgid 120 150, getgroups 115 158, getpgid 121 155, getpgrp 111 -, getsid 124 156, uname 63 160, sysinfo 99 179,
getrlimit 97 163, prlimit64 302 261, getrusage 98 165, getpriority 140 141, getcpu 309 168, getrandom 318 278,
capget 125 90
"""
ARCHITECTURES = ("x86_64", "aarch64")


def numbers(machine: str) -> dict[str, int]:
    """The allowed calls by name, with their numbers on `machine`, one of `ARCHITECTURES`."""
    column = 1 + ARCHITECTURES.index(machine)
    lines = [line for line in _TABLE.splitlines() if not line.startswith("#")]
    rows = [row.split() for row in " ".join(lines).split(",")]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
